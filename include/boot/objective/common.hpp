// SPDX-License-Identifier: MIT
/// What the data-free objectives share: noise, the student's signal, the teacher's clean signal, and their buffers.
#pragma once

#include <boot/core/random.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/kernel/op/signal_ode.hpp>
#include <boot/model/student.hpp>
#include <boot/objective/objective.hpp>

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

/// Buffers that grow to the largest batch seen and are then reused.
template <class T, class D>
class workspace {
 public:
  view<T, D> get(const D& dev, const shape& extents) {
    if (memory_.size() < extents.size()) memory_ = tensor<T, D>(dev, {extents.size()});
    return {memory_.data(), extents};
  }

 private:
  tensor<T, D> memory_;
};

/// Rows of numbers per sample, made on the host and read by kernels through a pointer: the step table of one step.
template <class Row, class D>
class row_table {
 public:
  std::vector<Row>& host(std::int64_t n) {
    rows_.resize(static_cast<std::size_t>(n));
    return rows_;
  }
  const Row* upload(const D& dev) {
    if (memory_.size() < static_cast<std::int64_t>(rows_.size()))
      memory_ = tensor<Row, D>(dev, {static_cast<std::int64_t>(rows_.size())});
    if (!rows_.empty()) copy_from_host(dev, rows_.data(), memory_.data(), rows_.size() * sizeof(Row));
    return memory_.data();
  }

 private:
  std::vector<Row> rows_;
  tensor<Row, D> memory_;
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
      teacher.predict_pair(dev, x, t, c, conditional_, unconditional_);
    } else {
      unconditional_ = conditional_;
      teacher.predict(dev, x, t, c, conditional_);
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
  detail::workspace<T, D> out_c_, out_n_;
  view<T, D> conditional_, unconditional_;
};

/// Which samples of a batch carry the boundary loss: a share of them, spread evenly, and a function of the sample's
/// number alone, so that a batch may be cut into parts at will.
class boundary_samples {
 public:
  /// No boundary samples.
  boundary_samples() = default;
  /// `fraction` of every batch, in [0, 1].
  explicit boundary_samples(double fraction) : fraction_(fraction) {}

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

/// Sums a device array of per-sample losses on the host, in order.
template <class T, class D>
[[nodiscard]] double ordered_sum(const D& dev, const T* values, std::int64_t n, std::vector<T>& host) {
  host.resize(static_cast<std::size_t>(n));
  if (n > 0) copy_to_host(dev, values, host.data(), host.size() * sizeof(T));
  double sum = 0;
  for (const T v : host) sum += static_cast<double>(v);
  return sum;
}

}  // namespace boot::inline v0
