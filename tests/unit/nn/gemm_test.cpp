// SPDX-License-Identifier: MIT
// The host matrix product against plain loops in higher precision: transposes, tails, adding, bias, strides, threads.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/cpu/gemm.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(boot::normal(boot::counter_key{4, boot::stream::test, what}, 0, i));
  return v;
}

// Row-major when `by_rows`, else the transpose is stored.
template <class T>
boot::matrix<T> stored(const std::vector<T>& v, std::int64_t rows, std::int64_t columns, bool by_rows) {
  return by_rows ? boot::matrix<T>{v.data(), columns, 1} : boot::matrix<T>{v.data(), 1, rows};
}

template <class T>
void check(std::int64_t m, std::int64_t n, std::int64_t k, bool a_rows, bool b_rows, bool add, bool with_bias,
           int threads) {
  const std::vector<T> a = numbers<T>(m * k, 1), b = numbers<T>(k * n, 2), bias = numbers<T>(n, 3);
  const std::int64_t stride = n + 3;  // the columns behind the matrix must stay untouched
  std::vector<T> c = numbers<T>(m * stride, 4);
  const std::vector<T> before = c;
  if (!add)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        c[static_cast<std::size_t>(i * stride + j)] = std::numeric_limits<T>::quiet_NaN();
  const auto ma = stored(a, m, k, a_rows), mb = stored(b, k, n, b_rows);
  boot::gemm<T>(boot::cpu{threads}, m, n, k, ma, mb, c.data(), stride, add, with_bias ? bias.data() : nullptr);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < stride; ++j) {
      const auto at = static_cast<std::size_t>(i * stride + j);
      if (j >= n) {
        REQUIRE(c[at] == before[at]);
        continue;
      }
      double sum = 0, size = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const double p = static_cast<double>(ma.data[i * ma.row + l * ma.column]) *
                         static_cast<double>(mb.data[l * mb.row + j * mb.column]);
        sum += p;
        size += std::abs(p);
      }
      const double rest = (with_bias ? static_cast<double>(bias[static_cast<std::size_t>(j)]) : 0.0) +
                          (add ? static_cast<double>(before[at]) : 0.0);
      const double bound = static_cast<double>(std::numeric_limits<T>::epsilon()) * (static_cast<double>(k) + 3) *
                           (size + std::abs(rest) + 1e-30);
      if (!(std::abs(static_cast<double>(c[at]) - sum - rest) <= bound)) {
        INFO(m << " x " << n << " x " << k << " at " << i << ", " << j);
        REQUIRE(static_cast<double>(c[at]) == Catch::Approx(sum + rest));
        FAIL("beyond the rounding bound");
      }
    }
  SUCCEED();
}

}  // namespace

TEMPLATE_TEST_CASE("every layout of the operands, every tail of the tiles", "[nn][gemm]", float, double) {
  const bool a_rows = GENERATE(false, true), b_rows = GENERATE(false, true);
  for (const std::int64_t m : {1, 2, 5, 6, 7, 11, 12, 13, 25})
    for (const std::int64_t n : {1, 3, 7, 8, 15, 16, 17, 31, 33, 65})
      for (const std::int64_t k : {1, 2, 17, 40}) check<TestType>(m, n, k, a_rows, b_rows, false, (m + n) % 2 == 0, 1);
}

TEMPLATE_TEST_CASE("adding, bias, and sums that take several passes over k", "[nn][gemm]", float, double) {
  const bool add = GENERATE(false, true), bias = GENERATE(false, true);
  for (const std::int64_t k : {1, 511, 512, 513, 1030}) check<TestType>(14, 35, k, true, false, add, bias, 1);
}

TEMPLATE_TEST_CASE("large enough for several threads", "[nn][gemm]", float, double) {
  check<TestType>(131, 157, 143, true, false, false, true, 3);
  check<TestType>(131, 157, 143, false, true, true, false, 2);
}

TEST_CASE("nothing to add leaves the bias, or zero", "[nn][gemm]") {
  std::vector<float> c(6, 9.0f), bias{1, 2, 3};
  boot::gemm<float>(boot::cpu{1}, 2, 3, 0, {nullptr, 1, 1}, {nullptr, 1, 1}, c.data(), 3, false, bias.data());
  CHECK(c == std::vector<float>{1, 2, 3, 1, 2, 3});
  boot::gemm<float>(boot::cpu{1}, 2, 3, 0, {nullptr, 1, 1}, {nullptr, 1, 1}, c.data(), 3);
  CHECK(c == std::vector<float>(6, 0.0f));
  boot::gemm<float>(boot::cpu{1}, 0, 3, 4, {nullptr, 1, 1}, {nullptr, 1, 1}, c.data(), 3);
  CHECK(c == std::vector<float>(6, 0.0f));
}

TEMPLATE_TEST_CASE("the same bits for 1, 2 and 3 threads", "[nn][gemm]", float, double) {
  for (const std::int64_t m : {13, 256}) {
    const std::int64_t n = 190, k = 600;
    const auto a = numbers<TestType>(m * k, 1), b = numbers<TestType>(n * k, 2);
    std::vector<std::vector<TestType>> results;
    for (const int threads : {1, 2, 3}) {
      std::vector<TestType> c(static_cast<std::size_t>(m * n));
      boot::gemm<TestType>(boot::cpu{threads}, m, n, k, {a.data(), k, 1}, {b.data(), 1, k}, c.data(), n);
      results.push_back(std::move(c));
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
}

TEST_CASE("a row does not depend on how many rows are multiplied with it", "[nn][gemm]") {
  const std::int64_t m = 37, n = 45, k = 80;
  const auto a = numbers<float>(m * k, 1), b = numbers<float>(n * k, 2);
  std::vector<float> all(static_cast<std::size_t>(m * n)), some(all.size());
  boot::gemm<float>(boot::cpu{1}, m, n, k, {a.data(), k, 1}, {b.data(), 1, k}, all.data(), n);
  for (const std::int64_t first : {0, 5, 19}) {
    const std::int64_t count = first == 19 ? m - 19 : first == 5 ? 14 : 5;
    boot::gemm<float>(boot::cpu{1}, count, n, k, {a.data() + first * k, k, 1}, {b.data(), 1, k},
                      some.data() + first * n, n);
  }
  CHECK(all == some);
}

TEST_CASE("after the first product of a size nothing is allocated", "[nn][gemm]") {
  const auto a = numbers<float>(64 * 64, 1);
  std::vector<float> c(64 * 64);
  boot::gemm<float>(boot::cpu{1}, 64, 64, 64, {a.data(), 64, 1}, {a.data(), 1, 64}, c.data(), 64);
  const auto before = boot::memory_use<boot::cpu>().allocations;
  boot::gemm<float>(boot::cpu{1}, 64, 64, 64, {a.data(), 1, 64}, {a.data(), 64, 1}, c.data(), 64);
  boot::gemm<float>(boot::cpu{1}, 3, 64, 64, {a.data(), 64, 1}, {a.data(), 64, 1}, c.data(), 64);
  CHECK(boot::memory_use<boot::cpu>().allocations == before);
}
