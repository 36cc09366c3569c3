// SPDX-License-Identifier: MIT
/// boot::fail and boot::require: what they throw and when.
#include "support/catch.hpp"

#include <boot/core/error.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>

static_assert(std::is_base_of_v<std::runtime_error, boot::error>);

TEST_CASE("fail throws boot::error with the formatted text", "[core][error]") {
  try {
    boot::fail("delta is {}, needs to be in (0, {:.2f}]: choose a smaller one", 3, 0.5);
    FAIL("fail returned");
  } catch (const boot::error& e) {
    REQUIRE(std::string(e.what()) == "delta is 3, needs to be in (0, 0.50]: choose a smaller one");
  }
}

TEST_CASE("an error can be caught without naming boot", "[core][error]") {
  REQUIRE_THROWS_AS(boot::fail("plain"), std::runtime_error);
  REQUIRE_THROWS_AS(boot::fail("plain"), std::exception);
}

TEST_CASE("require throws only when its condition is false", "[core][error]") {
  REQUIRE_NOTHROW(boot::require(true, "never seen {}", 1));
  REQUIRE_THROWS_AS(boot::require(false, "seen {}", 1), boot::error);
  REQUIRE_THROWS_WITH(boot::require(false, "got {} samples, need {}", 7, std::string("eight")),
                      "got 7 samples, need eight");
}

TEST_CASE("braces and percent signs of arguments stay as they are", "[core][error]") {
  REQUIRE_THROWS_WITH(boot::fail("{{{}}}", "a {} %s b"), "{a {} %s b}");
}
