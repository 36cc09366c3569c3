// SPDX-License-Identifier: MIT
/// EDM (variance exploding) noise schedule: alpha = 1, sigma(t) between sigma_min and sigma_max by a power-law warp.
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>

namespace boot::inline v0 {

/// Options of edm_schedule: 0 < sigma_min < sigma_max, rho > 0. The data's own deviation (sigma_data) belongs to the
/// model's input and output scaling and is not here.
struct edm_options {
  double sigma_min = 0.002;  ///< sigma at t = 0
  double sigma_max = 80;     ///< sigma at t = 1
  double rho = 7;            ///< exponent of the warp; large values approach a warp linear in log(sigma)
};

/// alpha = 1, sigma(t) = (a + t b)^rho with a = sigma_min^(1/rho), a + b = sigma_max^(1/rho), t in [0, 1].
/// Time is the warp and not sigma itself: with t = sigma the last step of a uniform grid would cover almost all of the
/// range of log(sigma).
class edm_schedule {
 public:
  /// sigma from .002 to 80, rho = 7.
  edm_schedule() : edm_schedule(edm_options{}) {}
  /// Throws boot::error for sigmas or a rho that do not fit.
  explicit edm_schedule(const edm_options& options) : options_(options) {
    require(
        options.sigma_min > 0 && options.sigma_min < options.sigma_max && std::isfinite(options.sigma_max),
        "boot: edm_schedule: sigma_min = {} and sigma_max = {} were given; it needs 0 < sigma_min < sigma_max, both "
        "finite. The usual values are 0.002 and 80.",
        options.sigma_min, options.sigma_max);
    require(options.rho > 0 && std::isfinite(options.rho),
            "boot: edm_schedule: rho = {} was given; it needs a finite rho > 0. The usual value is 7.", options.rho);
    base_ = std::pow(options.sigma_min, 1 / options.rho);
    slope_ = std::pow(options.sigma_max, 1 / options.rho) - base_;
    require(slope_ > 0,
            "boot: edm_schedule: rho = {} is too large for sigma_min = {} and sigma_max = {}; use rho <= 1e6.",
            options.rho, options.sigma_min, options.sigma_max);
  }

  /// Shifts of this schedule keep alpha = 1.
  static constexpr schedule_path path = schedule_path::unit_alpha;

  /// 1.
  [[nodiscard]] double alpha(double) const { return 1; }
  /// (a + t b)^rho; exactly sigma_min at 0 and sigma_max at 1.
  [[nodiscard]] double sigma(double t) const {
    if (t == 0) return options_.sigma_min;
    return t == 1 ? options_.sigma_max : std::pow(warped(t), options_.rho);
  }
  /// 0.
  [[nodiscard]] double t_min() const { return 0; }
  /// 1.
  [[nodiscard]] double t_max() const { return 1; }

  /// log(sigma(t)) = rho log(a + t b).
  [[nodiscard]] double lambda(double t) const { return options_.rho * std::log(warped(t)); }
  /// rho b/(a + t b).
  [[nodiscard]] double dlambda(double t) const { return options_.rho * slope_ / warped(t); }
  /// (exp(lambda/rho) - a)/b, clamped to the range: lambda is log(sigma) here.
  [[nodiscard]] double time_of_lambda(double lambda) const {
    return std::clamp((std::exp(lambda / options_.rho) - base_) / slope_, 0.0, 1.0);
  }
  /// 1 - sigma_u/sigma_t = 1 - (1 + b (u - t)/(a + t b))^rho: no cancellation when t and u are close.
  [[nodiscard]] double signal_step(double t, double u) const {
    return -std::expm1(options_.rho * std::log1p(slope_ * (u - t) / warped(t)));
  }

 private:
  [[nodiscard]] double warped(double t) const { return base_ + slope_ * t; }

  edm_options options_;
  double base_ = 0, slope_ = 0;
};

static_assert(NoiseSchedule<edm_schedule>);

}  // namespace boot::inline v0
