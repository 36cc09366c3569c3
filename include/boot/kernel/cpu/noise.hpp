// SPDX-License-Identifier: MIT
/// Standard normal noise on the host: a function of seed, stream, step, sample and element, whatever the batch split.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace boot::inline v0 {

/// Fills row i of `out` with the noise of sample samples[i]. The numbers are floats, also where T is double.
template <ComputeScalar T>
void fill_noise(const cpu& dev, const counter_key& key, std::span<const std::int64_t> samples, view<T, cpu> out) {
  require(static_cast<std::int64_t>(samples.size()) == out.batch(), "boot: {} samples for noise of shape {}",
          samples.size(), to_string(out.extents()));
  constexpr std::int64_t piece = 4096;
  const std::int64_t n = out.sample_size(), pieces = (n + piece - 1) / piece;
  const std::int64_t together = std::max<std::int64_t>(1, piece / std::max<std::int64_t>(1, n));
  parallel_chunks(dev, out.batch() * pieces, together, [&](std::int64_t first, std::int64_t last) {
    float numbers[piece];
    for (std::int64_t k = first; k < last; ++k) {
      const std::int64_t row = k / pieces, begin = k % pieces * piece, count = std::min(piece, n - begin);
      T* to = out.data() + row * n + begin;
      if constexpr (std::same_as<T, float>) {
        fill_normal(to, count, key, samples[static_cast<std::size_t>(row)], begin);
      } else {
        fill_normal(numbers, count, key, samples[static_cast<std::size_t>(row)], begin);
        for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(numbers[i]);
      }
    }
  });
}

}  // namespace boot::inline v0
