// SPDX-License-Identifier: MIT
// activation_arena: ranges that are held at once never overlap, nearly nothing is lost, and strays are stopped.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/arena.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
constexpr std::int64_t unit = boot::activation_plan::alignment;

// A random run: takes (bytes >= 0) and gives (~index of the take).
std::vector<std::int64_t> random_run(std::uint64_t seed, std::uint64_t length) {
  std::vector<std::int64_t> run, held;
  const boot::counter_key key{seed, boot::stream::test, 0};
  std::int64_t taken = 0;
  for (std::uint64_t i = 0; i < length; ++i) {
    if (held.empty() || boot::uniform_index(100, key, i, 0) < (i % 200 < 100 ? 60U : 40U)) {
      run.push_back(boot::uniform_index(boot::uniform_index(2, key, i, 3) == 0 ? 300 : 9000, key, i, 1));
      held.push_back(taken++);
    } else {
      const auto which = held.begin() + boot::uniform_index(static_cast<std::uint32_t>(held.size()), key, i, 2);
      run.push_back(~*which);
      held.erase(which);
    }
  }
  return run;
}

void repeat(boot::activation_arena& a, const std::vector<std::int64_t>& run) {
  for (const std::int64_t r : run) {
    if (r >= 0) {
      static_cast<void>(a.take(r));
    } else {
      a.give(static_cast<int>(~r));
    }
  }
}

}  // namespace

TEST_CASE("ranges that are held at once never overlap, and the block is hardly larger than what is held",
          "[nn][arena]") {
  const std::uint64_t seed = GENERATE(range(std::uint64_t{1}, std::uint64_t{9}));
  const auto run = random_run(seed, 800);
  boot::activation_arena a;
  a.record();
  repeat(a, run);
  const auto plan = a.packed();
  a.follow(plan);
  struct held_range {
    int number;
    std::int64_t begin, end;
  };
  std::vector<held_range> held;
  std::int64_t need = 0;
  for (const std::int64_t r : run) {
    if (r >= 0) {
      const int k = a.take(r);
      const std::int64_t begin = a.offset(k), end = begin + std::max<std::int64_t>(r, 1);
      REQUIRE(begin % unit == 0);
      REQUIRE(begin >= 0);
      REQUIRE(end <= plan->bytes);
      for (const auto& h : held) REQUIRE((end <= h.begin || h.end <= begin));
      held.push_back({k, begin, end});
    } else {
      std::erase_if(held, [&](const held_range& h) { return h.number == static_cast<int>(~r); });
      a.give(static_cast<int>(~r));
    }
    std::int64_t now = 0;
    for (const auto& h : held) now += (h.end - h.begin + unit - 1) / unit * unit;
    need = std::max(need, now);
  }
  CHECK(plan->bytes >= need);
  CHECK(static_cast<double>(plan->bytes) < 1.2 * static_cast<double>(need));
}

TEST_CASE("a long range does not pin down the ones around it", "[nn][arena]") {
  // First come, first placed would leave a hole behind `a` that `c` does not fit in.
  boot::activation_arena a;
  a.record();
  repeat(a, {200, 100, ~0, 300, ~2, 128, ~1, ~3});
  CHECK(a.packed()->bytes == 3 * unit + unit);
}

TEST_CASE("a run that strays from its plan is stopped at the next range it takes", "[nn][arena]") {
  boot::activation_arena a;
  a.record();
  repeat(a, {1000, 500, ~0, 1000, ~1, ~2});
  const auto plan = a.packed();
  const auto follow = [&](const std::vector<std::int64_t>& run) {
    a.follow(plan);
    repeat(a, run);
  };
  CHECK_NOTHROW(follow({1000, 500, ~0, 1000, ~1, ~2}));
  CHECK_NOTHROW(follow({1000, 500, ~0, 1000, ~2, ~1}));  // nothing is taken any more
  CHECK_THROWS_WITH(follow({1001 + unit}), ContainsSubstring("at range 0 of 3"));
  CHECK_THROWS_WITH(follow({1000, 500, 1000}), ContainsSubstring("must do the same at every call"));  // held for longer
  CHECK_THROWS_WITH(follow({1000, 500, ~1, 1000}), ContainsSubstring("at range 2 of 3"));             // the other one
  CHECK_THROWS_WITH(follow({1000, 500, ~0, 1000, ~1, ~2, 8}), ContainsSubstring("at range 3 of 3"));
  CHECK_NOTHROW(follow({1000, 500, ~0, 1000, ~1, ~2}));  // the next run knows nothing of it
}

TEST_CASE("an arena that nothing is taken from needs nothing", "[nn][arena]") {
  boot::activation_arena a;
  a.record();
  CHECK(a.packed()->bytes == 0);
  a.record();
  repeat(a, {0, 1});
  CHECK(a.packed()->bytes == 2 * unit);  // even a range of nothing has a place of its own
}
