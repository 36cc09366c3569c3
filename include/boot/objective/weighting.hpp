// SPDX-License-Identifier: MIT
/// Weights of the bootstrap loss: exact, the paper's, upwind, or the user's own.
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <cmath>
#include <functional>  // std::function: a user's own weight

namespace boot::inline v0 {

/// Shipped weights, with D the Signal-ODE step from t to s.
enum class weighting {
  exact,  ///< 1/D^2: the error in units of the clean signal
  paper,  ///< 1/(lambda'(t) delta)^2, which agrees with exact for small steps and goes to 0 at both ends
  upwind  ///< 1/|D|: the weight of the continuous form
};

/// What a weight may depend on.
struct weight_arguments {
  double t, s;      ///< the pair of times
  double step;      ///< D
  double dlambda;   ///< d/dt log(sigma/alpha) at t
  double delta;     ///< t - s
  double progress;  ///< share of the run that is done
};

/// A user's own weight; finite and not negative.
using weight_function = std::function<double(const weight_arguments&)>;

/// The weight of one pair; throws boot::error when a user's function gives a negative or non-finite number.
template <NoiseSchedule S>
[[nodiscard]] double bootstrap_weight(weighting kind, const weight_function& own, const S& schedule, double t, double s,
                                      double step, double progress) {
  if (own) {
    const double w = own({t, s, step, schedule_dlambda(schedule, t), t - s, progress});
    require(
        std::isfinite(w) && w >= 0,
        "boot: the user's weight gave {} at t = {}, s = {}; it must be finite and not negative, correct own_weight or "
        "leave it out",
        w, t, s);
    return w;
  }
  switch (kind) {
    case weighting::exact:
      return 1 / (step * step);
    case weighting::paper: {
      const double inverse = inverse_dlambda(schedule, t) / (t - s);
      return inverse * inverse;
    }
    case weighting::upwind:
      return 1 / std::abs(step);
  }
  return 1;
}

}  // namespace boot::inline v0
