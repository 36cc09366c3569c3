// SPDX-License-Identifier: MIT
/// abs_quantile against sorting, its ends, its floor, threads and errors.
#include "support/catch.hpp"

#include <boot/kernel/cpu/quantile.hpp>
#include <boot/tensor/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

using boot::cpu;

TEMPLATE_TEST_CASE("abs_quantile: equals interpolation in the sorted values", "[kernel]", float, double) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  for (const std::int64_t n : {1, 2, 3, 64, 1000, 20000})
    for (const double share : {0.0, 0.25, 0.5, 0.995, 1.0}) {
      boot::tensor<TestType, cpu> f(cpu{}, {5, n});
      for (std::int64_t i = 0; i < f.size(); ++i) f.data()[i] = static_cast<TestType>(normal(random));
      const boot::view<const TestType, cpu> in = f;
      std::vector<TestType> q(5, TestType(NAN)), threaded(5, TestType(NAN)), least(5, TestType(NAN));
      boot::abs_quantile(cpu{1}, share, 0, in, q.data());
      boot::abs_quantile(cpu{3}, share, 0, in, threaded.data());
      boot::abs_quantile(cpu{1}, share, 1, in, least.data());
      REQUIRE(q == threaded);
      for (std::size_t i = 0; i < 5; ++i) {
        std::vector<double> sorted;
        for (std::int64_t j = 0; j < n; ++j)
          sorted.push_back(std::abs(static_cast<double>(f.data()[static_cast<std::int64_t>(i) * n + j])));
        std::sort(sorted.begin(), sorted.end());
        const double position = share * static_cast<double>(n - 1);
        const auto below = static_cast<std::size_t>(position);
        const double above = below + 1 < sorted.size() ? sorted[below + 1] : sorted[below];
        const double expected = sorted[below] + (position - static_cast<double>(below)) * (above - sorted[below]);
        REQUIRE(std::abs(static_cast<double>(q[i]) - expected) <= 4e-7 * (expected + 1e-300));
        REQUIRE(least[i] == std::max(q[i], TestType{1}));
      }
    }
}

TEST_CASE("abs_quantile: refuses a share outside [0, 1]", "[kernel]") {
  const boot::tensor<float, cpu> f = boot::zeros<float>(cpu{}, {1, 2});
  float q = 0;
  for (const double share : {-0.1, 1.1, std::nan("")})
    REQUIRE_THROWS_AS(boot::abs_quantile(cpu{}, share, 0, f.get(), &q), boot::error);
  boot::abs_quantile(cpu{}, 0.5, 1, f.get(), &q);
  REQUIRE(q == 1);
}
