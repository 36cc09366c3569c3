// SPDX-License-Identifier: MIT
/// Continuous linear-beta (VP) noise schedule: alpha(t)^2 = exp(-B(t)), B the integral of a beta that is linear in t.
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>

namespace boot::inline v0 {

/// Options of linear_schedule: 0 < beta_min <= beta_max, 0 <= t_min < t_max <= 1.
struct linear_options {
  double beta_min = 0.1;  ///< beta(0), per unit of time
  double beta_max = 20;   ///< beta(1); (beta_min + beta_max)/2 may be at most 700
  double t_min = 0.001;   ///< data end; at 0, sigma is exactly 0 and lambda = -inf
  double t_max = 1;       ///< noise end; alpha stays above 0: .0066 at t = 1 with the default betas
};

/// Variance preserving schedule of the continuous DDPM: B(t) = beta_min t + (beta_max - beta_min) t^2/2,
/// alpha = exp(-B/2), sigma = sqrt(1 - exp(-B)). lambda' is finite at t = 1 (1/lambda' = .1 with the defaults).
class linear_schedule {
 public:
  /// beta from .1 to 20, range [.001, 1].
  linear_schedule() = default;
  /// Throws boot::error for betas or a range that do not fit.
  explicit linear_schedule(const linear_options& options) : options_(options) {
    require(options.beta_min > 0 && options.beta_min <= options.beta_max && options.beta_min + options.beta_max <= 1400,
            "boot: linear_schedule: beta_min = {} and beta_max = {} were given; it needs 0 < beta_min <= beta_max and "
            "a mean "
            "of at most 700 (alpha would underflow). The usual values are 0.1 and 20; a discrete table's beta of 0.02 "
            "over 1000 steps is 20 here.",
            options.beta_min, options.beta_max);
    detail::require_time_range("linear_schedule", options.t_min, options.t_max, 0, 1);
  }

  /// Shifts of this schedule keep alpha^2 + sigma^2 = 1.
  static constexpr schedule_path path = schedule_path::variance_preserving;

  /// exp(-B(t)/2).
  [[nodiscard]] double alpha(double t) const { return std::exp(-0.5 * integral(t)); }
  /// sqrt(1 - exp(-B(t))), without cancellation near t = 0.
  [[nodiscard]] double sigma(double t) const { return std::sqrt(-std::expm1(-integral(t))); }
  /// Data end of the range.
  [[nodiscard]] double t_min() const { return options_.t_min; }
  /// Noise end of the range.
  [[nodiscard]] double t_max() const { return options_.t_max; }

  /// log(exp(B) - 1)/2; -inf at t = 0.
  [[nodiscard]] double lambda(double t) const {
    const double b = integral(t);
    return b <= 0 ? -detail::schedule_infinity : 0.5 * (b + std::log(-std::expm1(-b)));
  }
  /// beta(t)/(2 sigma^2); +inf at t = 0.
  [[nodiscard]] double dlambda(double t) const {
    const double b = integral(t);
    const double beta = options_.beta_min + (options_.beta_max - options_.beta_min) * t;
    return b <= 0 ? detail::schedule_infinity : 0.5 * beta / -std::expm1(-b);
  }
  /// The root of B(t) = log(1 + exp(2 lambda)), clamped to the range.
  [[nodiscard]] double time_of_lambda(double lambda) const {
    const double b = (std::max)(2 * lambda, 0.0) + std::log1p(std::exp(-2 * std::abs(lambda)));
    if (b > integral(1)) return t_max();  // also lambda = +inf, where the formula below is inf/inf
    const double slope = options_.beta_max - options_.beta_min;
    const double root = std::sqrt(options_.beta_min * options_.beta_min + 2 * slope * b);
    return std::clamp(2 * b / (options_.beta_min + root), t_min(), t_max());
  }
  /// 1 - sqrt(q), q = expm1(B_u)/expm1(B_t), as (1 - q)/(1 + sqrt(q)) with 1 - q from B_u - B_t: no cancellation.
  [[nodiscard]] double signal_step(double t, double u) const {
    const double mean_beta = options_.beta_min + (options_.beta_max - options_.beta_min) * (t + u) / 2;
    const double from_one = std::expm1((u - t) * mean_beta) / std::expm1(-integral(t));
    return from_one / (1 + std::sqrt(std::expm1(integral(u)) / std::expm1(integral(t))));
  }

 private:
  [[nodiscard]] double integral(double t) const {
    return t * (options_.beta_min + 0.5 * (options_.beta_max - options_.beta_min) * t);
  }

  linear_options options_;
};

static_assert(NoiseSchedule<linear_schedule>);

}  // namespace boot::inline v0
