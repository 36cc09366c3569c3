// SPDX-License-Identifier: MIT
/// mmd and median_bandwidth: SciPy's values, unbiasedness, invariances, messages.
#include "golden/metric_fixtures.hpp"
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/metric/mmd.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using view_in = boot::view<const float, boot::cpu>;

std::vector<float> normals(std::int64_t n, std::uint64_t seed) {
  std::vector<float> x(static_cast<std::size_t>(n));
  boot::fill_normal(x.data(), n, {seed, boot::stream::test, 0}, 0);
  return x;
}

bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

}  // namespace

TEST_CASE("mmd agrees with SciPy", "[metric]") {
  const std::vector<float> a = golden::samples(golden::a), b = golden::samples(golden::b),
                           c = golden::samples(golden::c);
  const view_in va(a.data(), {200, 6}), vb(b.data(), {150, 6}), vc(c.data(), {200, 6});
  // Kernel values are at most 1 and within 1e-7 of those in double: distances are float sums of six squares.
  CHECK(std::abs(boot::mmd(boot::cpu{}, va, vb, {.bandwidths = {1.0}}).squared - golden::mmd_sigma_1) < 1e-7);
  CHECK(std::abs(boot::mmd(boot::cpu{}, va, vc, {.bandwidths = {0.5, 2.0, 8.0}}).squared - golden::mmd_sigmas) < 1e-7);
  const auto by_median = boot::mmd(boot::cpu{}, va, vb);
  CHECK(std::abs(by_median.squared - golden::mmd_median_a_b) < 1e-7);
  REQUIRE(by_median.bandwidths.size() == 1);
  CHECK(by_median.bandwidths[0] == Catch::Approx(golden::median_bandwidth_a_b).epsilon(1e-6));
  CHECK(same_bits(by_median.bandwidths[0], boot::median_bandwidth(boot::cpu{}, va, vb)));
}

TEST_CASE("mmd of few samples is the sum written out", "[metric]") {
  const std::vector<float> x{0, 1}, y{0, 2, 4};
  const auto k = [](double distance) { return std::exp(-distance * distance / (2 * 1.5 * 1.5)); };
  const double wanted = k(1) + (k(2) + k(4) + k(2)) / 3 - 2.0 / 6 * (k(0) + k(2) + k(4) + k(1) + k(1) + k(3));
  CHECK(boot::mmd(boot::cpu{}, view_in(x.data(), {2, 1}), view_in(y.data(), {3, 1}), {.bandwidths = {1.5}}).squared ==
        Catch::Approx(wanted).epsilon(1e-13));
  CHECK(boot::median_bandwidth(boot::cpu{}, view_in(x.data(), {2, 1}), view_in(y.data(), {3, 1})) == 2);
}

TEST_CASE("mmd between draws of one law is 0 on average, between two laws positive", "[metric]") {
  // For k = exp(-|a - b|^2 / (2 s^2)) and d-dimensional normals a fixed shift v gives
  // MMD^2 = 2 (s^2 / (s^2 + 2))^(d/2) (1 - exp(-|v|^2 / (2 (s^2 + 2)))).
  const std::int64_t n = 40, d = 3, repeats = 400;
  const double s = 1.5, shift = 0.75;
  double mean = 0, square = 0, moved_mean = 0, moved_square = 0;
  for (std::int64_t r = 0; r < repeats; ++r) {
    const std::vector<float> x = normals(n * d, static_cast<std::uint64_t>(100 + 2 * r));
    std::vector<float> y = normals(n * d, static_cast<std::uint64_t>(101 + 2 * r));
    const view_in vx(x.data(), {n, d}), vy(y.data(), {n, d});
    const double same = boot::mmd(boot::cpu{.threads = 1}, vx, vy, {.bandwidths = {s}}).squared;
    for (std::size_t i = 0; i < y.size(); i += 3) y[i] += static_cast<float>(shift);
    const double moved = boot::mmd(boot::cpu{.threads = 1}, vx, vy, {.bandwidths = {s}}).squared;
    mean += same / repeats;
    square += same * same / repeats;
    moved_mean += moved / repeats;
    moved_square += moved * moved / repeats;
  }
  const double wanted = 2 * std::pow(s * s / (s * s + 2), 1.5) * (1 - std::exp(-shift * shift / (2 * (s * s + 2))));
  CHECK(std::abs(mean) < 4 * std::sqrt(square / repeats));
  CHECK(std::abs(moved_mean - wanted) < 4 * std::sqrt((moved_square - moved_mean * moved_mean) / repeats));
  CHECK(moved_mean > 10 * std::abs(mean));
}

TEST_CASE("mmd does not change when both sets are shifted, nor with units", "[metric]") {
  std::vector<float> x = normals(400, 1), y = normals(360, 2);
  for (std::vector<float>* set : {&x, &y})
    for (float& v : *set) v = std::floor(v * 64) / 64;  // so that the shift below is exact
  for (float& v : y) v *= 2;
  const view_in vx(x.data(), {100, 4}), vy(y.data(), {90, 2, 2});
  const auto before = boot::mmd(boot::cpu{}, vx, vy);
  for (std::vector<float>* set : {&x, &y})
    for (float& v : *set) v = 4 * (v + 512);
  const auto after = boot::mmd(boot::cpu{}, vx, vy);
  CHECK(before.squared > 0.01);
  CHECK(after.squared == Catch::Approx(before.squared).epsilon(1e-12));
  CHECK(after.bandwidths[0] == Catch::Approx(4 * before.bandwidths[0]).epsilon(1e-14));
  CHECK(boot::mmd(boot::cpu{}, vy, vx).squared == Catch::Approx(after.squared).epsilon(1e-12));
}

TEST_CASE("median_bandwidth thins large sets evenly", "[metric]") {
  // 1000 samples at 0, then 1000 at 1: evenly taken, either half is 256 of 512, and so is the set y.
  std::vector<float> x(2000, 0.0f);
  for (std::size_t i = 1000; i < 2000; ++i) x[i] = 1;
  const std::vector<float> y = normals(2000, 3);
  const double median = boot::median_bandwidth(boot::cpu{}, view_in(y.data(), {2000, 1}), view_in(y.data(), {2000, 1}));
  CHECK(median == Catch::Approx(0.954).epsilon(0.1));  // the median of |N(0, 2)|
  const view_in vx(x.data(), {2000, 1});
  CHECK(boot::median_bandwidth(boot::cpu{}, vx, vx) == 1);  // slightly more than half of all pairs differ
}

TEST_CASE("mmd has the same bits for every number of threads", "[metric]") {
  const std::vector<float> x = normals(333 * 9, 4), y = normals(290 * 9, 5);
  const view_in vx(x.data(), {333, 9}), vy(y.data(), {290, 9});
  const auto one = boot::mmd(boot::cpu{.threads = 1}, vx, vy);
  CHECK(one.bandwidths[0] > 0);
  for (int t = 2; t <= 3; ++t) {
    const auto other = boot::mmd(boot::cpu{.threads = t}, vx, vy);
    CHECK(same_bits(other.squared, one.squared));
    CHECK(same_bits(other.bandwidths[0], one.bandwidths[0]));
  }
}

TEST_CASE("mmd says what is wrong", "[metric]") {
  using Catch::Matchers::ContainsSubstring;
  std::vector<float> x = normals(40, 6);
  const view_in four(x.data(), {10, 4});
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, four, four.rows(0, 1)),
                    ContainsSubstring("y of shape [1, 4], needs at least 2 samples"));
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, four, view_in(x.data(), {8, 5})), ContainsSubstring("not 4 and 5 elements"));
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, four, four, {.bandwidths = {1.0, 0.0}}),
                    ContainsSubstring("the bandwidth 0, needs positive finite ones"));
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, four, four, {.bandwidths = {std::numeric_limits<double>::quiet_NaN()}}),
                    ContainsSubstring("the bandwidth nan"));
  const std::vector<float> equal(40, 1.0f);
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, view_in(equal.data(), {10, 4}), view_in(equal.data(), {10, 4})),
                    ContainsSubstring("a median distance of 0"));
  x[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(boot::mmd(boot::cpu{}, four, four),
                    ContainsSubstring("x with the value nan in sample 1, element 1"));
}
