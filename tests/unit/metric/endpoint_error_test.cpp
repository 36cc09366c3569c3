// SPDX-License-Identifier: MIT
/// endpoint_error: NumPy's values, the arithmetic of shifts, failures of a student, messages.
#include "golden/metric_fixtures.hpp"
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/metric/endpoint_error.hpp>

#include <array>
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

TEST_CASE("endpoint_error agrees with NumPy", "[metric]") {
  const std::vector<float> y = golden::samples(golden::a), reference = golden::samples(golden::c);
  const auto e = boot::endpoint_error(boot::cpu{}, view_in(y.data(), {200, 6}), view_in(reference.data(), {200, 6}));
  CHECK(e.relative == Catch::Approx(golden::endpoint_a_c[0]).epsilon(1e-13));
  CHECK(e.absolute == Catch::Approx(golden::endpoint_a_c[1]).epsilon(1e-13));
  CHECK(e.median == Catch::Approx(golden::endpoint_a_c[2]).epsilon(1e-13));
  CHECK(e.reference == Catch::Approx(golden::endpoint_a_c[3]).epsilon(1e-13));
}

TEST_CASE("endpoint_error equals a plain loop for every tail of its lanes", "[metric]") {
  const std::int64_t d = GENERATE(1, 7, 8, 9, 64, 1025), n = GENERATE(1, 2, 37);
  const std::vector<float> y = normals(n * d, 1), reference = normals(n * d, 2);
  long double difference = 0, norm = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const long double r = reference[i], e = y[i] - r;
    difference += e * e;
    norm += r * r;
  }
  const auto e = boot::endpoint_error(boot::cpu{}, view_in(y.data(), {n, d}), view_in(reference.data(), {n, d}));
  CHECK(e.relative == Catch::Approx(static_cast<double>(std::sqrt(difference / norm))).epsilon(1e-12));
  CHECK(e.absolute ==
        Catch::Approx(static_cast<double>(std::sqrt(difference / static_cast<long double>(n * d)))).epsilon(1e-12));
}

TEST_CASE("endpoint_error of equal samples is 0, of a constant shift its size", "[metric]") {
  std::vector<float> y(48), reference(48);
  for (std::size_t i = 0; i < y.size(); ++i) reference[i] = static_cast<float>(i % 5) - 2.0f;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = reference[i] + 0.25f;
  const view_in a(y.data(), {3, 4, 4, 1}), b(reference.data(), {3, 4, 4, 1});
  CHECK(boot::endpoint_error(boot::cpu{}, b, b).relative == 0);
  CHECK(boot::endpoint_error(boot::cpu{}, b, b).median == 0);
  CHECK(boot::endpoint_error(boot::cpu{}, a, b).absolute == 0.25);
  CHECK(boot::endpoint_error(boot::cpu{}, a, b).median == 0.25 / boot::endpoint_error(boot::cpu{}, a, b).reference);
}

TEST_CASE("the median of endpoint_error ignores one bad sample, the mean does not", "[metric]") {
  std::vector<float> reference(20, 1.0f), y(20, 1.5f);  // ten samples of two elements
  y[6] = 1000.0f;
  const auto e = boot::endpoint_error(boot::cpu{}, view_in(y.data(), {10, 2}), view_in(reference.data(), {10, 2}));
  CHECK(e.median == 0.5);
  CHECK(e.relative > 100);
}

TEST_CASE("endpoint_error shows a student that diverged", "[metric]") {
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  std::vector<float> reference = normals(20, 1), y = normals(20, 2);
  y[13] = bad;
  const auto e = boot::endpoint_error(boot::cpu{}, view_in(y.data(), {10, 2}), view_in(reference.data(), {10, 2}));
  CHECK_FALSE(std::isfinite(e.relative));
  CHECK_FALSE(std::isfinite(e.absolute));
  CHECK(std::isnan(e.median));
  CHECK(std::isfinite(e.reference));
}

TEST_CASE("endpoint_error of a reference of zeros is infinite or 0", "[metric]") {
  const std::vector<float> zeros(6, 0.0f), y{0, 0, 1, 0, 0, 0};
  const view_in z(zeros.data(), {3, 2});
  CHECK(boot::endpoint_error(boot::cpu{}, view_in(y.data(), {3, 2}), z).relative ==
        std::numeric_limits<double>::infinity());
  CHECK(boot::endpoint_error(boot::cpu{}, view_in(y.data(), {3, 2}), z).absolute == std::sqrt(1.0 / 6));
  CHECK(boot::endpoint_error(boot::cpu{}, z, z).relative == 0);
}

TEST_CASE("endpoint_error has the same bits for every number of threads", "[metric]") {
  const std::int64_t n = 4099, d = 33;
  const std::vector<float> y = normals(n * d, 3), reference = normals(n * d, 4);
  std::array<boot::endpoint_errors, 3> e;
  for (int t = 1; t <= 3; ++t)
    e[static_cast<std::size_t>(t - 1)] =
        boot::endpoint_error(boot::cpu{.threads = t}, view_in(y.data(), {n, d}), view_in(reference.data(), {n, d}));
  CHECK(std::abs(e[0].absolute - std::sqrt(2.0)) < 0.01);
  for (const auto& other : e) {
    CHECK(same_bits(other.relative, e[0].relative));
    CHECK(same_bits(other.absolute, e[0].absolute));
    CHECK(same_bits(other.median, e[0].median));
  }
}

TEST_CASE("endpoint_error says what is wrong", "[metric]") {
  const std::vector<float> x(12, 1.0f);
  CHECK_THROWS_WITH(boot::endpoint_error(boot::cpu{}, view_in(x.data(), {3, 4}), view_in(x.data(), {4, 3})),
                    "boot: endpoint_error got reference of shape [4, 3], needs [3, 4]; pass a view of that shape");
  CHECK_THROWS_WITH(boot::endpoint_error(boot::cpu{}, view_in{}, view_in{}),
                    Catch::Matchers::ContainsSubstring("got y of shape [0]") &&
                        Catch::Matchers::ContainsSubstring("needs at least one sample"));
}
