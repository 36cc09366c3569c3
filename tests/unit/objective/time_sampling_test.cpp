// SPDX-License-Identifier: MIT
/// Distributions of training times, the normal quantile behind one of them, and pairs of times.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/objective/time_sampling.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

using boot::time_distribution;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

double draw(std::uint64_t i) { return boot::uniform_double({2, boot::stream::test, 0}, i, 0); }

// Kolmogorov-Smirnov statistic times sqrt(n) of `n` positions against a distribution function.
template <class F>
double distance_to(const boot::time_options& o, double progress, const F& cdf) {
  constexpr std::size_t n = 20000;
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = boot::time_position(o, draw(i), progress);
  std::sort(x.begin(), x.end());
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double c = cdf(x[i]);
    worst = std::max({worst, std::abs(c - static_cast<double>(i) / n), std::abs(c - static_cast<double>(i + 1) / n)});
  }
  return worst * std::sqrt(static_cast<double>(n));
}
constexpr double likely = 2.2;  // exceeded once in 8,000 samples of the same distribution

}  // namespace

TEST_CASE("time_sampling: the normal quantile inverts the distribution function", "[objective][time_sampling]") {
  CHECK_THAT(boot::normal_quantile(0.5), WithinAbs(0, 1e-15));
  CHECK_THAT(boot::normal_quantile(0.975), WithinRel(1.959963984540054, 1e-14));
  CHECK_THAT(boot::normal_quantile(0.8413447460685429), WithinRel(1, 1e-13));
  CHECK_THAT(boot::normal_quantile(1e-10), WithinRel(-6.361340902404056, 1e-13));
  CHECK_THAT(boot::normal_quantile(0x1p-53), WithinRel(-8.209536151601387, 1e-13));
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const double u = i % 2 == 0 ? draw(i) : std::pow(draw(i), 20);
    if (u < 1e-300) continue;
    const double z = boot::normal_quantile(u);
    // Half the numbers are far in the lower tail, where the relative error of erfc^-1 shows.
    CHECK_THAT(0.5 * std::erfc(-z / std::sqrt(2.0)), WithinRel(u, 1e-13 * (1 + z * z)));
    if (u > 1e-3) CHECK_THAT(boot::normal_quantile(1 - u), WithinAbs(-z, 1e-12));
  }
}

TEST_CASE("time_sampling: each distribution is what it says", "[objective][time_sampling]") {
  CHECK(distance_to({}, 0, [](double x) { return x; }) < likely);
  for (const double progress : {0.0, 0.3, 0.6, 1.0}) {
    const double low = std::max(0.0, 1 - progress / 0.6);
    if (low == 1) continue;
    CHECK(distance_to({.kind = time_distribution::progressive}, progress,
                      [low](double x) { return (x - low) / (1 - low); }) < likely);
  }
  CHECK(distance_to({.kind = time_distribution::logit_normal, .mean = -0.4, .deviation = 1.3}, 0, [](double x) {
          return 0.5 * std::erfc(-(std::log(x / (1 - x)) + 0.4) / 1.3 / std::sqrt(2.0));
        }) < likely);
  CHECK(distance_to({.own = [](double u, double) { return u * u; }}, 0, [](double x) { return std::sqrt(x); }) <
        likely);
}

TEST_CASE("time_sampling: progressive begins at the noise end", "[objective][time_sampling]") {
  const boot::time_options o{.kind = time_distribution::progressive, .progressive_until = 0.5};
  for (std::uint64_t i = 0; i < 100; ++i) {
    CHECK(boot::time_position(o, draw(i), 0) == 1);
    CHECK(boot::time_position(o, draw(i), 0.25) >= 0.5);
    CHECK(boot::time_position(o, draw(i), 0.5) == draw(i));
  }
}

TEST_CASE("time_sampling: positions stay within [0, 1] at the ends of u", "[objective][time_sampling]") {
  for (const auto kind : {time_distribution::uniform, time_distribution::progressive, time_distribution::logit_normal})
    for (const double u : {0x1p-53, 0.5, 1 - 0x1p-53}) {
      const double p = boot::time_position({.kind = kind, .mean = 2, .deviation = 3}, u, 0.3);
      CHECK(p >= 0);
      CHECK(p <= 1);
    }
}

TEST_CASE("time_sampling: the user's own distribution gets the progress and is checked", "[objective][time_sampling]") {
  double seen = -1;
  const boot::time_options o{.kind = time_distribution::logit_normal, .own = [&seen](double u, double progress) {
                               seen = progress;
                               return u;
                             }};
  CHECK(boot::time_position(o, 0.25, 0.75) == 0.25);
  CHECK(seen == 0.75);
  for (const double bad : {-0.1, 1.1, std::nan("")})
    CHECK_THROWS_WITH(boot::time_position({.own = [bad](double, double) { return bad; }}, 0.5, 0),
                      ContainsSubstring("must stay within [0, 1]"));
}

TEST_CASE("time_sampling: a pair is delta apart and never leaves the range", "[objective][time_sampling]") {
  const double low = -2, high = 3, delta = 0.4;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const double u = i == 0 ? 0 : i == 1 ? 1 : draw(i);
    const auto [t, s] = boot::bootstrap_times(u, low, high, delta);
    CHECK_THAT(t - s, WithinAbs(delta, 1e-15 * 8));
    CHECK(s >= low);
    CHECK(t <= high);
    if (low + u * (high - low) - delta >= low) {
      CHECK(t == low + u * (high - low));
    } else {
      CHECK(s == low);  // t_min itself is trained
    }
  }
}
