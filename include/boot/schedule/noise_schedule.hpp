// SPDX-License-Identifier: MIT
/// The NoiseSchedule concept, and what the objectives and samplers compute from any schedule, in float64 on the host.
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>

namespace boot::inline v0 {

/// `s.alpha(t)` and `s.sigma(t)`, const, both double: x_t = alpha x_0 + sigma eps.
template <class S>
concept schedule_coefficients = requires(const S& s, double t) {
  { s.alpha(t) } -> std::same_as<double>;
  { s.sigma(t) } -> std::same_as<double>;
};

/// `s.t_min()` (data end) and `s.t_max()` (noise end), const, both double.
template <class S>
concept schedule_range = requires(const S& s) {
  { s.t_min() } -> std::same_as<double>;
  { s.t_max() } -> std::same_as<double>;
};

/// How noise grows over time t, from data (t_min) to noise (t_max). Host only: kernels get numbers, so a schedule needs
/// no device code. All values are double, without units; t has the schedule's own unit (most use [0, 1], diffusers
/// tables use the index 0 .. T-1).
///
/// Needs, for const s:  s.alpha(t), s.sigma(t) -> double   finite, >= 0, never both zero, for t in [t_min, t_max];
///                      s.t_min(), s.t_max() -> double     t_min < t_max;  and to be copyable.
/// Must: r = sigma/alpha grows strictly with t. alpha may reach exactly 0 at t_max, sigma exactly 0 at t_min.
/// May: give any of these closed forms, all -> double; the functions below use them and else a documented default:
///                      s.lambda(t)          log(sigma/alpha), minus half the log signal-to-noise ratio
///                      s.dlambda(t)         its derivative; +inf where it is unbounded
///                      s.time_of_lambda(l)  the inverse of lambda on [t_min, t_max], clamped to the range
///                      s.signal_step(t, u)  1 - r_u/r_t for t != u where no alpha or sigma is 0
///                      S::path              a static schedule_path, only for shifted_schedule<S>
/// Shipped: cosine_schedule, linear_schedule, flow_schedule, edm_schedule, discrete_schedule, shifted_schedule<Base>.
/// Write your own: tests/unit/schedule/noise_schedule_test.cpp, mark "example: custom-schedule".
template <class S>
concept NoiseSchedule = std::copyable<S> && schedule_coefficients<S> && schedule_range<S>;

namespace detail {
/// Exactly what NoiseSchedule asks for and no more: templates over a schedule are asserted with it.
struct schedule_archetype {
  double alpha(double t) const;
  double sigma(double t) const;
  double t_min() const;
  double t_max() const;
};
static_assert(NoiseSchedule<schedule_archetype>);
}  // namespace detail

/// The schedule has its own lambda(t).
template <class S>
concept schedule_has_lambda = requires(const S& s, double t) {
  { s.lambda(t) } -> std::same_as<double>;
};

/// The schedule has its own dlambda(t).
template <class S>
concept schedule_has_dlambda = requires(const S& s, double t) {
  { s.dlambda(t) } -> std::same_as<double>;
};

/// The schedule has its own time_of_lambda(lambda).
template <class S>
concept schedule_has_time_of_lambda = requires(const S& s, double t) {
  { s.time_of_lambda(t) } -> std::same_as<double>;
};

/// The schedule has its own signal_step(t, u).
template <class S>
concept schedule_has_signal_step = requires(const S& s, double t) {
  { s.signal_step(t, t) } -> std::same_as<double>;
};

/// Compile-time check at a public door: says which member is missing. An optional member of another return type would
/// be passed over in silence, so it is refused here.
template <class S>
consteval void check_schedule() {
  static_assert(std::copyable<S>, "boot: a NoiseSchedule must be copyable: hold values, not references or locks");
  static_assert(schedule_coefficients<S>,
                "boot: a NoiseSchedule needs `double alpha(double t) const` and `double sigma(double t) const`, both "
                "returning exactly double. See 'Write your own' in boot/schedule/noise_schedule.hpp");
  static_assert(schedule_range<S>,
                "boot: a NoiseSchedule needs `double t_min() const` and `double t_max() const`, both returning exactly "
                "double. See 'Write your own' in boot/schedule/noise_schedule.hpp");
  static_assert(
      schedule_has_lambda<S> || !requires(const S& s) { s.lambda(0.5); },
      "boot: the optional `lambda(double t) const` of a NoiseSchedule must return double; correct its type or leave it "
      "out");
  static_assert(
      schedule_has_dlambda<S> || !requires(const S& s) { s.dlambda(0.5); },
      "boot: the optional `dlambda(double t) const` of a NoiseSchedule must return double; correct its type or leave "
      "it out");
  static_assert(
      schedule_has_time_of_lambda<S> || !requires(const S& s) { s.time_of_lambda(0.5); },
      "boot: the optional `time_of_lambda(double lambda) const` of a NoiseSchedule must return double; correct its "
      "type or "
      "leave it out");
  static_assert(
      schedule_has_signal_step<S> || !requires(const S& s) { s.signal_step(0.5, 0.5); },
      "boot: the optional `signal_step(double t, double u) const` of a NoiseSchedule must return double; correct its "
      "type or "
      "leave it out");
}

/// What a schedule's coefficients keep constant; read by shifted_schedule to renormalise after a shift.
enum class schedule_path {
  variance_preserving,  ///< alpha^2 + sigma^2 = 1
  linear,               ///< alpha + sigma = 1 (flow)
  unit_alpha,           ///< alpha = 1 (variance exploding)
};

/// `S::path` when the schedule declares one, else variance_preserving.
template <class S>
inline constexpr schedule_path schedule_path_of = [] {
  if constexpr (requires { S::path; })
    return S::path;
  else
    return schedule_path::variance_preserving;
}();

namespace detail {

inline constexpr double schedule_infinity = std::numeric_limits<double>::infinity();

/// Derivative at t of the quartic through five equally spaced values of f. The window moves inside [low, high], so t
/// may be anywhere in it: fourth order at the ends of the range as well.
template <class F>
double derivative_in_range(const F& f, double t, double low, double high) {
  const double h = 1e-5 * (high - low);
  const double centre = std::clamp(t, low + 2 * h, high - 2 * h);
  const double u = (t - centre) / h, u2 = u * u, u3 = u2 * u;
  const double outer_left = (4 * u3 - 6 * u2 - 2 * u + 2) / 24, inner_left = -(4 * u3 - 3 * u2 - 8 * u + 4) / 6;
  const double middle = (4 * u3 - 10 * u) / 4;
  const double inner_right = -(4 * u3 + 3 * u2 - 8 * u - 4) / 6, outer_right = (4 * u3 + 6 * u2 - 2 * u - 2) / 24;
  const auto at = [&](double x) { return f(std::clamp(x, low, high)); };
  return (outer_left * at(centre - 2 * h) + inner_left * at(centre - h) + middle * at(centre) +
          inner_right * at(centre + h) + outer_right * at(centre + 2 * h)) /
         h;
}

/// The check every shipped schedule's options share: low <= t_min < t_max <= high.
inline void require_time_range(const char* name, double t_min, double t_max, double low, double high) {
  require(
      t_min >= low && t_min < t_max && t_max <= high,
      "boot: {}: t_min = {} and t_max = {} were given; it needs {} <= t_min < t_max <= {}. Set both within that range.",
      name, t_min, t_max, low, high);
}

}  // namespace detail

/// r = sigma/alpha at t: the noise-to-signal ratio, +inf where alpha = 0.
template <NoiseSchedule S>
[[nodiscard]] double noise_to_signal(const S& schedule, double t) {
  const double alpha = schedule.alpha(t);
  return alpha == 0 ? detail::schedule_infinity : schedule.sigma(t) / alpha;
}

/// lambda = log(sigma/alpha) at t: +inf where alpha = 0, -inf where sigma = 0. Uses s.lambda(t) when there is one.
template <NoiseSchedule S>
[[nodiscard]] double schedule_lambda(const S& schedule, double t) {
  if constexpr (schedule_has_lambda<S>) {
    return schedule.lambda(t);
  } else {
    const double alpha = schedule.alpha(t), sigma = schedule.sigma(t);
    if (alpha == 0) return detail::schedule_infinity;
    return sigma == 0 ? -detail::schedule_infinity : std::log(sigma / alpha);
  }
}

/// 1/lambda' at t: 0 where lambda' is unbounded (alpha = 0 or sigma = 0). Uses 1/s.dlambda(t) when there is one, else
/// alpha sigma / (alpha sigma' - alpha' sigma) with alpha' and sigma' from five values inside [t_min, t_max], spaced by
/// h = 1e-5 of the range. These stay finite where lambda does not. Relative error about 1e-10 where the coefficients
/// are smooth, and growing as (h/d)^4 at a distance d from a singularity of alpha' or sigma' (2e-8 at d = .001 of the
/// range).
template <NoiseSchedule S>
[[nodiscard]] double inverse_dlambda(const S& schedule, double t) {
  if constexpr (schedule_has_dlambda<S>) {
    const double slope = schedule.dlambda(t);
    return slope > (std::numeric_limits<double>::max)() ? 0.0 : 1 / slope;
  } else {
    const double low = schedule.t_min(), high = schedule.t_max();
    const double alpha = schedule.alpha(t), sigma = schedule.sigma(t);
    if (alpha == 0 || sigma == 0) return 0.0;
    const double dalpha = detail::derivative_in_range([&](double x) { return schedule.alpha(x); }, t, low, high);
    const double dsigma = detail::derivative_in_range([&](double x) { return schedule.sigma(x); }, t, low, high);
    return alpha * sigma / (alpha * dsigma - dalpha * sigma);
  }
}

/// lambda' = d log(sigma/alpha)/dt at t, in 1/unit of t; +inf where it is unbounded. Uses s.dlambda(t) when there is
/// one, else the numeric form of inverse_dlambda, to the accuracy named there.
template <NoiseSchedule S>
[[nodiscard]] double schedule_dlambda(const S& schedule, double t) {
  if constexpr (schedule_has_dlambda<S>) {
    return schedule.dlambda(t);
  } else {
    const double inverse = inverse_dlambda(schedule, t);
    return inverse == 0 ? detail::schedule_infinity : 1 / inverse;
  }
}

/// The time at which lambda has the given value. A value outside [lambda(t_min), lambda(t_max)] gives that end of the
/// range (rounding in a caller's grid must not throw). Uses s.time_of_lambda when there is one, else bisection down to
/// neighbouring doubles, about 60 evaluations. NaN throws boot::error.
template <NoiseSchedule S>
[[nodiscard]] double time_of_lambda(const S& schedule, double lambda) {
  require(lambda == lambda, "boot: time_of_lambda: lambda is NaN; pass a number or an infinity.");
  if constexpr (schedule_has_time_of_lambda<S>) {
    return schedule.time_of_lambda(lambda);
  } else {
    double low = schedule.t_min(), high = schedule.t_max();
    if (lambda <= schedule_lambda(schedule, low)) return low;
    if (lambda >= schedule_lambda(schedule, high)) return high;
    for (;;) {  // lambda(low) < lambda < lambda(high) holds throughout
      const double middle = low + (high - low) / 2;
      if (middle <= low || middle >= high) break;
      const double value = schedule_lambda(schedule, middle);
      if (value == lambda) return middle;
      (value < lambda ? low : high) = middle;
    }
    return lambda - schedule_lambda(schedule, low) <= schedule_lambda(schedule, high) - lambda ? low : high;
  }
}

/// D = 1 - r_s/r_t = 1 - alpha_t sigma_s/(sigma_t alpha_s): the share of the way from y_t to the clean signal that a
/// DDIM (Signal-ODE) step from t to s goes. In [0, 1] for s <= t, negative for s > t.
/// Limits: 0 at s = t, also where alpha or sigma is 0; else 1 where alpha_t = 0 or sigma_s = 0, and -inf where
/// alpha_s = 0 or sigma_t = 0 (a step towards infinite r, or from r = 0). Never NaN.
/// Accuracy: s.signal_step when there is one (the shipped schedules: relative error about 1e-14, for discrete tables
/// 1e-12, however close t and s are);
/// else -expm1(lambda_s - lambda_t) from a closed form lambda, or the ratio itself: both about 1e-15 (1 + |lambda|)
/// ABSOLUTE, so D keeps about 12 digits at D = 1e-3.
template <NoiseSchedule S>
[[nodiscard]] double signal_step(const S& schedule, double t, double s) {
  if (t == s) return 0.0;
  const double alpha_t = schedule.alpha(t), sigma_s = schedule.sigma(s);
  if (alpha_t == 0 || sigma_s == 0) return 1.0;
  const double alpha_s = schedule.alpha(s), sigma_t = schedule.sigma(t);
  if (alpha_s == 0 || sigma_t == 0) return -detail::schedule_infinity;
  if constexpr (schedule_has_signal_step<S>) {
    return (std::min)(schedule.signal_step(t, s), 1.0);
  } else {
    if constexpr (schedule_has_lambda<S>) {
      const double difference = schedule.lambda(s) - schedule.lambda(t);
      if (std::isfinite(difference)) return -std::expm1(difference);
    }
    return 1 - (alpha_t / alpha_s) * (sigma_s / sigma_t);
  }
}

/// 1 + D/ln(1 - D): the weight of the second evaluation in the exponential Heun step, from D/2 at small D to exactly 1
/// at D = 1 (-inf at D = -inf). Relative error about 1e-15 for D in (-inf, 1]; below |D| = .25 by the series of
/// ln(1 - D)/(-D) - 1 = D/2 + D^2/3 + ..., as the plain form would lose digits as 1/D there.
[[nodiscard]] inline double heun_factor(double step) {
  if (step >= 1) return 1.0;
  if (step < -(std::numeric_limits<double>::max)()) return step;
  if (std::abs(step) >= 0.25) return 1 + step / std::log1p(-step);
  double series = 0;  // sum over k of D^k/(k + 1), k = 1 .. 26: the next term is below 1e-17 of the first
  for (int k = 26; k >= 1; --k) series = step * (1.0 / (k + 1) + series);
  return series / (1 + series);
}

/// Run-time check of a schedule on `points` (>= 2) evenly spaced times, both ends included: ordered finite range,
/// finite coefficients >= 0 that are not both zero, lambda strictly increasing (infinite at the ends only) and equal to
/// log(sigma/alpha) where it is a closed form, dlambda > 0. Variance preservation is not asked for.
/// Throws boot::error naming the time and the values.
template <NoiseSchedule S>
void validate_schedule(const S& schedule, int points = 257) {
  const double low = schedule.t_min(), high = schedule.t_max();
  require(std::isfinite(low) && std::isfinite(high) && low < high,
          "boot: validate_schedule: t_min() = {} and t_max() = {}; both must be finite and t_min < t_max.", low, high);
  require(points >= 2, "boot: validate_schedule: points = {}; give at least 2, so that both ends are checked.", points);
  double last_time = low, last_lambda = 0;
  for (int i = 0; i < points; ++i) {
    const double t = i + 1 == points ? high : low + (high - low) * i / (points - 1);
    const double alpha = schedule.alpha(t), sigma = schedule.sigma(t), lambda = schedule_lambda(schedule, t);
    require(std::isfinite(alpha) && std::isfinite(sigma) && alpha >= 0 && sigma >= 0 && alpha + sigma > 0,
            "boot: validate_schedule: at t = {} alpha = {} and sigma = {}; both must be finite, >= 0 and not both 0. "
            "Correct "
            "the formula, or narrow [t_min, t_max] = [{}, {}].",
            t, alpha, sigma, low, high);
    require(std::isfinite(lambda) || (i == 0 && lambda < 0) || (i + 1 == points && lambda > 0),
            "boot: validate_schedule: at t = {} lambda = log(sigma/alpha) = {} (alpha = {}, sigma = {}); it may be "
            "-inf only "
            "at t_min and +inf only at t_max. Narrow [t_min, t_max] = [{}, {}].",
            t, lambda, alpha, sigma, low, high);
    if constexpr (schedule_has_lambda<S>) {
      const double expected = alpha == 0   ? detail::schedule_infinity
                              : sigma == 0 ? -detail::schedule_infinity
                                           : std::log(sigma / alpha);
      require(lambda == expected || std::abs(lambda - expected) <= 1e-6 * (1 + std::abs(expected)),
              "boot: validate_schedule: at t = {} the schedule's own lambda(t) = {}, but log(sigma/alpha) = {} (alpha "
              "= {}, "
              "sigma = {}). lambda is MINUS HALF the log signal-to-noise ratio: correct it or leave it out.",
              t, lambda, expected, alpha, sigma);
    }
    require(
        i == 0 || lambda > last_lambda,
        "boot: validate_schedule: lambda = log(sigma/alpha) must increase with t, but it is {} at t = {} and {} at t = "
        "{} (there alpha = {}, sigma = {}). If your times run from noise to data, use t_max - t.",
        last_lambda, last_time, lambda, t, alpha, sigma);
    if constexpr (schedule_has_dlambda<S>) {
      const double slope = schedule.dlambda(t);
      require(slope > 0,
              "boot: validate_schedule: at t = {} the schedule's own dlambda(t) = {}; it must be positive (+inf where "
              "unbounded). Correct it or leave it out.",
              t, slope);
    }
    last_time = t;
    last_lambda = lambda;
  }
}

}  // namespace boot::inline v0
