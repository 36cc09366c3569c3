// SPDX-License-Identifier: MIT
/// What the tests of products share: a product in float64 as the reference.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace products_test {

/// Normal numbers.
inline std::vector<float> fresh_floats(std::int64_t n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = normal(engine);
  return v;
}

/// A row-major product C = op(A) op(B): C is m x n.
struct problem {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
  std::int64_t extra = 0;  // unused numbers at the end of each row

  [[nodiscard]] std::int64_t lda() const { return (transpose_a ? m : k) + extra; }
  [[nodiscard]] std::int64_t ldb() const { return (transpose_b ? k : n) + extra; }
  [[nodiscard]] std::int64_t ldc() const { return n + extra; }
  [[nodiscard]] std::int64_t size_a() const { return lda() * (transpose_a ? k : m); }
  [[nodiscard]] std::int64_t size_b() const { return ldb() * (transpose_b ? n : k); }
  [[nodiscard]] std::int64_t size_c() const { return ldc() * m; }
  // op(A) op(B), row-major, in double
  template <class T>
  [[nodiscard]] double at(const T* a, const T* b, std::int64_t i, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t l = 0; l < k; ++l)
      sum += static_cast<double>(static_cast<float>(transpose_a ? a[l * lda() + i] : a[i * lda() + l])) *
             static_cast<double>(static_cast<float>(transpose_b ? b[j * ldb() + l] : b[l * ldb() + j]));
    return sum;
  }
};

}  // namespace products_test
