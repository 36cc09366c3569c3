// SPDX-License-Identifier: MIT
/// The learning rate over a run: linear warm-up, then constant or half a cosine.
#pragma once

#include <boot/core/error.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>

namespace boot::inline v0 {

/// Shape of the rate after the warm-up.
enum class rate_decay {
  constant,  ///< stays
  cosine     ///< falls to `final_share` of the peak along half a cosine over the whole run
};

/// Options of the learning rate.
struct learning_rate_options {
  double peak = 1e-3;                     ///< highest rate
  std::int64_t warmup_steps = 100;        ///< linear from peak / warmup_steps
  rate_decay decay = rate_decay::cosine;  ///< shape
  double final_share = 0;                 ///< of the peak, at the last step
};

/// Rate of step `step` (0-based) of `steps`.
[[nodiscard]] inline double learning_rate(const learning_rate_options& o, std::int64_t step, std::int64_t steps) {
  double rate = o.peak;
  if (step < o.warmup_steps) rate *= static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  if (o.decay == rate_decay::cosine && steps > 0) {
    const double q = static_cast<double>(step) / static_cast<double>(steps);
    rate *= o.final_share + (1 - o.final_share) * 0.5 * (1 + std::cos(std::numbers::pi * q));
  }
  return rate;
}

/// Throws boot::error for rates that are no rates.
inline void validate(const learning_rate_options& o) {
  require(std::isfinite(o.peak) && o.peak > 0, "boot: learning rate {}; needs a positive number such as 1e-3", o.peak);
  require(o.warmup_steps >= 0, "boot: {} warm-up steps; needs 0 or more, 0 starts at the peak", o.warmup_steps);
  require(o.final_share >= 0 && o.final_share <= 1,
          "boot: final learning rate share {}; needs a share in [0, 1], 0 ends at "
          "nothing, 1 stays at the peak",
          o.final_share);
}

}  // namespace boot::inline v0
