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
#include <vector>

namespace boot::inline v0 {

/// Limits on the clean signal in pixel space; latents have none.
struct clean_signal_limits {
  double low = -std::numeric_limits<double>::infinity();   ///< smallest value
  double high = std::numeric_limits<double>::infinity();   ///< largest value
};

namespace detail {

template <class S>
struct student_device;
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
