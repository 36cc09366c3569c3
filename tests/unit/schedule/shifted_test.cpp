// SPDX-License-Identifier: MIT
/// shifted_schedule: r times a constant, the base's own invariant kept.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/cosine.hpp>
#include <boot/schedule/discrete.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/shifted.hpp>

#include <cmath>

using boot::shifted_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {
/// A user's schedule that names no path: shifts make it variance preserving.
struct own {
  double alpha(double t) const { return 2 * (1 - t); }
  double sigma(double t) const { return t; }
  double t_min() const { return 0.001; }
  double t_max() const { return 1; }
};
}  // namespace

TEST_CASE("shifted: every function agrees with shift times the base's ratio in long double", "[schedule]") {
  const auto tangent = [](long double t) {
    const long double half_pi = boot::testing::long_pi / 2;
    return 4 * (t < 0.5L ? std::tan(half_pi * t) : 1 / std::tan(half_pi * (1 - t)));
  };
  const auto flow = [](long double t) { return 3 * t / (1 - t); };
  const shifted_schedule cosine(boot::cosine_schedule{{.t_min = 0}}, {.shift = 4});
  boot::testing::check_schedule_properties(cosine, tangent, 5e-15, 1e-9);
  boot::testing::check_schedule_properties(shifted_schedule(boot::flow_schedule{}, {.shift = 3}), flow, 2e-15, 1e-9);
  const auto user = [](long double t) { return 0.25L * t / (1 - t); };
  boot::testing::check_schedule_properties(shifted_schedule(own{}, {.shift = 0.5}), user, 0, 1e-8);
}

TEST_CASE("shifted: the base's invariant holds and the ends stay exact", "[schedule]") {
  const shifted_schedule cosine(boot::cosine_schedule{}, {.shift = 4});
  const shifted_schedule flow(boot::flow_schedule{}, {.shift = 3});
  const shifted_schedule edm(boot::edm_schedule{}, {.shift = 2});
  const shifted_schedule user(own{}, {.shift = 0.5});
  for (int i = 1; i <= 1000; ++i) {
    const double t = i / 1000.0;
    REQUIRE(std::abs(std::hypot(cosine.alpha(t), cosine.sigma(t)) - 1) < 1e-15);
    REQUIRE(std::abs(std::hypot(user.alpha(t), user.sigma(t)) - 1) < 1e-15);
    REQUIRE(std::abs(flow.alpha(t) + flow.sigma(t) - 1) < 1e-15);
    REQUIRE(std::abs(flow.sigma(t) - 3 * t / (1 + 2 * t)) < 1e-15);  // the "shift" of flow-matching models
    REQUIRE(edm.alpha(t) == 1);
    REQUIRE(edm.sigma(t) == 2 * boot::edm_schedule{}.sigma(t));
  }
  REQUIRE(cosine.alpha(1) == 0);
  REQUIRE(cosine.sigma(1) == 1);
  REQUIRE(flow.alpha(1) == 0);
  REQUIRE(flow.sigma(1) == 1);
  REQUIRE(boot::signal_step(cosine, 1, 0.5) == 1);
  REQUIRE(boot::signal_step(cosine, 0.7, 0.5) == boot::signal_step(cosine.base(), 0.7, 0.5));
}

TEST_CASE("shifted: tables and shifts of shifts", "[schedule]") {
  const boot::discrete_schedule table;
  const shifted_schedule once(table, {.shift = 8});
  const shifted_schedule<shifted_schedule<boot::discrete_schedule>> twice(shifted_schedule(table, {.shift = 2}),
                                                                          {.shift = 4});
  for (const double t : {0.0, 10.5, 500.0, 999.0}) {
    REQUIRE(std::abs(once.alpha(t) / twice.alpha(t) - 1) < 1e-14);
    REQUIRE(std::abs(boot::noise_to_signal(once, t) / boot::noise_to_signal(table, t) / 8 - 1) < 1e-14);
  }
  REQUIRE_NOTHROW(boot::validate_schedule(twice));
}

TEST_CASE("shifted: a shift that is not a positive number is refused", "[schedule]") {
  for (const double shift : {0.0, -4.0, HUGE_VAL, std::nan("")}) {
    const auto text = message_of([&] { shifted_schedule(boot::flow_schedule{}, {.shift = shift}); });
    REQUIRE_THAT(text, ContainsSubstring("shifted_schedule: shift = ") && ContainsSubstring("side/64"));
  }
}
