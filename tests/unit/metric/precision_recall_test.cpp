// SPDX-License-Identifier: MIT
/// precision_recall: SciPy's values, a plain loop in double, duplicates, shifts, messages.
#include "golden/metric_fixtures.hpp"
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/metric/precision_recall.hpp>

#include <algorithm>
#include <array>
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

double squared_distance(const view_in& x, std::int64_t i, const view_in& y, std::int64_t j) {
  double sum = 0;
  for (std::int64_t k = 0; k < x.sample_size(); ++k) {
    const double d = static_cast<double>(x[i * x.sample_size() + k]) - static_cast<double>(y[j * x.sample_size() + k]);
    sum += d * d;
  }
  return sum;
}

double squared_radius(const view_in& x, std::int64_t i, int k) {
  std::vector<double> d;
  for (std::int64_t j = 0; j < x.batch(); ++j)
    if (j != i) d.push_back(squared_distance(x, i, x, j));
  std::sort(d.begin(), d.end());
  return d[static_cast<std::size_t>(k - 1)];
}

/// The definitions, one pair at a time, in double.
boot::precision_recall_result plain(const view_in& s, const view_in& r, int k) {
  boot::precision_recall_result out;
  const auto n = static_cast<double>(s.batch()), m = static_cast<double>(r.batch());
  std::vector<bool> precise(static_cast<std::size_t>(s.batch()));
  for (std::int64_t j = 0; j < r.batch(); ++j) {
    bool recalled = false, covered = false;
    const double radius = squared_radius(r, j, k);
    for (std::int64_t i = 0; i < s.batch(); ++i) {
      const double d = squared_distance(s, i, r, j);
      if (d <= radius) {
        covered = true;
        precise[static_cast<std::size_t>(i)] = true;
        out.density += 1 / (n * k);
      }
      recalled = recalled || d <= squared_radius(s, i, k);
    }
    out.recall += recalled ? 1 / m : 0;
    out.coverage += covered ? 1 / m : 0;
  }
  out.precision = static_cast<double>(std::count(precise.begin(), precise.end(), true)) / n;
  return out;
}

void check(const boot::precision_recall_result& got, const std::array<double, 4>& wanted) {
  CHECK(got.precision == Catch::Approx(wanted[0]).epsilon(1e-13));
  CHECK(got.recall == Catch::Approx(wanted[1]).epsilon(1e-13));
  CHECK(got.density == Catch::Approx(wanted[2]).epsilon(1e-13));
  CHECK(got.coverage == Catch::Approx(wanted[3]).epsilon(1e-13));
}

bool equal(const boot::precision_recall_result& a, const boot::precision_recall_result& b) {
  return a.precision == b.precision && a.recall == b.recall && a.density == b.density && a.coverage == b.coverage;
}

}  // namespace

TEST_CASE("precision_recall agrees with SciPy", "[metric]") {
  const std::vector<float> a = golden::samples(golden::a), b = golden::samples(golden::b);
  const view_in va(a.data(), {200, 6}), vb(b.data(), {150, 6});
  check(boot::precision_recall(boot::cpu{}, va, vb, {.k = 1}), golden::precision_recall_a_b_1);
  check(boot::precision_recall(boot::cpu{}, va, vb, {.k = 3}), golden::precision_recall_a_b_3);
  check(boot::precision_recall(boot::cpu{}, va, vb), golden::precision_recall_a_b_5);
  const std::vector<float> wide = golden::samples(golden::wide_a), flat = golden::samples(golden::flat);
  check(boot::precision_recall(boot::cpu{}, view_in(wide.data(), {9, 40}), view_in(flat.data(), {60, 40}), {.k = 2}),
        golden::precision_recall_wide);
}

TEST_CASE("precision_recall equals a plain loop around its tiles", "[metric]") {
  const std::int64_t n = GENERATE(4, 31, 32, 65), d = GENERATE(1, 2, 64, 129);
  const std::int64_t m = 37;
  const std::vector<float> x = normals(n * d, 1);
  std::vector<float> y = normals(m * d, 2);
  for (float& v : y) v *= 1.25f;
  const view_in vx(x.data(), {n, d}), vy(y.data(), {m, d});
  const auto wanted = plain(vx, vy, 3);
  check(boot::precision_recall(boot::cpu{}, vx, vy, {.k = 3}),
        {wanted.precision, wanted.recall, wanted.density, wanted.coverage});
}

TEST_CASE("distances between samples have the same bits in either direction and in any place", "[metric]") {
  const std::int64_t n = 70, d = 100;
  const std::vector<float> x = normals(n * d, 3);
  const view_in v(x.data(), {n, d}), part = v.rows(1, 69);
  const boot::cpu dev{.threads = 1};
  std::vector<double> all(static_cast<std::size_t>(n * n), -1.0), shifted = all;
  boot::detail::pairwise_distances(dev, v, {dev, v},
                                   [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* s) {
                                     std::copy_n(s, count, all.begin() + i * n + first);
                                   });
  boot::detail::pairwise_distances(dev, part, {dev, part},
                                   [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* s) {
                                     std::copy_n(s, count, shifted.begin() + (i + 1) * n + first + 1);
                                   });
  int different = 0;
  double worst = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const double value = all[static_cast<std::size_t>(i * n + j)], wanted = squared_distance(v, i, v, j);
      different += value != all[static_cast<std::size_t>(j * n + i)] ? 1 : 0;
      different += i > 0 && j > 0 && value != shifted[static_cast<std::size_t>(i * n + j)] ? 1 : 0;
      worst = std::max(worst, wanted > 0 ? std::abs(value / wanted - 1) : std::abs(value));
    }
  }
  CHECK(different == 0);
  CHECK(worst < 1e-6);  // 64 roundings of 6e-8 at most, which partly cancel
}

TEST_CASE("a set against itself has precision, recall and coverage 1 and density (k + 1) / k", "[metric]") {
  const std::vector<float> x = normals(300 * 10, 4);
  const view_in v(x.data(), {300, 10});
  for (const int k : {1, 4}) check(boot::precision_recall(boot::cpu{}, v, v, {.k = k}), {1, 1, (k + 1.0) / k, 1});
}

TEST_CASE("sets far apart have nothing in common", "[metric]") {
  const std::vector<float> x = normals(200, 5);
  std::vector<float> y = x;
  for (float& v : y) v += 100;
  check(boot::precision_recall(boot::cpu{}, view_in(x.data(), {50, 4}), view_in(y.data(), {50, 4})), {0, 0, 0, 0});
}

TEST_CASE("a student that knows one mode of two is precise and recalls half", "[metric]") {
  std::vector<float> reference = normals(400, 6), samples = normals(200, 7);
  for (std::size_t i = 200; i < 400; ++i) reference[i] += 1000;  // 100 samples of two elements in either mode
  const auto r =
      boot::precision_recall(boot::cpu{}, view_in(samples.data(), {100, 2}), view_in(reference.data(), {200, 2}));
  CHECK(r.precision > 0.9);
  CHECK(r.recall > 0.45);
  CHECK(r.recall <= 0.5);
  CHECK(r.coverage > 0.45);
  CHECK(r.coverage <= 0.5);
}

TEST_CASE("precision_recall does not change when both sets are shifted", "[metric]") {
  std::vector<float> x = normals(400, 8), y = normals(400, 9);
  for (std::vector<float>* set : {&x, &y})
    for (float& v : *set) v = std::floor(v * 64) / 64;  // so that the shift below is exact
  const view_in vx(x.data(), {100, 4}), vy(y.data(), {100, 4});
  const auto before = boot::precision_recall(boot::cpu{}, vx, vy);
  for (std::vector<float>* set : {&x, &y})
    for (float& v : *set) v += 1024;
  CHECK(before.precision > 0.5);
  CHECK(equal(boot::precision_recall(boot::cpu{}, vx, vy), before));
}

TEST_CASE("duplicates are neighbours at distance 0", "[metric]") {
  // Reference: 0 three times, 10, 20, 30. With k = 2 the balls of the zeros have radius 0, those of the others 10
  // or 20.
  const std::vector<float> reference{0, 0, 0, 10, 20, 30};
  const view_in r(reference.data(), {6, 1});
  const std::vector<float> at{0, -1, -20, 100}, one{0, 0, 0, 0};
  // 0: the three zero balls and the ball of 10 (reaching 0 .. 20). -1, -20, 100: none.
  const auto p = boot::precision_recall(boot::cpu{}, view_in(at.data(), {4, 1}), r, {.k = 2});
  CHECK(p.precision == 0.25);
  CHECK(p.density == 4.0 / (4 * 2));
  CHECK(p.coverage == 4.0 / 6);
  // A student that always gives one sample has balls of radius 0: precise, recalling only its own value.
  const auto q = boot::precision_recall(boot::cpu{}, view_in(one.data(), {4, 1}), r, {.k = 2});
  CHECK(q.precision == 1);
  CHECK(q.recall == 0.5);
}

TEST_CASE("precision_recall has the same bits for every number of threads", "[metric]") {
  const std::vector<float> x = normals(333 * 21, 10), y = normals(257 * 21, 11);
  const view_in vx(x.data(), {333, 3, 7}), vy(y.data(), {257, 7, 3});
  const auto one = boot::precision_recall(boot::cpu{.threads = 1}, vx, vy);
  CHECK(one.density > 0);
  for (int t = 2; t <= 3; ++t) CHECK(equal(boot::precision_recall(boot::cpu{.threads = t}, vx, vy), one));
}

TEST_CASE("precision_recall says what is wrong", "[metric]") {
  using Catch::Matchers::ContainsSubstring;
  std::vector<float> x = normals(40, 12);
  const view_in four(x.data(), {10, 4});
  CHECK_THROWS_WITH(boot::precision_recall(boot::cpu{}, four, four, {.k = 0}), ContainsSubstring("needs k >= 1"));
  CHECK_THROWS_WITH(boot::precision_recall(boot::cpu{}, four, four.rows(0, 5)),
                    ContainsSubstring("reference of shape [5, 4], needs at least 6 samples"));
  CHECK_THROWS_WITH(boot::precision_recall(boot::cpu{}, four, view_in(x.data(), {8, 5})),
                    ContainsSubstring("samples of shape [10, 4] and reference of shape [8, 5]"));
  x[39] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(boot::precision_recall(boot::cpu{}, four, four),
                    ContainsSubstring("samples with the value inf in sample 9, element 3"));
}
