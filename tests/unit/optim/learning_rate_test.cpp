// SPDX-License-Identifier: MIT
// The learning rate: warm-up, constant, half a cosine, and options that are none.
#include "support/catch.hpp"

#include <boot/optim/learning_rate.hpp>

#include <cmath>
#include <limits>

using Catch::Matchers::ContainsSubstring;

TEST_CASE("warm-up is linear and never zero, then constant", "[optim][rate]") {
  const boot::learning_rate_options o{.peak = 0.5, .warmup_steps = 4, .decay = boot::rate_decay::constant};
  CHECK(boot::learning_rate(o, 0, 100) == 0.125);
  CHECK(boot::learning_rate(o, 2, 100) == 0.375);
  CHECK(boot::learning_rate(o, 3, 100) == 0.5);
  CHECK(boot::learning_rate(o, 99, 100) == 0.5);
}

TEST_CASE("half a cosine over the whole run, down to its share", "[optim][rate]") {
  const double share = GENERATE(0.0, 0.1);
  const boot::learning_rate_options o{.peak = 2, .warmup_steps = 0, .final_share = share};
  CHECK(boot::learning_rate(o, 0, 1000) == 2);
  CHECK(boot::learning_rate(o, 500, 1000) == Catch::Approx(1 + share));
  CHECK(boot::learning_rate(o, 1000, 1000) == Catch::Approx(2 * share).margin(1e-15));
  for (int step = 1; step < 1000; ++step)
    REQUIRE(boot::learning_rate(o, step, 1000) < boot::learning_rate(o, step - 1, 1000));
  const boot::learning_rate_options warm{.peak = 2, .warmup_steps = 10};
  CHECK(boot::learning_rate(warm, 4, 1000) ==
        Catch::Approx(2 * 0.5 * 0.5 * (1 + std::cos(4 * 3.14159265358979 / 1000))));
}

TEST_CASE("rates that are none are refused", "[optim][rate]") {
  CHECK_NOTHROW(boot::validate(boot::learning_rate_options{}));
  CHECK_THROWS_WITH(boot::validate(boot::learning_rate_options{.peak = 0}), ContainsSubstring("positive"));
  CHECK_THROWS_AS(boot::validate(boot::learning_rate_options{.peak = std::numeric_limits<double>::quiet_NaN()}),
                  boot::error);
  CHECK_THROWS_AS(boot::validate(boot::learning_rate_options{.warmup_steps = -1}), boot::error);
  CHECK_THROWS_WITH(boot::validate(boot::learning_rate_options{.final_share = 2}), ContainsSubstring("[0, 1]"));
}
