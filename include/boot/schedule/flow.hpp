// SPDX-License-Identifier: MIT
/// Rectified-flow noise schedule: alpha(t) = 1 - t, sigma(t) = t, t in [0, 1].
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>

namespace boot::inline v0 {

/// Options of flow_schedule: 0 <= t_min < t_max <= 1.
struct flow_options {
  double t_min = 0.001;  ///< data end; at 0, sigma is exactly 0 and lambda = -inf
  double t_max = 1;      ///< noise end; at 1, alpha is exactly 0 and lambda = +inf
};

/// Linear path between data and noise: r = t/(1 - t), lambda' = 1/(t (1 - t)), unbounded at both ends.
class flow_schedule {
 public:
  /// The default range [.001, 1].
  flow_schedule() = default;
  /// Throws boot::error for a range outside [0, 1].
  explicit flow_schedule(const flow_options& options) : options_(options) {
    detail::require_time_range("flow_schedule", options.t_min, options.t_max, 0, 1);
  }

  /// Shifts of this schedule keep alpha + sigma = 1.
  static constexpr schedule_path path = schedule_path::linear;

  /// 1 - t.
  [[nodiscard]] double alpha(double t) const { return 1 - t; }
  /// t.
  [[nodiscard]] double sigma(double t) const { return t; }
  /// Data end of the range.
  [[nodiscard]] double t_min() const { return options_.t_min; }
  /// Noise end of the range.
  [[nodiscard]] double t_max() const { return options_.t_max; }

  /// log(t/(1 - t)); -inf at 0, +inf at 1.
  [[nodiscard]] double lambda(double t) const {
    if (t <= 0) return -detail::schedule_infinity;
    return t >= 1 ? detail::schedule_infinity : std::log(t / (1 - t));
  }
  /// 1/(t (1 - t)); +inf at 0 and 1.
  [[nodiscard]] double dlambda(double t) const {
    return t <= 0 || t >= 1 ? detail::schedule_infinity : 1 / (t * (1 - t));
  }
  /// 1/(1 + exp(-lambda)), clamped to the range.
  [[nodiscard]] double time_of_lambda(double lambda) const {
    const double ratio = std::exp(-std::abs(lambda));
    return std::clamp((lambda < 0 ? ratio : 1.0) / (1 + ratio), t_min(), t_max());
  }
  /// 1 - r_u/r_t = (t - u)/(t (1 - u)): no cancellation when t and u are close.
  [[nodiscard]] double signal_step(double t, double u) const { return (t - u) / (t * (1 - u)); }

 private:
  flow_options options_;
};

static_assert(NoiseSchedule<flow_schedule>);

}  // namespace boot::inline v0
