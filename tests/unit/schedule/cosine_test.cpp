// SPDX-License-Identifier: MIT
/// cosine_schedule against long double, its exact ends and its errors.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/cosine.hpp>

#include <cmath>
#include <limits>

using boot::cosine_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("cosine: every function agrees with tan(pi t/2) in long double", "[schedule]") {
  const auto ratio = [](long double t) {
    const long double half_pi =
        boot::testing::long_pi / 2;  // near the noise end from 1 - t, as tan's pole would lose it
    return t < 0.5L ? std::tan(half_pi * t) : 1 / std::tan(half_pi * (1 - t));
  };
  boot::testing::check_schedule_properties(cosine_schedule{}, ratio, 5e-15, 1e-9);
  boot::testing::check_schedule_properties(cosine_schedule{{.t_min = 0}}, ratio, 5e-15, 1e-9);
  boot::testing::check_schedule_properties(cosine_schedule{{.t_min = 0.2, .t_max = 0.9}}, ratio, 5e-15, 1e-9);
}

TEST_CASE("cosine: variance preserving and exact at its ends", "[schedule]") {
  const cosine_schedule schedule{{.t_min = 0}};
  for (int i = 0; i <= 1000; ++i) {
    const double t = i / 1000.0, a = schedule.alpha(t), s = schedule.sigma(t);
    REQUIRE(std::abs(a * a + s * s - 1) <= 4e-16);
  }
  REQUIRE(schedule.alpha(0) == 1);
  REQUIRE(schedule.sigma(0) == 0);
  REQUIRE(schedule.alpha(1) == 0);
  REQUIRE(schedule.sigma(1) == 1);
  for (const double distance : {0x1p-10, 0x1p-30, 0x1p-50}) {  // alpha keeps its digits next to t = 1
    const auto exact = std::sin(boot::testing::long_pi / 2 * static_cast<long double>(distance));
    REQUIRE(std::abs(static_cast<long double>(schedule.alpha(1 - distance)) / exact - 1) < 4e-16L);
  }
  REQUIRE(schedule.lambda(0) == -std::numeric_limits<double>::infinity());
  REQUIRE(schedule.lambda(1) == std::numeric_limits<double>::infinity());
  REQUIRE(boot::inverse_dlambda(schedule, 0) == 0);
  REQUIRE(boot::inverse_dlambda(schedule, 1) == 0);
  REQUIRE(boot::signal_step(schedule, 1, 0.96) == 1);
  REQUIRE(cosine_schedule{}.t_min() == 0.001);
  REQUIRE(cosine_schedule{}.t_max() == 1);
}

TEST_CASE("cosine: a range outside [0, 1] is refused with the values", "[schedule]") {
  const auto make = [](double low, double high) {
    return message_of([&] {
      cosine_schedule schedule{{.t_min = low, .t_max = high}};
      (void)schedule;
    });
  };
  REQUIRE(make(0, 1) == "no error");
  REQUIRE_THAT(make(-0.5, 1), ContainsSubstring("cosine_schedule: t_min = -0.5 and t_max = 1"));
  REQUIRE_THAT(make(0, 1.5), ContainsSubstring("0 <= t_min < t_max <= 1"));
  REQUIRE_THAT(make(0.5, 0.5), ContainsSubstring("t_min = 0.5 and t_max = 0.5"));
  REQUIRE_THAT(make(std::nan(""), 1), ContainsSubstring("t_min = nan"));
}
