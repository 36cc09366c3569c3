// SPDX-License-Identifier: MIT
/// What the tests of layers share: arrays of reproducible numbers or of poison, and views of them.
#pragma once

#include <boot/core/random.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace boot::inline v0::testing {

/// offset + factor z for `n` normal numbers z; `seed` and `what` tell arrays apart.
template <class T>
std::vector<T> normal_numbers(std::int64_t n, std::uint64_t seed, std::uint64_t what, double factor = 1,
                              double offset = 0) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(offset + factor * static_cast<double>(normal(counter_key{seed, stream::test, what}, 0, i)));
  return v;
}
/// NaN: what a result holds that must be written without having been read.
template <class T>
std::vector<T> poisoned(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}
/// The array to be read.
template <class T>
view<const T, cpu> in(const std::vector<T>& v, const shape& s) {
  return {v.data(), s};
}
/// The array to be written. An empty vector stands for a gradient nobody wants.
template <class T>
view<T, cpu> out(std::vector<T>& v, const shape& s) {
  return {v.empty() ? nullptr : v.data(), s};
}

}  // namespace boot::inline v0::testing
