// SPDX-License-Identifier: MIT
/// What the data-free objectives share: noise, the student's signal, the teacher's clean signal, and their buffers.
#pragma once

#include <boot/core/random.hpp>
#include <boot/device/recording.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/kernel/op/signal_ode.hpp>
#include <boot/model/student.hpp>
#include <boot/model/teacher.hpp>
#include <boot/objective/objective.hpp>
#include <boot/tensor/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace boot::inline v0 {

/// The step that makes a target.
enum class target_solver {
  euler,  ///< one teacher call: the DDIM step
  heun    ///< two teacher calls, error one order smaller
};

/// Limits on the clean signal in pixel space; latents have none.
struct clean_signal_limits {
  double low = -std::numeric_limits<double>::infinity();  ///< smallest value
  double high = std::numeric_limits<double>::infinity();  ///< largest value
};

namespace detail {

template <class S>
struct student_device {
  static_assert(sizeof(S) == 0,
                "boot: a Student needs `m.parameters()` returning boot::parameter_arena<T, D>&. See the contract in "
                "boot/model/student.hpp");
  using type = void;
};
template <class S>
requires requires(S& s) { s.parameters().values(); }
struct student_device<S> {
  using type = typename decltype(std::declval<S&>().parameters().values())::device_type;
};

}  // namespace detail

/// A teacher's raw outputs at given points and the rows that turn them into the clean signal.
/// With a GuidedTeacher both outputs of guidance are kept, so that the loss kernel combines them in its own pass.
template <class Teacher, class Condition, class T, class D>
class teacher_call {
 public:
  static constexpr bool guided = GuidedTeacher<Teacher, D, Condition, T>;  ///< two outputs per call

  /// Calls the teacher on x.
  void operator()(const D& dev, const Teacher& teacher, view<const T, D> x, const times<D, T>& t, const Condition& c) {
    conditional_ = out_c_.get(dev, x.extents());
    if constexpr (guided) {
      unconditional_ = out_n_.get(dev, x.extents());
    } else {
      unconditional_ = conditional_;
    }
    const auto call = [&] {
      if constexpr (guided) {
        teacher.predict_pair(dev, x, t, c, conditional_, unconditional_);
      } else {
        teacher.predict(dev, x, t, c, conditional_);
      }
    };
    if (capturable(teacher)) {
      call();
    } else {
      detail::uncaptured_part(call);
    }
  }
  /// w of sample i; without guidance it does not matter.
  static double guidance(const Teacher& teacher, const Condition& c, std::int64_t i) {
    if constexpr (guided) {
      return static_cast<double>(teacher.guidance(c, i));
    } else {
      return 0;
    }
  }
  /// Output with the condition.
  [[nodiscard]] const T* conditional() const noexcept { return conditional_.data(); }
  /// Output without it, or the same where there is no guidance.
  [[nodiscard]] const T* unconditional() const noexcept { return unconditional_.data(); }

 private:
  workspace<T, D> out_c_, out_n_;
  view<T, D> conditional_, unconditional_;
};

/// Which samples of a batch carry the boundary loss: a share of them, spread evenly, and a function of the sample's
/// number alone, so that a batch may be cut into parts at will.
class boundary_samples {
 public:
  /// No boundary samples.
  boundary_samples() = default;
  /// `fraction` of every batch, in [0, 1]; none where the loss's weight is 0. Throws boot::error otherwise.
  boundary_samples(const char* objective, double weight, double fraction) : fraction_(weight > 0 ? fraction : 0) {
    require(weight >= 0, "boot: {} boundary_weight = {}; needs a factor >= 0, 0.5 is the default", objective, weight);
    require(fraction >= 0 && fraction <= 1,
            "boot: {} boundary_fraction = {}; needs a share of the batch in [0, 1], 0.25 is the default", objective,
            fraction);
  }

  /// The share.
  [[nodiscard]] double fraction() const noexcept { return fraction_; }
  /// Boundary samples among the first `n` of a batch.
  [[nodiscard]] std::int64_t before(std::int64_t n) const noexcept {
    return static_cast<std::int64_t>(std::floor(static_cast<double>(n) * fraction_ + 1e-9));
  }
  /// Whether the sample with this number is one.
  [[nodiscard]] bool contains(std::int64_t sample) const noexcept { return before(sample + 1) > before(sample); }
  /// Writes the numbers of the request's samples, boundary samples behind the others; returns how many those others
  /// are.
  std::int64_t lay_out(const batch_request& r, std::vector<std::int64_t>& samples) const {
    samples.clear();
    std::int64_t inner = 0;
    for (const bool wanted : {false, true}) {
      for (std::int64_t i = r.first; i < r.first + r.count; ++i)
        if (contains(i) == wanted) samples.push_back(i);
      if (!wanted) inner = static_cast<std::int64_t>(samples.size());
    }
    return inner;
  }

 private:
  double fraction_ = 0;
};

/// The map y = a x + b out of a student that starts at x = sigma_T eps: a and b are those of t_max, whatever its target
/// time. Throws boot::error for an epsilon student where alpha(t_max) = 0.
template <NoiseSchedule S>
[[nodiscard]] affine_coefficients student_signal(const prediction& p, const S& schedule) {
  const double t = schedule.t_max();
  require(p.kind != prediction_kind::epsilon || schedule.alpha(t) > 0,
          "boot: the student predicts epsilon, but alpha = 0 at t_max = {}, where its output says nothing about the "
          "clean signal; give it prediction_kind::v or sample, or a schedule that ends before alpha = 0",
          t);
  return clean_signal_at(p, schedule, t);
}

/// The schedule, after validate_schedule().
template <class S>
[[nodiscard]] S checked_schedule(S schedule) {
  validate_schedule(schedule);
  return schedule;
}

/// What a user should know before training such a student, one sentence each; empty when there is nothing to say.
template <NoiseSchedule S>
[[nodiscard]] std::vector<std::string> student_warnings(const prediction& p, const S& schedule) {
  std::vector<std::string> all;
  const double ratio = noise_to_signal(schedule, schedule.t_max());
  if (p.kind == prediction_kind::epsilon && ratio > 50)
    all.push_back(fmt::format(
        "the student predicts epsilon and sigma/alpha is {:.4g} at t_max: errors of its output are multiplied by that "
        "number, above 50 training suffers; give it prediction_kind::v or sample",
        ratio));
  return all;
}

/// Throws boot::error unless teacher and student work on samples of one shape and the clip limits are not empty.
template <class Teacher, class Student>
void check_pair(const Teacher& teacher, const Student& student, const clean_signal_limits& limits) {
  require(limits.low < limits.high,
          "boot: clean signal limits [{}, {}] are empty; needs low < high, -1 and 1 for pixels say", limits.low,
          limits.high);
  require(teacher.sample_shape() == student.sample_shape(),
          "boot: the teacher's samples have shape {}, the student's {}; they must be equal, build the student for "
          "the teacher's",
          to_string(teacher.sample_shape()), to_string(student.sample_shape()));
}

/// A student called from noise: it reads x_T = sigma_T eps, and what it says is turned into y = a x_T + b out.
template <class Student, class T, class D>
class student_call {
 public:
  /// Throws boot::error for an epsilon student where alpha(t_max) = 0.
  template <NoiseSchedule S>
  student_call(Student& student, const S& schedule)
      : student_(&student),
        map_(student_signal(student.prediction(), schedule)),
        t_max_(schedule.t_max()),
        sigma_max_(schedule.sigma(t_max_)) {}

  /// dy/d out, the same for all samples.
  [[nodiscard]] double slope() const noexcept { return map_.b; }
  /// Makes the starts of all trajectories from their noise; the calls below are about those.
  view<const T, D> begin(const D& dev, view<const T, D> eps) {
    const view<T, D> start = start_memory_.get(dev, eps.extents());
    for_each_element<T>(dev, start_op<T>{}, start_rows_.upload(dev, {0, static_cast<T>(sigma_max_)}, eps.batch()),
                        eps.batch(), eps.sample_size(), inputs<T>(eps.data()), outputs<T>(start.data()));
    const affine_row<T> map{static_cast<T>(map_.a), static_cast<T>(map_.b), 0, 0, 0};
    map_row_ = map_rows_.upload(dev, map, eps.batch());
    start_ = start;
    return start_;
  }
  /// y of the first samples at their target times, without a tape.
  template <class Condition>
  void predict(const D& dev, std::span<const double> targets, const Condition& condition, view<T, D> y) {
    student_->predict(dev, start_.rows(0, y.batch()), source_times_.set(dev, *student_, t_max_, y.batch()),
                      target_times_.set(dev, *student_, targets), condition, y);
    to_signal(dev, y.data(), y);
  }
  /// y of all samples at their target times, and the tape that leads to it. Its gradient is dL/dy slope().
  template <class Condition>
  [[nodiscard]] auto record(const D& dev, std::span<const double> targets, const Condition& condition, view<T, D> y) {
    auto tape = student_->record(dev, start_, source_times_.set(dev, *student_, t_max_, y.batch()),
                                 target_times_.set(dev, *student_, targets), condition);
    to_signal(dev, tape.output().data(), y);
    return tape;
  }

 private:
  void to_signal(const D& dev, const T* out, view<T, D> y) {
    for_each_element<T>(dev, affine_op<T>{}, map_row_, y.batch(), y.sample_size(), inputs<T, T>(start_.data(), out),
                        outputs<T>(y.data()));
  }

  Student* student_;
  affine_coefficients map_;
  double t_max_, sigma_max_;
  workspace<T, D> start_memory_;
  view<const T, D> start_;
  row_table<ode_row<T>, D> start_rows_;
  row_table<affine_row<T>, D> map_rows_;
  const affine_row<T>* map_row_ = nullptr;
  times_buffer<D, T> source_times_, target_times_;
};

/// The losses of a batch's samples: written by the loss kernels, summed on the host in order.
template <class T, class D>
class sample_losses {
 public:
  /// Makes room for `batch` samples of `n` elements.
  void begin(const D& dev, std::int64_t batch, std::int64_t n) {
    sums_ = sums_memory_.get(dev, {batch}).data();
    scratch_ = scratch_memory_.get(dev, {element_partials(dev, batch, n)}).data();
  }
  /// Where the loss of a sample goes.
  [[nodiscard]] T* at(std::int64_t sample) const noexcept { return sums_ + sample; }
  /// Memory of the sums' partial results.
  [[nodiscard]] T* scratch() const noexcept { return scratch_; }
  /// Sum over samples [first, first + count); waits for the device.
  [[nodiscard]] double sum(const D& dev, std::int64_t first, std::int64_t count) {
    host_.resize(static_cast<std::size_t>(count));
    if (count > 0) read_numbers(dev, std::as_const(sums_) + first, host_.data(), count);
    double sum = 0;
    for (const T v : host_) sum += static_cast<double>(v);
    return sum;
  }

 private:
  workspace<T, D> sums_memory_, scratch_memory_;
  T* sums_ = nullptr;
  T* scratch_ = nullptr;
  std::vector<T> host_;
};

/// The boundary loss of the samples from `first` on: y(eps, t_max) against f of `x`, with the teacher's `call` on x.
/// Writes their gradient dL/d out and their losses.
template <class T, class D, class Distance, class Call>
void boundary_loss(const D& dev, const Distance& distance, const bootstrap_row<T>* rows, std::int64_t first,
                   view<T, D> y, view<T, D> x, const Call& call, view<T, D> gradient,
                   const sample_losses<T, D>& losses) {
  const std::int64_t n = y.sample_size(), at = first * n, count = y.batch() - first;
  if (count == 0) return;
  for_each_element<T>(
      dev, boundary_op<T, Distance>{distance}, rows + first, count, n,
      inputs<T, T, T, T>(y.data() + at, x.data() + at, call.conditional() + at, call.unconditional() + at),
      outputs<T>(gradient.data() + at), losses.at(first), losses.scratch());
}

}  // namespace boot::inline v0
