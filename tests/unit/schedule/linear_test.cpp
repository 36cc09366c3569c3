// SPDX-License-Identifier: MIT
/// linear_schedule against long double, its ends and its errors.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/linear.hpp>

#include <cmath>
#include <limits>

using boot::linear_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {
auto ratio_of(double beta_min, double beta_max) {
  return [=](long double t) {
    const auto b0 = static_cast<long double>(beta_min), b1 = static_cast<long double>(beta_max);
    return std::sqrt(std::expm1(b0 * t + (b1 - b0) * t * t / 2));
  };
}
}  // namespace

TEST_CASE("linear: every function agrees with the integral of beta in long double", "[schedule]") {
  boot::testing::check_schedule_properties(linear_schedule{}, ratio_of(0.1, 20), 2e-14, 1e-9);
  boot::testing::check_schedule_properties(linear_schedule{{.t_min = 0}}, ratio_of(0.1, 20), 2e-14, 1e-9);
  boot::testing::check_schedule_properties(linear_schedule{{.beta_min = 3, .beta_max = 3}}, ratio_of(3, 3), 2e-14,
                                           1e-9);
}

TEST_CASE("linear: variance preserving, known values at the ends", "[schedule]") {
  const linear_schedule schedule{{.t_min = 0}};
  for (int i = 0; i <= 1000; ++i) {
    const double t = i / 1000.0, a = schedule.alpha(t), s = schedule.sigma(t);
    REQUIRE(std::abs(a * a + s * s - 1) <= 4e-15);
  }
  REQUIRE(schedule.sigma(0) == 0);
  REQUIRE(schedule.alpha(0) == 1);
  REQUIRE(schedule.lambda(0) == -std::numeric_limits<double>::infinity());
  REQUIRE(boot::inverse_dlambda(schedule, 0) == 0);
  REQUIRE(boot::signal_step(schedule, 0.5, 0) == 1);
  REQUIRE(std::abs(schedule.alpha(1) / std::exp(-10.05 / 2) - 1) < 1e-15);
  REQUIRE(std::abs(boot::inverse_dlambda(schedule, 1) - 0.1 * -std::expm1(-10.05)) < 1e-15);  // 2 sigma^2/beta(1)
}

TEST_CASE("linear: betas and ranges that do not fit are refused with the values", "[schedule]") {
  const auto make = [](const boot::linear_options& options) {
    return message_of([&] {
      linear_schedule schedule{options};
      (void)schedule;
    });
  };
  REQUIRE_THAT(make({.beta_min = 0}), ContainsSubstring("linear_schedule: beta_min = 0 and beta_max = 20"));
  REQUIRE_THAT(make({.beta_min = 20, .beta_max = 0.1}), ContainsSubstring("0 < beta_min <= beta_max"));
  REQUIRE_THAT(make({.beta_max = 5000}), ContainsSubstring("underflow"));
  REQUIRE_THAT(make({.beta_max = std::nan("")}), ContainsSubstring("beta_max = nan"));
  REQUIRE_THAT(make({.t_max = 2}), ContainsSubstring("linear_schedule: t_min = 0.001 and t_max = 2"));
}
