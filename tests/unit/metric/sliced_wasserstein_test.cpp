// SPDX-License-Identifier: MIT
/// sliced_wasserstein2: an assignment problem solved by SciPy, closed forms for shifts, unequal counts, messages.
#include "golden/metric_fixtures.hpp"
#include "support/catch.hpp"

#include <boot/metric/sliced_wasserstein.hpp>

#include <algorithm>
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

TEST_CASE("sliced_wasserstein2 along given lines agrees with SciPy's assignment", "[metric]") {
  const std::vector<float> a = golden::samples(golden::a), b = golden::samples(golden::b),
                           c = golden::samples(golden::c), lines = golden::samples(golden::lines);
  const view_in va(a.data(), {200, 6}), vb(b.data(), {150, 6}), vc(c.data(), {200, 6}), vl(lines.data(), {5, 6});
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, va, vc, vl) == Catch::Approx(golden::sliced_a_c).epsilon(1e-12));
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, va, vb, vl) == Catch::Approx(golden::sliced_a_b).epsilon(1e-12));
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vb, va, vl) == Catch::Approx(golden::sliced_a_b).epsilon(1e-12));
}

TEST_CASE("sliced_wasserstein2 along random lines equals a plain loop over the same lines", "[metric]") {
  const std::int64_t n = GENERATE(1, 3, 4, 61), d = GENERATE(2, 5, 64);
  const int projections = GENERATE(1, 7, 8, 9);
  const std::vector<float> x = normals(n * d, 1), y = normals(n * d, 2);
  double sum = 0;
  for (int p = 0; p < projections; ++p) {
    std::vector<double> line, px, py;
    double length = 0;
    for (std::int64_t k = 0; k < d; ++k) {
      line.push_back(static_cast<double>(
          boot::normal({9, boot::stream::metric, 0}, static_cast<std::uint64_t>(p), static_cast<std::uint64_t>(k))));
      length += line.back() * line.back();
    }
    for (std::int64_t i = 0; i < n; ++i) {
      double a = 0, b = 0;
      for (std::int64_t k = 0; k < d; ++k) {
        const auto at = static_cast<std::size_t>(i * d + k);
        a += static_cast<double>(x[at]) * line[static_cast<std::size_t>(k)] / std::sqrt(length);
        b += static_cast<double>(y[at]) * line[static_cast<std::size_t>(k)] / std::sqrt(length);
      }
      px.push_back(a);
      py.push_back(b);
    }
    std::sort(px.begin(), px.end());
    std::sort(py.begin(), py.end());
    for (std::size_t i = 0; i < px.size(); ++i) sum += (px[i] - py[i]) * (px[i] - py[i]) / static_cast<double>(n);
  }
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, view_in(x.data(), {n, d}), view_in(y.data(), {n, d}),
                                  {.projections = projections, .seed = 9}) ==
        Catch::Approx(std::sqrt(sum / projections)).epsilon(1e-12));
}

TEST_CASE("sliced_wasserstein2 of a set to its own permutation is 0", "[metric]") {
  std::vector<float> x = normals(120, 3), y = x;
  for (std::size_t i = 0; i < 30; ++i)  // samples of four elements, in reverse
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(4 * i), 4,
                y.begin() + static_cast<std::ptrdiff_t>(4 * (29 - i)));
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, view_in(x.data(), {30, 4}), view_in(y.data(), {30, 4})) == 0);
}

TEST_CASE("sliced_wasserstein2 of a set to a shifted one is the shift along the lines", "[metric]") {
  // W2^2 along a line w is <w, v>^2 for a shift v; the mean over the sphere is |v|^2 / d.
  const std::vector<float> x = normals(400 * 8, 4);
  std::vector<float> y = x;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += i % 8 == 2 ? 3.0f : 0.0f;
  const view_in vx(x.data(), {400, 8}), vy(y.data(), {400, 8});
  const std::vector<float> axis{0, 0, 5, 0, 0, 0, 0, 0}, other{0, 7, 0, 0, 0, 0, 0, 0};
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vx, vy, view_in(axis.data(), {1, 8})) == Catch::Approx(3).epsilon(1e-7));
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vx, vy, view_in(other.data(), {1, 8})) == 0);
  // The standard error of 4096 lines is about 0.9 % of the distance.
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vx, vy, {.projections = 4096, .seed = 1}) ==
        Catch::Approx(3 / std::sqrt(8.0)).epsilon(0.04));
}

TEST_CASE("sliced_wasserstein2 does not change when both sets are shifted", "[metric]") {
  std::vector<float> x = golden::samples(golden::a), y = golden::samples(golden::c);
  const view_in vx(x.data(), {200, 6}), vy(y.data(), {200, 6});
  const double before = boot::sliced_wasserstein2(boot::cpu{}, vx, vy);
  for (std::vector<float>* set : {&x, &y})
    for (float& v : *set) v += 2;
  CHECK(before > 0.1);
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vx, vy) == Catch::Approx(before).epsilon(1e-6));
}

TEST_CASE("sliced_wasserstein2 transports unequal counts exactly", "[metric]") {
  const std::vector<float> two{0, 3}, three{0, 3, 6}, four{3, 0, 0, 3};
  const view_in v2(two.data(), {2, 1}), v3(three.data(), {3, 1}), v4(four.data(), {4, 1});
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, v2, v4) == 0);  // the same law
  // Thirds of mass: 0 -> 0, half of the middle third each way, 3 -> 6.
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, v2, v3) ==
        Catch::Approx(std::sqrt((0.0 + 9.0 / 6 + 0.0 + 9.0 / 3))).epsilon(1e-14));
  // Every sample of x twice is still the same law.
  const std::vector<float> x = normals(50 * 3, 5), y = normals(70 * 3, 6);
  std::vector<float> twice = x;
  twice.insert(twice.end(), x.begin(), x.end());
  const view_in vy(y.data(), {70, 3});
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, view_in(twice.data(), {100, 3}), vy) ==
        Catch::Approx(boot::sliced_wasserstein2(boot::cpu{}, view_in(x.data(), {50, 3}), vy)).epsilon(1e-12));
}

TEST_CASE("sliced_wasserstein2 depends on its seed and on nothing else", "[metric]") {
  const std::vector<float> x = normals(403 * 20, 7), y = normals(301 * 20, 8);
  const view_in vx(x.data(), {403, 4, 5}), vy(y.data(), {301, 20});
  const double first = boot::sliced_wasserstein2(boot::cpu{.threads = 1}, vx, vy, {.seed = 3});
  CHECK(first > 0);
  for (int t = 2; t <= 3; ++t)
    CHECK(same_bits(boot::sliced_wasserstein2(boot::cpu{.threads = t}, vx, vy, {.seed = 3}), first));
  CHECK(boot::sliced_wasserstein2(boot::cpu{}, vx, vy, {.seed = 4}) != first);
}

TEST_CASE("sliced_wasserstein2 says what is wrong", "[metric]") {
  using Catch::Matchers::ContainsSubstring;
  std::vector<float> x = normals(40, 9);
  const view_in four(x.data(), {10, 4});
  CHECK_THROWS_WITH(
      boot::sliced_wasserstein2(boot::cpu{}, four, view_in(x.data(), {8, 5})),
      ContainsSubstring("x of shape [10, 4] and y of shape [8, 5]") && ContainsSubstring("not 4 and 5 elements"));
  CHECK_THROWS_WITH(boot::sliced_wasserstein2(boot::cpu{}, four, view_in{}),
                    ContainsSubstring("y of shape [0], needs at least 1 samples"));
  CHECK_THROWS_WITH(boot::sliced_wasserstein2(boot::cpu{}, four, four, {.projections = 0}),
                    ContainsSubstring("projections = 0, needs at least 1"));
  const std::vector<float> lines{1, 0, 0, 0, 0, 0, 0, 0};
  CHECK_THROWS_WITH(boot::sliced_wasserstein2(boot::cpu{}, four, four, view_in(lines.data(), {2, 4})),
                    ContainsSubstring("zeros as direction 1"));
  x[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(boot::sliced_wasserstein2(boot::cpu{}, four, four),
                    ContainsSubstring("x with the value nan in sample 1, element 3"));
}
