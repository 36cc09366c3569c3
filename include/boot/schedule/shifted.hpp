// SPDX-License-Identifier: MIT
/// A schedule whose noise-to-signal ratio is another schedule's times a constant (high resolutions, flow "shift").
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <cmath>
#include <utility>

namespace boot::inline v0 {

/// Options of shifted_schedule.
struct shift_options {
  double shift = 1;  ///< r_shifted = shift * r, > 0: side/64 for images of side x side pixels; 3 for many flow models
};

/// `base` with r multiplied by a constant at every time, so lambda moves by log(shift) and steps keep their D.
/// With n the factor that restores the base's own invariant (schedule_path_of<Base>):
///   alpha' = alpha/n, sigma' = shift sigma/n;
///   variance preserving  n = sqrt(alpha^2 + shift^2 sigma^2)    (cosine, linear, discrete, any base that names none)
///   linear               n = alpha + shift sigma                (flow: sigma' = shift t/(1 + (shift - 1) t))
///   unit alpha           n = alpha                              (EDM)
template <NoiseSchedule Base>
class shifted_schedule {
 public:
  /// Throws boot::error unless shift is finite and > 0.
  explicit shifted_schedule(Base base, const shift_options& options = {})
      : base_(std::move(base)), shift_(options.shift), log_shift_(std::log(options.shift)) {
    require(options.shift > 0 && std::isfinite(options.shift),
            "boot: shifted_schedule: shift = {} was given; it needs a finite shift > 0. Use side/64 for images of that "
            "side "
            "(4 at 256 x 256), or 1 for no shift.",
            options.shift);
  }

  /// The base's.
  static constexpr schedule_path path = schedule_path_of<Base>;

  /// The schedule that is shifted.
  [[nodiscard]] const Base& base() const { return base_; }
  /// alpha/n; exactly 0 where the base's is.
  [[nodiscard]] double alpha(double t) const { return base_.alpha(t) / normaliser(t); }
  /// shift sigma/n; exactly 0 where the base's is.
  [[nodiscard]] double sigma(double t) const { return shift_ * base_.sigma(t) / normaliser(t); }
  /// The base's.
  [[nodiscard]] double t_min() const { return base_.t_min(); }
  /// The base's.
  [[nodiscard]] double t_max() const { return base_.t_max(); }

  /// The base's plus log(shift).
  [[nodiscard]] double lambda(double t) const { return schedule_lambda(base_, t) + log_shift_; }
  /// The base's.
  [[nodiscard]] double dlambda(double t) const { return schedule_dlambda(base_, t); }
  /// The base's time of lambda - log(shift).
  [[nodiscard]] double time_of_lambda(double lambda) const { return boot::time_of_lambda(base_, lambda - log_shift_); }
  /// The base's: the shift cancels in r_u/r_t.
  [[nodiscard]] double signal_step(double t, double u) const { return boot::signal_step(base_, t, u); }

 private:
  [[nodiscard]] double normaliser(double t) const {
    if constexpr (path == schedule_path::unit_alpha)
      return base_.alpha(t);
    else if constexpr (path == schedule_path::linear)
      return base_.alpha(t) + shift_ * base_.sigma(t);
    else
      return std::hypot(base_.alpha(t), shift_ * base_.sigma(t));
  }

  Base base_;
  double shift_, log_shift_;
};

static_assert(NoiseSchedule<shifted_schedule<detail::schedule_archetype>>);

}  // namespace boot::inline v0
