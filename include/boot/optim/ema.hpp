// SPDX-License-Identifier: MIT
/// Exponential moving averages of the parameters: constant decay with warm-up, or the power function of EDM2.
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

namespace boot::inline v0 {

/// One average.
struct ema_options {
  double decay = 0.999;  ///< constant form: share of the old average that stays at each step
  bool warmup = true;    ///< constant form: decay is at most (1 + k)/(10 + k) at update k, so that it starts quickly
  double relative_width = 0;  ///< > 0: power-function form instead (Karras et al. 2024), width as a share of the run
};

/// Exponent gamma of the power-function average whose relative width is `width`:
/// width = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))), solved by bisection. Throws boot::error outside (0, 0.28].
[[nodiscard]] inline double power_ema_exponent(double width) {
  require(width > 0 && width <= 0.28,
          "boot: relative EMA width {}; needs a share of the run in (0, 0.28], 0.1 is a good start", width);
  const auto width_of = [](double g) { return std::sqrt((g + 1) / ((g + 2) * (g + 2) * (g + 3))); };
  double low = 0, high = 1e7;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (width_of(middle) > width ? low : high) = middle;
  }
  return low;
}

/// Decay of update `k` (0-based): e <- decay e + (1 - decay) p.
[[nodiscard]] inline double ema_decay(const ema_options& o, std::int64_t k) {
  const double n = static_cast<double>(k);
  if (o.relative_width > 0) return std::pow(1 - 1 / (n + 1), power_ema_exponent(o.relative_width) + 1);
  return o.warmup ? std::min(o.decay, (1 + n) / (10 + n)) : o.decay;
}

/// Throws boot::error for decays that are no decays.
inline void validate(const ema_options& o) {
  if (o.relative_width != 0) {
    static_cast<void>(power_ema_exponent(o.relative_width));
    return;
  }
  require(o.decay >= 0 && o.decay < 1, "boot: EMA decay {}; needs a share in [0, 1), 0.999 is common", o.decay);
}

}  // namespace boot::inline v0
