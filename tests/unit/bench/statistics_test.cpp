// SPDX-License-Identifier: MIT
/// Order statistics against values worked out by hand, and paired rounds on a machine whose speed we decide.
#include "support/catch.hpp"

#include <boot/bench/statistics.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace bench = boot::bench;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A machine on which time passes only when a side works: `weather(now)` is how much longer everything takes at a time.
struct fake_machine {
  double now = 0;
  double (*weather)(double) = [](double) { return 1.; };

  auto side(double cost, std::string* order = nullptr, char letter = '?') {
    return [this, cost, order, letter] {
      if (order != nullptr) *order += letter;
      const double seconds = cost * weather(now);
      now += seconds;
      return seconds;
    };
  }
};

std::vector<double> random_values(std::size_t n) {
  std::mt19937_64 engine(std::random_device{}());
  std::vector<double> out(n);
  for (double& v : out) v = std::lognormal_distribution<double>(0, 1)(engine);
  return out;
}

}  // namespace

TEST_CASE("quantiles are linear between neighbours", "[bench]") {
  // numpy.quantile([1, 2, 4, 8], [0, .25, .5, .75, 1]) = [1, 1.75, 3, 5, 8]
  const std::vector<double> v{1, 2, 4, 8};
  CHECK(bench::quantile(v, 0) == 1);
  CHECK(bench::quantile(v, .25) == 1.75);
  CHECK(bench::quantile(v, .5) == 3);
  CHECK(bench::quantile(v, .75) == 5);
  CHECK(bench::quantile(v, 1) == 8);
  CHECK(bench::quantile(std::vector<double>{3}, .9) == 3);
  CHECK_THROWS_WITH(bench::quantile(std::vector<double>{}, .5), ContainsSubstring("measure at least once"));
  CHECK_THROWS_WITH(bench::quantile(v, 1.5), ContainsSubstring("share in [0, 1]"));
  CHECK_THROWS_WITH(bench::quantile(v, std::nan("")), ContainsSubstring("share in [0, 1]"));
  CHECK_THROWS_WITH(bench::quantile(std::vector<double>{2, 1}, .5), ContainsSubstring("sort them"));
}

TEST_CASE("a summary is right, whatever the order of the values", "[bench]") {
  const bench::summary s = bench::summarize({8, 1, 4, 2});
  CHECK(s.count == 4);
  CHECK(s.smallest == 1);
  CHECK(s.lower_quartile == 1.75);
  CHECK(s.median == 3);
  CHECK(s.upper_quartile == 5);
  CHECK(s.largest == 8);
  CHECK(s.median_deviation == 1.5);  // |v - 3| = 2 1 1 5
  CHECK(s.relative_spread() == Catch::Approx(3.25 / 3));

  // The median has as many values on either side, and half of the values lie within the median deviation.
  const std::vector<double> values = random_values(1001);
  const bench::summary r = bench::summarize(values);
  std::size_t below = 0, near_median = 0;
  for (const double v : values) {
    below += v < r.median ? 1U : 0U;
    near_median += std::abs(v - r.median) <= r.median_deviation ? 1U : 0U;
  }
  CHECK(below == 500);
  CHECK(near_median == 501);
}

TEST_CASE("a summary refuses what is no number", "[bench]") {
  CHECK_THROWS_WITH(bench::summarize({}), ContainsSubstring("at least one round"));
  CHECK_THROWS_WITH(bench::summarize({1, std::nan(""), 2}), ContainsSubstring("value 1 of 3 is nan"));
  CHECK_THROWS_WITH(bench::summarize({std::numeric_limits<double>::infinity()}), ContainsSubstring("finite"));
}

TEST_CASE("the relative spread has its ends", "[bench]") {
  CHECK(bench::summarize({5}).relative_spread() == 0);
  CHECK(bench::summarize({0, 0, 0}).relative_spread() == 0);
  CHECK(std::isinf(bench::summarize({-1, -1, 0, 1, 1}).relative_spread()));
}

TEST_CASE("paired rounds alternate the order and throw the warm-up away", "[bench]") {
  fake_machine m;
  std::string order;
  const auto r = bench::paired_rounds(m.side(3, &order, 'A'), m.side(2, &order, 'B'), {.rounds = 4, .warm_up = 2});
  CHECK(order == "ABBAABBAABBA");
  CHECK(r.seconds_a == std::vector<double>(4, 3.));
  CHECK(r.seconds_b == std::vector<double>(4, 2.));
  CHECK(r.ratios == std::vector<double>(4, 1.5));
  CHECK(r.ratio.median == 1.5);
  CHECK(r.ratio.relative_spread() == 0);

  order.clear();
  static_cast<void>(bench::paired_rounds(m.side(3, &order, 'A'), m.side(2, &order, 'B'),
                                         {.rounds = 3, .warm_up = 0, .alternate = false}));
  CHECK(order == "ABABAB");
}

TEST_CASE("a machine that halves its speed midway leaves the paired ratio alone", "[bench]") {
  fake_machine m{.now = 0, .weather = [](double now) { return now < 20 ? 1. : 2.; }};
  const auto r = bench::paired_rounds(m.side(1.4), m.side(2), {.rounds = 16, .warm_up = 0});
  CHECK(r.ratio.median == Catch::Approx(.7).epsilon(1e-12));
  CHECK(r.a.largest == Catch::Approx(2 * r.a.smallest));  // the change was there, and it was seen

  // The same two sides one after the other: the ratio of their medians is far off.
  fake_machine n{.now = 0, .weather = m.weather};
  std::vector<double> a, b;
  for (int i = 0; i < 16; ++i) a.push_back(n.side(1.4)());
  for (int i = 0; i < 16; ++i) b.push_back(n.side(2)());
  CHECK(bench::summarize(a).median / bench::summarize(b).median < .5);
}

TEST_CASE("a steady drift cancels when the order alternates, and does not when it does not", "[bench]") {
  const auto measured = [](bool alternate) {
    fake_machine m{.now = 0, .weather = [](double now) { return std::exp(.05 * now); }};
    return bench::paired_rounds(m.side(1e-1), m.side(1e-1), {.rounds = 64, .warm_up = 0, .alternate = alternate})
        .ratio.median;
  };
  const double bias_alternating = std::abs(measured(true) - 1), bias_fixed = std::abs(measured(false) - 1);
  CHECK(bias_fixed > 4e-3);
  CHECK(bias_alternating < bias_fixed / 50);
}

TEST_CASE("a few rounds with a spike do not move the median ratio", "[bench]") {
  std::mt19937_64 engine(std::random_device{}());
  std::uniform_real_distribution<double> wobble(.99, 1.01);
  int round = 0;
  const auto r = bench::paired_rounds([&] { return .75 * wobble(engine) * (round++ % 5 == 4 ? 30 : 1); },
                                      [&] { return wobble(engine); }, {.rounds = 40, .warm_up = 0});
  CHECK(r.ratio.median > .75 * .98);
  CHECK(r.ratio.median < .75 * 1.03);
  CHECK(r.ratio.largest > 20);
  CHECK(r.ratio.count == 40);
  for (std::size_t i = 0; i < r.ratios.size(); ++i) CHECK(r.ratios[i] == r.seconds_a[i] / r.seconds_b[i]);
}

TEST_CASE("paired rounds refuse impossible times and options", "[bench]") {
  const auto one = [] { return 1.; };
  CHECK_THROWS_WITH(bench::paired_rounds(one, one, {.rounds = 0}), ContainsSubstring("at least 1"));
  CHECK_THROWS_WITH(bench::paired_rounds(one, one, {.rounds = 1, .warm_up = -1}), ContainsSubstring("0 or more"));
  CHECK_THROWS_WITH(bench::paired_rounds([] { return 0.; }, one), ContainsSubstring("side A took 0"));
  CHECK_THROWS_WITH(bench::paired_rounds(one, [] { return std::nan(""); }), ContainsSubstring("side B took nan"));
  CHECK_THROWS_WITH(bench::paired_rounds(one, [] { return -1.; }), ContainsSubstring("positive time"));
}
