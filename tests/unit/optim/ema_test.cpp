// SPDX-License-Identifier: MIT
// Averages: the decays, and the power-function profile whose width is what was asked for.
#include "support/catch.hpp"

#include <boot/optim/ema.hpp>

#include <cmath>
#include <vector>

using Catch::Matchers::ContainsSubstring;

TEST_CASE("constant decay, with and without warm-up", "[optim][ema]") {
  CHECK(boot::ema_decay({.decay = 0.99, .warmup = false}, 0) == 0.99);
  CHECK(boot::ema_decay({.decay = 0.99}, 0) == Catch::Approx(0.1));
  CHECK(boot::ema_decay({.decay = 0.99}, 89) == Catch::Approx(90.0 / 99));
  CHECK(boot::ema_decay({.decay = 0.99}, 100000) == 0.99);
}

TEST_CASE("published exponents of the power function (Karras et al. 2024)", "[optim][ema]") {
  CHECK(boot::power_ema_exponent(0.05) == Catch::Approx(16.97).epsilon(1e-3));
  CHECK(boot::power_ema_exponent(0.10) == Catch::Approx(6.94).epsilon(1e-3));
  for (const double width : {0.01, 0.05, 0.1, 0.2, 0.28}) {
    const double g = boot::power_ema_exponent(width);
    CHECK(std::sqrt((g + 1) / ((g + 2) * (g + 2) * (g + 3))) == Catch::Approx(width).epsilon(1e-9));
  }
}

TEST_CASE("the weights that the decays give each step are the power function, with its width", "[optim][ema]") {
  const double width = GENERATE(0.05, 0.15);
  const boot::ema_options o{.relative_width = width};
  const int steps = 20000;
  std::vector<double> weight(steps);
  double left = 1;  // product of the decays behind step k
  for (int k = steps - 1; k >= 0; --k) {
    const double decay = boot::ema_decay(o, k);
    weight[static_cast<std::size_t>(k)] = left * (1 - decay);
    left *= decay;
  }
  CHECK(left == 0);  // the start is forgotten at the first update
  double sum = 0, mean = 0, square = 0;
  for (int k = 0; k < steps; ++k) {
    const double t = (k + 1.0) / steps, w = weight[static_cast<std::size_t>(k)];
    sum += w;
    mean += w * t;
    square += w * t * t;
  }
  CHECK(sum == Catch::Approx(1));
  const double gamma = boot::power_ema_exponent(width);
  CHECK(mean == Catch::Approx((gamma + 1) / (gamma + 2)).epsilon(1e-3));
  CHECK(std::sqrt(square - mean * mean) == Catch::Approx(width).epsilon(5e-3));
}

TEST_CASE("decays and widths that are none are refused", "[optim][ema]") {
  CHECK_NOTHROW(boot::validate(boot::ema_options{}));
  CHECK_THROWS_WITH(boot::validate(boot::ema_options{.decay = 1}), ContainsSubstring("[0, 1)"));
  CHECK_THROWS_AS(boot::validate(boot::ema_options{.decay = -0.1}), boot::error);
  CHECK_THROWS_WITH(boot::validate(boot::ema_options{.relative_width = 0.5}), ContainsSubstring("(0, 0.28]"));
  CHECK_THROWS_AS(boot::validate(boot::ema_options{.relative_width = -0.1}), boot::error);
  CHECK_THROWS_AS(boot::power_ema_exponent(0), boot::error);
}
