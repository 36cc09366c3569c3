// SPDX-License-Identifier: MIT
/// Runs one function of the network operations by boot::cpu in double and by teams of threads, and compares.
#pragma once

#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_device.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace boot_test {

/// Shape and distribution of an operand's numbers; a poisoned one begins as NaN.
struct team_operand {
  boot::shape extents;
  double factor = 1, offset = 0;
  bool poisoned = false;
};

/// f(dev, views): the last view is written, the others are read. The reference is boot::cpu in double on the numbers as
/// T stores them; `tolerance` is in units of its largest value. In double the pointers are aligned, else they are not.
template <class T, class F, std::size_t N>
void check_team(const F& f, const std::array<team_operand, N>& operands, double tolerance) {
  const auto run = [&]<class U, class D>(const D& dev, U, std::int64_t shift) {
    std::vector<boot::tensor<U, D>> memory;
    std::array<boot::view<U, D>, N> views;
    for (std::size_t i = 0; i < N; ++i) {
      const auto& a = operands[i];
      const auto numbers = boot::testing::normal_numbers<float>(a.extents.size(), 7, i, a.factor, a.offset);
      std::vector<U> host(static_cast<std::size_t>(a.extents.size() + shift));
      for (std::size_t k = 0; k < numbers.size(); ++k) {
        T stored;
        boot::store(stored, static_cast<boot::compute_type<T>>(a.poisoned ? NAN : numbers[k]));
        boot::store(host[k + static_cast<std::size_t>(shift)],
                    static_cast<boot::compute_type<U>>(static_cast<boot::compute_type<T>>(stored)));
      }
      memory.push_back(boot::tensor_of<U>(dev, std::span<const U>(host), {a.extents.size() + shift}));
      views[i] = {memory.back().data() + shift, a.extents};
    }
    f(dev, views);
    std::vector<double> result;
    for (const U x : boot::to_host(dev, views[N - 1]))
      result.push_back(static_cast<double>(static_cast<boot::compute_type<U>>(x)));
    return result;
  };
  const std::vector<double> want = run(boot::cpu{1}, double{}, 0);
  double largest = 0;
  for (const double w : want) largest = std::max(largest, std::abs(w));
  const std::vector<double> have = run(boot::team_device{}, T{}, std::same_as<T, double> ? 0 : 1);
  REQUIRE(have.size() == want.size());
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double off = std::abs(have[i] - want[i]) / largest;
    worst = std::isnan(off) ? HUGE_VAL : std::max(worst, off);
  }
  INFO("shape " << boot::to_string(operands[N - 1].extents));
  CHECK(worst <= tolerance);
}

/// The numbers of v as operations keep parameters: in the type they are computed in.
template <class T, class D>
boot::tensor<boot::compute_type<T>, D> in_full(const D& dev, const boot::view<T, D>& v) {
  std::vector<boot::compute_type<T>> wide;
  for (const T x : boot::to_host(dev, boot::view<const T, D>(v))) wide.push_back(static_cast<boot::compute_type<T>>(x));
  return boot::tensor_of<boot::compute_type<T>>(dev, std::span<const boot::compute_type<T>>(wide), v.extents());
}

/// A view to be read.
template <class T, class D>
boot::view<const T, D> reading(const boot::view<T, D>& v) {
  return v;
}

}  // namespace boot_test
