// SPDX-License-Identifier: MIT
/// edm_schedule against the warp in long double, its exact ends and its errors.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/edm.hpp>

#include <cmath>

using boot::edm_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {
auto ratio_of(double sigma_min, double sigma_max, double rho) {
  return [=](long double t) {
    const auto power = static_cast<long double>(rho);
    const long double low = std::pow(static_cast<long double>(sigma_min), 1 / power);
    const long double high = std::pow(static_cast<long double>(sigma_max), 1 / power);
    return std::pow(low + t * (high - low), power);
  };
}
}  // namespace

TEST_CASE("edm: every function agrees with the warp in long double", "[schedule]") {
  boot::testing::check_schedule_properties(edm_schedule{}, ratio_of(0.002, 80, 7), 1e-14, 1e-9);
  const edm_schedule wide{{.sigma_min = 0.01, .sigma_max = 157, .rho = 3}};
  boot::testing::check_schedule_properties(wide, ratio_of(0.01, 157, 3), 1e-14, 1e-9);
}

TEST_CASE("edm: exact at its ends, the Karras grid in between", "[schedule]") {
  const edm_schedule schedule;
  REQUIRE(schedule.alpha(0.3) == 1);
  REQUIRE(schedule.sigma(0) == 0.002);
  REQUIRE(schedule.sigma(1) == 80);
  // sigma_i = (80^(1/7) + i/17 (.002^(1/7) - 80^(1/7)))^7 of an 18-step grid, i = 1 and 9, in 50 digits
  REQUIRE(std::abs(schedule.sigma(1 - 1 / 17.0) / 57.58598472124816 - 1) < 1e-13);
  REQUIRE(std::abs(schedule.sigma(1 - 9 / 17.0) / 1.9233398370400499 - 1) < 1e-13);
  // steps of 1/25 cover less than all of the range of log(sigma), unlike t = sigma
  REQUIRE(boot::signal_step(schedule, 1, 0.96) < 0.25);
}

TEST_CASE("edm: sigmas and rho that do not fit are refused with the values", "[schedule]") {
  const auto make = [](const boot::edm_options& options) {
    return message_of([&] {
      edm_schedule schedule{options};
      (void)schedule;
    });
  };
  REQUIRE_THAT(make({.sigma_min = 0}), ContainsSubstring("edm_schedule: sigma_min = 0 and sigma_max = 80"));
  REQUIRE_THAT(make({.sigma_min = 3, .sigma_max = 2}), ContainsSubstring("0 < sigma_min < sigma_max"));
  REQUIRE_THAT(make({.sigma_max = HUGE_VAL}), ContainsSubstring("both finite"));
  REQUIRE_THAT(make({.rho = 0}), ContainsSubstring("rho = 0"));
  REQUIRE_THAT(make({.rho = 1e300}), ContainsSubstring("too large"));
}
