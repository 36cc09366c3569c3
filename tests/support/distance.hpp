// SPDX-License-Identifier: MIT
/// How far arrays are from each other.
#pragma once

#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace boot_test {

/// The largest difference, as a part of the largest number; infinite where one is not a number.
template <class A, class B>
double relative_distance(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double most = 1e-30, worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(b[i])));
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = d <= 1e30 ? std::max(worst, d) : HUGE_VAL;
  }
  return worst / most;
}

}  // namespace boot_test
