// SPDX-License-Identifier: MIT
/// Cosine noise schedule: alpha(t) = cos(pi t/2), sigma(t) = sin(pi t/2), t in [0, 1].
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace boot::inline v0 {

/// Options of cosine_schedule: 0 <= t_min < t_max <= 1.
struct cosine_options {
  double t_min = 0.001;  ///< data end; at 0, sigma is exactly 0 and lambda = -inf
  double t_max = 1;      ///< noise end; at 1, alpha is exactly 0 and lambda = +inf
};

/// Variance preserving cosine schedule: r = tan(pi t/2), lambda' = pi/sin(pi t), unbounded at both ends. alpha and
/// sigma are accurate to about an ulp everywhere and exactly 0 and 1 at t = 0 and 1.
class cosine_schedule {
 public:
  /// The default range [.001, 1].
  cosine_schedule() = default;
  /// Throws boot::error for a range outside [0, 1].
  explicit cosine_schedule(const cosine_options& options) : options_(options) {
    detail::require_time_range("cosine_schedule", options.t_min, options.t_max, 0, 1);
  }

  /// Shifts of this schedule keep alpha^2 + sigma^2 = 1.
  static constexpr schedule_path path = schedule_path::variance_preserving;

  /// cos(pi t/2) as sin(pi (1 - t)/2), which keeps all digits near t = 1 and is exactly 0 there.
  [[nodiscard]] double alpha(double t) const { return std::sin(std::numbers::pi / 2 * (1 - t)); }
  /// sin(pi t/2).
  [[nodiscard]] double sigma(double t) const { return std::sin(std::numbers::pi / 2 * t); }
  /// Data end of the range.
  [[nodiscard]] double t_min() const { return options_.t_min; }
  /// Noise end of the range.
  [[nodiscard]] double t_max() const { return options_.t_max; }

  /// log tan(pi t/2), antisymmetric about t = 1/2; -inf at 0, +inf at 1.
  [[nodiscard]] double lambda(double t) const {
    if (t <= 0) return -detail::schedule_infinity;
    if (t >= 1) return detail::schedule_infinity;
    const double half_pi = std::numbers::pi / 2;
    return t <= 0.5 ? std::log(std::tan(half_pi * t)) : -std::log(std::tan(half_pi * (1 - t)));
  }
  /// pi/sin(pi t); +inf at 0 and 1.
  [[nodiscard]] double dlambda(double t) const {
    const double distance = (std::min)(t, 1 - t);  // sin(pi t) at t near 1 would lose all digits of 1 - t
    return distance <= 0 ? detail::schedule_infinity : std::numbers::pi / std::sin(std::numbers::pi * distance);
  }
  /// 2/pi atan(exp(lambda)), clamped to the range.
  [[nodiscard]] double time_of_lambda(double lambda) const {
    const double near_data = 2 / std::numbers::pi * std::atan(std::exp(-std::abs(lambda)));
    return std::clamp(lambda <= 0 ? near_data : 1 - near_data, t_min(), t_max());
  }
  /// 1 - r_u/r_t = sin(pi (t - u)/2)/(sigma_t alpha_u): no cancellation when t and u are close.
  [[nodiscard]] double signal_step(double t, double u) const {
    return std::sin(std::numbers::pi / 2 * (t - u)) / (sigma(t) * alpha(u));
  }

 private:
  cosine_options options_;
};

static_assert(NoiseSchedule<cosine_schedule>);

}  // namespace boot::inline v0
