// SPDX-License-Identifier: MIT
/// feature_statistics and frechet_distance: SciPy's values, closed forms, invariances, any rank, messages.
#include "golden/metric_fixtures.hpp"
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/metric/frechet.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using view_in = boot::view<const float, boot::cpu>;
using boot::feature_statistics_result;

std::vector<float> normals(std::int64_t n, std::uint64_t seed) {
  std::vector<float> x(static_cast<std::size_t>(n));
  boot::fill_normal(x.data(), n, {seed, boot::stream::test, 0}, 0);
  return x;
}

feature_statistics_result statistics(const golden::set& s, int threads = 0) {
  const std::vector<float> x = golden::samples(s);
  return boot::feature_statistics(boot::cpu{.threads = threads}, view_in(x.data(), {s.n, s.d}));
}

feature_statistics_result diagonal(const std::vector<double>& mean, const std::vector<double>& deviation) {
  const std::size_t d = mean.size();
  feature_statistics_result s{mean, std::vector<double>(d * d, 0.0), 2};
  for (std::size_t i = 0; i < d; ++i) s.covariance[i * d + i] = deviation[i] * deviation[i];
  return s;
}

/// Closed form for commuting covariances.
double diagonal_distance(const std::vector<double>& mean, const std::vector<double>& deviation,
                         const std::vector<double>& other_mean, const std::vector<double>& other_deviation) {
  double sum = 0;
  for (std::size_t i = 0; i < mean.size(); ++i)
    sum += std::pow(mean[i] - other_mean[i], 2) + std::pow(deviation[i] - other_deviation[i], 2);
  return sum;
}

bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

}  // namespace

TEST_CASE("feature_statistics agrees with NumPy", "[metric]") {
  const auto s = statistics(golden::a);
  CHECK(s.count == 200);
  REQUIRE(s.mean.size() == 6);
  REQUIRE(s.covariance.size() == 36);
  for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(s.mean[i] - golden::mean_a[i]) < 1e-14);
  for (std::size_t i = 0; i < 36; ++i) CHECK(std::abs(s.covariance[i] - golden::covariance_a[i]) < 1e-13);
}

TEST_CASE("feature_statistics equals plain sums around its tiles", "[metric]") {
  const std::int64_t n = GENERATE(2, 511, 512, 513, 1025), d = GENERATE(1, 31, 32, 33, 65);
  std::vector<float> x = normals(n * d, 5);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += static_cast<float>(i % static_cast<std::size_t>(d)) * 10.0f;
  const auto s = boot::feature_statistics(boot::cpu{}, view_in(x.data(), {n, d}));
  std::vector<long double> mean(static_cast<std::size_t>(d), 0.0L);
  for (std::size_t i = 0; i < x.size(); ++i) mean[i % mean.size()] += static_cast<long double>(x[i]) / n;
  double worst_mean = 0, worst = 0;
  for (std::size_t i = 0; i < mean.size(); ++i) {
    worst_mean = std::max(worst_mean, std::abs(s.mean[i] - static_cast<double>(mean[i])));
    for (std::size_t j = 0; j < mean.size(); ++j) {
      long double c = 0;
      for (std::size_t r = 0; r < static_cast<std::size_t>(n); ++r)
        c += (x[r * mean.size() + i] - mean[i]) * (x[r * mean.size() + j] - mean[j]);
      worst = std::max(worst, std::abs(s.covariance[i * mean.size() + j] - static_cast<double>(c / (n - 1))));
    }
  }
  CHECK(worst_mean < 1e-12);
  CHECK(worst < 1e-12);
}

TEST_CASE("frechet_distance agrees with SciPy", "[metric]") {
  const auto a = statistics(golden::a), b = statistics(golden::b), c = statistics(golden::c);
  CHECK(boot::frechet_distance(a, b) == Catch::Approx(golden::frechet_a_b).epsilon(1e-11));
  CHECK(boot::frechet_distance(a, c) == Catch::Approx(golden::frechet_a_c).epsilon(1e-11));
  CHECK(boot::frechet_distance(b, a) == Catch::Approx(golden::frechet_a_b).epsilon(1e-11));
}

TEST_CASE("frechet_distance agrees with SciPy for fewer samples than features", "[metric]") {
  const auto a = statistics(golden::wide_a), b = statistics(golden::wide_b), flat = statistics(golden::flat);
  CHECK(boot::frechet_distance(a, b) == Catch::Approx(golden::frechet_wide_a_wide_b).epsilon(1e-11));
  CHECK(boot::frechet_distance(b, a) == Catch::Approx(golden::frechet_wide_a_wide_b).epsilon(1e-11));
  CHECK(boot::frechet_distance(a, flat) == Catch::Approx(golden::frechet_wide_a_flat).epsilon(1e-11));
  CHECK(boot::frechet_distance(flat, a) == Catch::Approx(golden::frechet_wide_a_flat).epsilon(1e-11));
}

TEST_CASE("frechet_distance of diagonal Gaussians is the closed form", "[metric]") {
  const std::vector<double> m{1, -2, 0.5, 3}, s{1, 0.25, 2, 1e-3}, m2{0, -2, 1.5, 2.5}, s2{3, 0.5, 1, 1e-2};
  CHECK(boot::frechet_distance(diagonal(m, s), diagonal(m2, s2)) ==
        Catch::Approx(diagonal_distance(m, s, m2, s2)).epsilon(1e-12));
  // Dimensions without variance, on either side.
  const std::vector<double> half{1, 0, 2, 0}, none(4, 0.0);
  CHECK(boot::frechet_distance(diagonal(m, half), diagonal(m2, s2)) ==
        Catch::Approx(diagonal_distance(m, half, m2, s2)).epsilon(1e-12));
  CHECK(boot::frechet_distance(diagonal(m, none), diagonal(m2, none)) ==
        Catch::Approx(diagonal_distance(m, none, m2, none)).epsilon(1e-12));
}

TEST_CASE("frechet_distance of a set to itself is 0, to a shifted one the squared shift", "[metric]") {
  const golden::set which = GENERATE(golden::a, golden::wide_a, golden::flat);
  const auto s = statistics(which);
  double trace = 0;
  for (std::size_t i = 0; i < s.mean.size(); ++i) trace += s.covariance[i * s.mean.size() + i];
  CHECK(boot::frechet_distance(s, s) < 1e-12 * trace);
  auto moved = s;
  for (double& m : moved.mean) m += 0.5;
  CHECK(boot::frechet_distance(s, moved) ==
        Catch::Approx(0.25 * static_cast<double>(s.mean.size())).epsilon(1e-12).margin(1e-12 * trace));
}

TEST_CASE("frechet_distance is the same after one shift and scales with the square of a scale", "[metric]") {
  std::vector<float> x = golden::samples(golden::a), y = golden::samples(golden::b);
  const double before = boot::frechet_distance(boot::cpu{}, view_in(x.data(), {200, 6}), view_in(y.data(), {150, 6}));
  for (float& v : x) v = 4 * (v + 2);
  for (float& v : y) v = 4 * (v + 2);
  const double after = boot::frechet_distance(boot::cpu{}, view_in(x.data(), {200, 6}), view_in(y.data(), {150, 6}));
  CHECK(before == Catch::Approx(golden::frechet_a_b).epsilon(1e-11));
  CHECK(after == Catch::Approx(16 * before).epsilon(1e-6));
}

TEST_CASE("trailing extents are the elements of a sample for frechet_distance", "[metric]") {
  const std::vector<float> x = golden::samples(golden::a), y = golden::samples(golden::b);
  CHECK(same_bits(boot::frechet_distance(boot::cpu{}, view_in(x.data(), {200, 3, 2}), view_in(y.data(), {150, 1, 6})),
                  boot::frechet_distance(statistics(golden::a), statistics(golden::b))));
}

TEST_CASE("feature_statistics and frechet_distance have the same bits for every number of threads", "[metric]") {
  const std::int64_t n = 700, d = 130;
  const std::vector<float> x = normals(n * d, 6), y = normals(n * d, 7);
  const auto one = boot::feature_statistics(boot::cpu{.threads = 1}, view_in(x.data(), {n, d}));
  const double distance =
      boot::frechet_distance(boot::cpu{.threads = 1}, view_in(x.data(), {n, d}), view_in(y.data(), {n, d}));
  CHECK(distance > 0);
  for (int t = 2; t <= 3; ++t) {
    const boot::cpu dev{.threads = t};
    const auto other = boot::feature_statistics(dev, view_in(x.data(), {n, d}));
    bool same = true;
    for (std::size_t i = 0; i < one.mean.size(); ++i) same = same && same_bits(one.mean[i], other.mean[i]);
    for (std::size_t i = 0; i < one.covariance.size(); ++i)
      same = same && same_bits(one.covariance[i], other.covariance[i]);
    CHECK(same);
    CHECK(same_bits(boot::frechet_distance(dev, view_in(x.data(), {n, d}), view_in(y.data(), {n, d})), distance));
  }
}

TEST_CASE("feature_statistics and frechet_distance say what is wrong", "[metric]") {
  using Catch::Matchers::ContainsSubstring;
  std::vector<float> x = normals(40, 8);
  CHECK_THROWS_WITH(boot::feature_statistics(boot::cpu{}, view_in(x.data(), {1, 40})),
                    ContainsSubstring("features of shape [1, 40]") && ContainsSubstring("at least 2 samples"));
  CHECK_THROWS_WITH(boot::frechet_distance(boot::cpu{}, view_in(x.data(), {10, 4}), view_in(x.data(), {8, 5})),
                    ContainsSubstring("not 4 and 5 elements"));
  x[23] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(boot::feature_statistics(boot::cpu{}, view_in(x.data(), {10, 4})),
                    ContainsSubstring("the value nan in sample 5, element 3"));
  x[23] = -std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(boot::feature_statistics(boot::cpu{}, view_in(x.data(), {10, 4})),
                    ContainsSubstring("the value -inf in sample 5, element 3"));

  const auto a = diagonal({1, 2}, {1, 1});
  CHECK_THROWS_WITH(boot::frechet_distance(a, diagonal({1, 2, 3}, {1, 1, 1})),
                    ContainsSubstring("2 features in a and 3 in b"));
  CHECK_THROWS_WITH(boot::frechet_distance(a, {}), ContainsSubstring("b with 0 means and 0 covariances"));
  auto bad = a;
  bad.covariance[1] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(boot::frechet_distance(bad, a), ContainsSubstring("got a with a NaN or an infinity"));
  CHECK_THROWS_AS(boot::frechet_distance(bad, a), boot::error);
}
