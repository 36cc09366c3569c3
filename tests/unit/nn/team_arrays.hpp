// SPDX-License-Identifier: MIT
/// What the tests of team kernels share: arrays on the host device and the same numbers in float64 for the reference.
#pragma once

#include "arrays.hpp"

#include <boot/core/scalar.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_device.hpp>

#include <cmath>
#include <concepts>
#include <span>

namespace boot::inline v0::testing {

/// Numbers on the device and on the host in float64; `shift` elements away from a 16-byte address.
template <class T>
struct team_array {
  std::vector<double> host;        ///< what the device got, exactly
  tensor<T, team_device> memory;   ///< shift + size elements
  view<T, team_device> numbers{};  ///< what kernels get

  /// Normal numbers.
  team_array(const shape& s, std::uint64_t what, std::int64_t shift = 0)
      : memory(team_device{}, {s.size() + shift}), numbers(memory.data() + shift, s) {
    for (const float z : normal_numbers<float>(s.size(), 5, what)) host.push_back(static_cast<double>(z));
    for (std::size_t i = 0; i < host.size(); ++i) {
      store(numbers.data()[i], static_cast<compute_type<T>>(host[i]));
      host[i] = static_cast<double>(static_cast<compute_type<T>>(numbers.data()[i]));
    }
  }
  /// The numbers to be read.
  [[nodiscard]] view<const T, team_device> in() const { return numbers; }
  /// NaN, for results that must be written without having been read.
  void poison() {
    for (std::int64_t i = 0; i < numbers.size(); ++i) store(numbers.data()[i], static_cast<compute_type<T>>(NAN));
  }
  /// Largest |device - host| / (1 + |host|); infinite where the device has NaN.
  [[nodiscard]] double error() const {
    double worst = 0;
    const auto got = to_host(team_device{}, in());
    for (std::size_t i = 0; i < host.size(); ++i) {
      const double e = std::fabs(static_cast<double>(static_cast<compute_type<T>>(got[i])) - host[i]);
      worst = std::fmax(worst, std::isnan(e) ? HUGE_VAL : e / (1 + std::fabs(host[i])));
    }
    return worst;
  }
};

/// A copy where kernels reach it: a std::vector's memory is the host's alone.
template <class T>
[[nodiscard]] tensor<T, team_device> on_device(const std::vector<T>& numbers) {
  return tensor_of<T>(team_device{}, std::span<const T>(numbers), {std::ssize(numbers)});
}

/// What rounding may leave: `factor` times 1e-12 for double, 1e-6 for float, 5e-3 for bf16.
template <class T>
[[nodiscard]] double team_tolerance(double factor = 1) {
  return std::same_as<T, double> ? 1e-12 : factor * (std::same_as<T, float> ? 1e-6 : 5e-3);
}

}  // namespace boot::inline v0::testing
