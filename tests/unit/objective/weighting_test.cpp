// SPDX-License-Identifier: MIT
/// Weights of a pair of times: their formulas, limits and what they refuse.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/objective/weighting.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <cmath>
#include <limits>
#include <numbers>

using boot::weighting;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinRel;

namespace {

struct pair_weights {
  double exact, paper, upwind, step;
};
template <class S>
pair_weights weights(const S& z, double t, double s) {
  const double d = boot::signal_step(z, t, s);
  return {boot::bootstrap_weight(weighting::exact, {}, z, t, s, d, 0),
          boot::bootstrap_weight(weighting::paper, {}, z, t, s, d, 0),
          boot::bootstrap_weight(weighting::upwind, {}, z, t, s, d, 0), d};
}

}  // namespace

TEST_CASE("weighting: the three formulas, from the coefficients", "[objective][weighting]") {
  const boot::cosine_schedule cosine;
  const boot::flow_schedule flow;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const double t = 0.05 + 0.9 * boot::uniform_double({1, boot::stream::test, 0}, i, 0), s = t - 0.04;
    const double d = 1 - std::tan(std::numbers::pi / 2 * s) / std::tan(std::numbers::pi / 2 * t);
    const auto w = weights(cosine, t, s);
    CHECK_THAT(w.exact, WithinRel(1 / (d * d), 1e-11));
    CHECK_THAT(w.upwind, WithinRel(1 / d, 1e-11));
    CHECK_THAT(w.paper, WithinRel(std::pow(std::sin(std::numbers::pi * t) / (std::numbers::pi * 0.04), 2), 1e-11));
    const auto v = weights(flow, t, s);
    CHECK_THAT(v.exact, WithinRel(std::pow(1 - s * (1 - t) / ((1 - s) * t), -2), 1e-11));
    CHECK_THAT(v.paper, WithinRel(std::pow(t * (1 - t) / 0.04, 2), 1e-10));
  }
}

TEST_CASE("weighting: the paper's weight agrees with the exact one for small steps", "[objective][weighting]") {
  for (const double t : {0.2, 0.5, 0.9}) {
    const auto off = [&](double delta) {
      const auto w = weights(boot::linear_schedule{}, t, t - delta);
      return std::abs(w.paper / w.exact - 1);
    };
    CAPTURE(t);
    CHECK(off(1e-3) < 0.02);
    CHECK_THAT(off(1e-4) / off(1e-3), WithinRel(0.1, 0.02));  // first order
  }
}

TEST_CASE("weighting: at the ends exact is at least 1 and paper goes to 0", "[objective][weighting]") {
  const boot::cosine_schedule whole({.t_min = 0, .t_max = 1});
  const auto noise = weights(whole, 1, 0.96), data = weights(whole, 0.04, 0);
  for (const auto& w : {noise, data}) {
    CHECK(w.step == 1);
    CHECK(w.exact == 1);
    CHECK(w.upwind == 1);
  }
  CHECK(noise.paper == 0);
  CHECK(data.paper < 1.01);
  // The step is never cut short, so no weight exceeds that of the middle: ((1 + sin x)/(2 sin x))^2, x = pi delta/2.
  const boot::cosine_schedule z;
  double largest = 0;
  for (int i = 0; i <= 1000; ++i) {
    const double t = 0.001 + 0.04 * 0.999 + (0.999 - 0.04 * 0.999) * i / 1000.0;
    const auto w = weights(z, t, t - 0.04 * 0.999);
    CHECK(w.exact >= 1);
    CHECK_THAT(w.upwind * w.upwind, WithinRel(w.exact, 1e-12));
    largest = std::max(largest, w.exact);
  }
  const double sine = std::sin(std::numbers::pi / 2 * 0.04 * 0.999);
  CHECK_THAT(largest, WithinRel(std::pow((1 + sine) / (2 * sine), 2), 1e-5));
}

TEST_CASE("weighting: the user's own gets its arguments and is checked", "[objective][weighting]") {
  const boot::edm_schedule z;
  boot::weight_arguments seen{};
  const boot::weight_function own = [&seen](const boot::weight_arguments& a) {
    seen = a;
    return 2.5;
  };
  CHECK(boot::bootstrap_weight(weighting::exact, own, z, 0.5, 0.4, 0.3, 0.7) == 2.5);
  CHECK(seen.t == 0.5);
  CHECK(seen.s == 0.4);
  CHECK(seen.step == 0.3);
  CHECK(seen.delta == 0.5 - 0.4);
  CHECK(seen.progress == 0.7);
  CHECK(seen.dlambda == z.dlambda(0.5));
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_WITH(boot::bootstrap_weight(
                          weighting::exact, [bad](const boot::weight_arguments&) { return bad; }, z, 0.5, 0.4, 0.3, 0),
                      ContainsSubstring("t = 0.5, s = 0.4") && ContainsSubstring("finite and not negative"));
  CHECK(boot::bootstrap_weight(
            weighting::exact, [](const boot::weight_arguments&) { return 0.0; }, z, 0.5, 0.4, 0.3, 0) == 0);
}
