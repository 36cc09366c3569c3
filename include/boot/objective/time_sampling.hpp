// SPDX-License-Identifier: MIT
/// How training times are drawn: uniform, progressive, logit-normal, or the user's own.
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <functional>  // std::function: a user's own distribution
#include <string>
#include <utility>

namespace boot::inline v0 {

/// Distributions of the training time over the schedule's range.
enum class time_distribution {
  uniform,      ///< every time alike
  progressive,  ///< a curriculum from t_max down: uniform over [lower end, t_max], the lower end moving to t_min
  logit_normal  ///< t = logistic(mean + deviation z), more times in the middle (Esser et al. 2024)
};

/// Options of the distribution. Positions are 0 at t_min and 1 at t_max.
struct time_options {
  time_distribution kind = time_distribution::uniform;  ///< which
  double progressive_until = 0.6;                       ///< share of the run after which the whole range is open
  double mean = 0, deviation = 1;                       ///< of the logit
  /// The user's own: position in [0, 1] from u uniform in (0, 1) and the run's progress in [0, 1]. Wins over `kind`.
  std::function<double(double u, double progress)> own = {};
};

/// The options in words, for fingerprints; a user's own function shows only as "own".
[[nodiscard]] inline std::string to_string(const time_options& o) {
  if (o.own) return "own";
  return fmt::format("{}/{}/{}/{}", static_cast<int>(o.kind), o.progressive_until, o.mean, o.deviation);
}

/// Quantile of the standard normal by Newton steps on erfc from a logistic first guess; about 1e-15 for u in (0, 1).
[[nodiscard]] inline double normal_quantile(double u) {
  const double p = std::min(u, 1 - u);  // the lower half, where erfc keeps all digits
  double z = -std::sqrt(-2 * std::log(p)) * (p < 0.2 ? 0.85 : 0.6);
  for (int i = 0; i < 40; ++i) {
    const double cdf = 0.5 * std::erfc(-z / std::sqrt(2.0));
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * 3.14159265358979323846);
    const double ratio = (cdf - p) / density, step = ratio / (1 + 0.5 * ratio * z);  // Halley
    z -= step;
    if (std::abs(step) < 1e-15 * std::abs(z)) break;
  }
  return u < 0.5 ? z : -z;
}

/// Position in [0, 1] for a uniform u in (0, 1); throws boot::error when a user's function leaves [0, 1].
[[nodiscard]] inline double time_position(const time_options& o, double u, double progress) {
  if (o.own) {
    const double p = o.own(u, progress);
    require(p >= 0 && p <= 1,
            "boot: the user's time distribution gave {} for u = {}; it must stay within [0, 1], correct it "
            "or choose a kind",
            p, u);
    return p;
  }
  switch (o.kind) {
    case time_distribution::uniform:
      return u;
    case time_distribution::progressive: {
      const double low = std::max(0.0, 1 - progress / o.progressive_until);
      return low + (1 - low) * u;
    }
    case time_distribution::logit_normal:
      return 1 / (1 + std::exp(-(o.mean + o.deviation * normal_quantile(u))));
  }
  return u;
}

/// A training pair t > s.
struct time_pair {
  double t;  ///< the later time, on the noise side
  double s;  ///< the earlier one
};

/// t at the given position and s = t - delta. Where s would fall below t_min the pair becomes (t_min + delta, t_min): the
/// step is never cut short, so the weights stay bounded, and t_min itself is trained.
[[nodiscard]] inline time_pair bootstrap_times(double position, double t_min, double t_max, double delta) noexcept {
  const double t = t_min + position * (t_max - t_min);
  if (t - delta < t_min) return {t_min + delta, t_min};
  return {t, t - delta};
}

}  // namespace boot::inline v0
