// SPDX-License-Identifier: MIT
/// What every schedule must satisfy, checked against the schedule's own formula evaluated in long double.
#pragma once

#include "support/catch.hpp"

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

namespace boot::testing {

inline constexpr long double long_pi = 3.141592653589793238462643383279502884L;

/// Text of the boot::error that `call` throws, or "no error".
template <class F>
std::string message_of(const F& call) {
  try {
    call();
  } catch (const error& caught) {
    return caught.what();
  }
  return "no error";
}

/// A generator with a new seed in each run; the seed is printed with a failure by INFO(seed) at the caller.
inline unsigned fresh_seed() { return std::random_device{}(); }

/// Checks the functions of noise_schedule.hpp on random times; `ratio` is r(t) = sigma/alpha in long double, from an
/// independent formula. `step_tolerance` is the relative error allowed for D however small, 0 to ask only for an
/// absolute error of 1e-14 (1 + |lambda|). `slope_tolerance` is the relative error allowed for lambda'; with
/// `integer_knots` lambda' jumps at integers and is checked away from them.
template <class S, class Ratio>
void check_schedule_properties(const S& schedule, const Ratio& ratio, double step_tolerance, double slope_tolerance,
                               bool integer_knots = false) {
  const unsigned seed = fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 generator(seed);
  const double low = schedule.t_min(), high = schedule.t_max(), range = high - low;
  std::uniform_real_distribution<double> times(low, high), exponents(-9, -1);
  const auto unit_at = [&](double t) {  // a double of lambda cannot be better than this times 1e-16
    return 1 + static_cast<double>(std::abs(std::log(ratio(static_cast<long double>(t)))));
  };
  for (int trial = 0; trial < 2000; ++trial) {
    const double t = times(generator);
    if (t <= low || t >= high) continue;
    INFO("t " << t);
    const double lambda = schedule_lambda(schedule, t), slope = schedule_dlambda(schedule, t);
    const auto expected = static_cast<double>(std::log(ratio(static_cast<long double>(t))));
    const double unit = unit_at(t);
    REQUIRE(std::abs(lambda - expected) <= 1e-14 * unit);
    REQUIRE(std::abs(std::log(schedule.sigma(t) / schedule.alpha(t)) - expected) <= 1e-14 * unit);
    REQUIRE(std::abs(noise_to_signal(schedule, t) / std::exp(expected) - 1) <= 2e-14 * unit);

    // lambda' by Richardson extrapolation of central differences of the long double formula
    const auto reach = static_cast<long double>(1e-4 * std::min(t - low, high - t) + 1e-3 * 1e-4 * low);
    const auto central = [&](long double h) { return (std::log(ratio(t + h)) - std::log(ratio(t - h))) / (2 * h); };
    const bool smooth = !integer_knots || static_cast<long double>(std::abs(t - std::round(t))) > 2 * reach;
    if (smooth && reach > 1e-8L * static_cast<long double>(range)) {
      const auto reference = static_cast<double>((4 * central(reach / 2) - central(reach)) / 3);
      REQUIRE(std::abs(slope / reference - 1) <= slope_tolerance);
      REQUIRE(std::abs(inverse_dlambda(schedule, t) * reference - 1) <= slope_tolerance);
    }

    // the inverse of lambda; its conditioning is 1/lambda'
    REQUIRE(std::abs(time_of_lambda(schedule, lambda) - t) <= 1e-14 * unit / slope + 4e-16 * (std::abs(t) + high));

    // D at any distance, near ones too
    const double s =
        trial % 2 == 0 ? times(generator) : std::max(low, t - range * std::pow(10.0, exponents(generator)));
    INFO("s " << s);
    const double step = signal_step(schedule, t, s);
    const long double exact = 1 - ratio(static_cast<long double>(s)) / ratio(static_cast<long double>(t));
    const auto magnitude = static_cast<double>(std::abs(exact));
    const double error = std::abs(static_cast<double>(static_cast<long double>(step) - exact));
    const double tolerance = step_tolerance > 0 ? step_tolerance * magnitude + 1e-17 : 1e-14 * unit * (1 + magnitude);
    REQUIRE(error <= tolerance);

    // composition of two steps down: r_c/r_a = (r_b/r_a) (r_c/r_b)
    std::array<double, 3> down{t, s, times(generator)};
    std::sort(down.begin(), down.end(), std::greater<>{});
    const double parts = (1 - signal_step(schedule, down[0], down[1])) * (1 - signal_step(schedule, down[1], down[2]));
    double largest_unit = 1;
    for (const double time : down)
      if (time > low && time < high) largest_unit = std::max(largest_unit, unit_at(time));
    CAPTURE(down[0], down[1], down[2], parts);
    REQUIRE(std::abs(parts - (1 - signal_step(schedule, down[0], down[2]))) <= 3e-15 * largest_unit);
  }

  // the very ends: a number or an infinity with a meaning, never NaN
  for (const double t : {low, low + range / 2, high}) {
    REQUIRE(signal_step(schedule, t, t) == 0);
    for (const double s : {low, low + range / 2, high}) {
      const double step = signal_step(schedule, t, s);
      const double factor = heun_factor(step);
      INFO("t " << t << " s " << s << " D " << step);
      REQUIRE_FALSE(std::isnan(step));
      REQUIRE_FALSE(std::isnan(factor));
      if (s < t) REQUIRE((step > 0 && step <= 1));
      if (s > t) REQUIRE(step < 0);
    }
    REQUIRE(inverse_dlambda(schedule, t) >= 0);
    REQUIRE(schedule_dlambda(schedule, t) > 0);
  }
  REQUIRE(time_of_lambda(schedule, -std::numeric_limits<double>::infinity()) == low);
  REQUIRE(time_of_lambda(schedule, std::numeric_limits<double>::infinity()) == high);
  REQUIRE_NOTHROW(validate_schedule(schedule, 1001));
}

}  // namespace boot::testing
