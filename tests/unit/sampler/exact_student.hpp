// SPDX-License-Identifier: MIT
/// A student without error, for the tests of what calls students.
#pragma once

#include "unit/sampler/sampler_support.hpp"

namespace boot::testing {

/// A student that knows the trajectories exactly and says so in any kind of prediction, taken at t_max.
template <class Schedule>
struct exact_student {
  boot::gaussian<Schedule> truth;
  boot::prediction kind;
  double offset = 0;  // added to y

  template <boot::ComputeScalar T, boot::Condition C>
  void predict(const cpu&, boot::view<const T, cpu> x, const boot::times<cpu, T>& from, const boot::times<cpu, T>& to,
               const C&, boot::view<T, cpu> out) const {
    const auto& schedule = truth.schedule();
    const double alpha = schedule.alpha(schedule.t_max()), sigma = schedule.sigma(schedule.t_max());
    for (std::int64_t i = 0; i < x.size(); ++i) {
      REQUIRE(from.time[i / 4] == schedule.t_max());
      const double at = static_cast<double>(x[i]);
      const double y = truth.signal(static_cast<std::size_t>(i % 4), at / sigma, to.time[i / 4]) + offset;
      out[i] = static_cast<T>(boot::raw_output(kind, alpha, sigma, at, y));
    }
  }
  [[nodiscard]] boot::prediction prediction() const { return kind; }
  [[nodiscard]] boot::shape sample_shape() const { return truth.sample_shape(); }
};

/// That student on a schedule, in a kind of prediction.
template <class Schedule>
auto student_on(const Schedule& schedule, boot::prediction_kind kind, double offset = 0) {
  return exact_student<Schedule>{
      boot::gaussian(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation), {kind}, offset};
}

}  // namespace boot::testing
