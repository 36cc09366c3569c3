// SPDX-License-Identifier: MIT
/// Numbers of twice the digits against long double, at random inputs and at the ends.
#include "support/catch.hpp"

#include <boot/core/long_number.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>

namespace {

using real = long double;
using boot::detail::long_number;
constexpr int samples = 100000;

template <class C>
real value(const long_number<C>& x) {
  return static_cast<real>(x.high) + static_cast<real>(x.low);
}

}  // namespace

TEMPLATE_TEST_CASE("A product of long numbers has twice the digits", "[core][long_number]", float, double) {
  using C = TestType;
  std::mt19937_64 draw(71);
  std::uniform_real_distribution<double> exponent(-20, 20);
  // long double holds 64 bits, so that is where the reference of double ends.
  const real bound = std::ldexp(real{1}, sizeof(C) == 4 ? -45 : -62);
  real worst = 0, worst_short = 0;
  for (int i = 0; i < samples; ++i) {
    const real a = std::exp2(static_cast<real>(exponent(draw))), b = -std::exp2(static_cast<real>(exponent(draw)));
    const auto x = boot::detail::to_long_number<C>(a), y = boot::detail::to_long_number<C>(b);
    REQUIRE(std::abs(value(x) - a) <= a * std::ldexp(real{1}, sizeof(C) == 4 ? -47 : -64));
    const auto z = boot::detail::long_product(x, y);
    REQUIRE(z.high == static_cast<C>(z.high + z.low));
    worst = std::max(worst, std::abs(value(z) - a * b) / std::abs(a * b));
    const real c = static_cast<real>(y.high);
    worst_short =
        std::max(worst_short, std::abs(value(boot::detail::long_product(x, y.high)) - a * c) / std::abs(a * c));
  }
  CHECK(worst <= bound);
  CHECK(worst_short <= bound);
}

TEMPLATE_TEST_CASE("Sine and cosine of long numbers lose nothing to whole turns", "[core][long_number]", float,
                   double) {
  using C = TestType;
  std::mt19937_64 draw(72);
  std::uniform_real_distribution<double> any(-8000, 8000);
  real worst = 0;
  for (int i = 0; i < samples; ++i) {
    const auto x = boot::detail::to_long_number<C>(static_cast<real>(any(draw)));
    const real rest = std::remainder(value(x), real{2}) * std::numbers::pi_v<real>;
    C s = 2, c = 2;
    boot::detail::sincospi(x, s, c);
    worst = std::max({worst, std::abs(s - std::sin(rest)), std::abs(c - std::cos(rest))});
  }
  CHECK(worst <= 3 * static_cast<real>(std::numeric_limits<C>::epsilon()));
}

TEMPLATE_TEST_CASE("Powers of long numbers are exponentials", "[core][long_number]", float, double) {
  using C = TestType;
  const double slope = -std::log(10000.0) / 4096;
  const boot::detail::long_powers<C> powers(slope, 65536);
  real worst = 0;
  for (std::int64_t i = 0; i < 8192; ++i) {
    const real want = real{1.5} * std::exp(static_cast<real>(slope) * static_cast<real>(i));
    worst = std::max(worst, std::abs(value(powers.times({C(1.5), 0}, i)) - want) / want);
  }
  CHECK(worst <= std::ldexp(real{1}, sizeof(C) == 4 ? -43 : -59));
  CHECK(powers.times({C(7), 0}, 0).high == C(7));
  CHECK_THROWS_AS(boot::detail::long_powers<C>(slope, 65537), boot::error);
}

TEST_CASE("The logarithm of a float has half as many digits again", "[core][long_number]") {
  std::mt19937_64 draw(73);
  std::uniform_real_distribution<float> exponent(-148, 127.99f);
  real worst = 0, near_one = 0;
  for (int i = 0; i < samples; ++i) {
    const float x = std::exp2(exponent(draw));
    const real want = std::log(static_cast<real>(x));
    worst =
        std::max(worst, std::abs(value(boot::detail::long_log(x)) - want) / std::max(std::abs(want), real{0.03125}));
    const float y = 1 + std::ldexp(exponent(draw), -10);
    const real small_ = std::log(static_cast<real>(y));
    if (y != 1) near_one = std::max(near_one, std::abs(value(boot::detail::long_log(y)) - small_) / std::abs(small_));
  }
  CHECK(worst <= std::ldexp(real{1}, -33));
  CHECK(near_one <= std::ldexp(real{1}, -35));
  CHECK(value(boot::detail::long_log(1.0f)) == 0);
  for (const float x : {0.0f, -0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    CHECK(std::isnan(boot::detail::long_log(x).high));
    CHECK(std::isnan(boot::detail::long_log(static_cast<double>(x)).high));
  }
  CHECK(boot::detail::long_log(8.0).high == std::log(8.0));
}
