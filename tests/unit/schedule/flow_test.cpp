// SPDX-License-Identifier: MIT
/// flow_schedule against long double, its exact ends and its errors.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/flow.hpp>

#include <limits>

using boot::flow_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("flow: every function agrees with t/(1 - t) in long double", "[schedule]") {
  const auto ratio = [](long double t) { return t / (1 - t); };
  boot::testing::check_schedule_properties(flow_schedule{}, ratio, 2e-15, 1e-9);
  boot::testing::check_schedule_properties(flow_schedule{{.t_min = 0}}, ratio, 2e-15, 1e-9);
  boot::testing::check_schedule_properties(flow_schedule{{.t_min = 0.1, .t_max = 0.98}}, ratio, 2e-15, 1e-9);
}

TEST_CASE("flow: linear path, exact at its ends", "[schedule]") {
  const flow_schedule schedule{{.t_min = 0}};
  for (int i = 0; i <= 1000; ++i) {
    const double t = i / 1000.0;
    REQUIRE(schedule.alpha(t) + schedule.sigma(t) == 1);
  }
  REQUIRE(schedule.alpha(1) == 0);
  REQUIRE(schedule.sigma(0) == 0);
  REQUIRE(schedule.lambda(0) == -std::numeric_limits<double>::infinity());
  REQUIRE(schedule.lambda(1) == std::numeric_limits<double>::infinity());
  REQUIRE(boot::inverse_dlambda(schedule, 0) == 0);
  REQUIRE(boot::inverse_dlambda(schedule, 1) == 0);
  REQUIRE(boot::inverse_dlambda(schedule, 0.25) == 0.1875);
  REQUIRE(boot::signal_step(schedule, 0.5, 0.25) == 2.0 / 3);
}

TEST_CASE("flow: a range outside [0, 1] is refused with the values", "[schedule]") {
  const auto make = [](const boot::flow_options& options) {
    return message_of([&] {
      flow_schedule schedule{options};
      (void)schedule;
    });
  };
  REQUIRE_THAT(make({.t_max = 1000}), ContainsSubstring("flow_schedule: t_min = 0.001 and t_max = 1000"));
  REQUIRE_THAT(make({.t_min = -1}), ContainsSubstring("0 <= t_min < t_max <= 1"));
}
