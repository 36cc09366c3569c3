// SPDX-License-Identifier: MIT
/// Host loops of the optimiser: the gradient's square sum in a fixed order, and AdamW with all averages in one pass.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

namespace detail {

inline constexpr std::int64_t optimizer_grain = 16384;

template <int Averages, class T>
void adamw_range(const adamw_row<T> p, const group_row<T> g, std::int64_t n, T* BOOT_RESTRICT value,
                 const T* BOOT_RESTRICT gradient, T* BOOT_RESTRICT first, T* BOOT_RESTRICT second, T* BOOT_RESTRICT a0,
                 T* BOOT_RESTRICT a1, T* BOOT_RESTRICT a2, T* BOOT_RESTRICT a3) {
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) {
    const adamw_state<T> s = adamw_update(p, g, value[i], gradient[i], first[i], second[i]);
    value[i] = s.value;
    first[i] = s.first;
    second[i] = s.second;
    if constexpr (Averages > 0) a0[i] += p.average[0] * (s.value - a0[i]);
    if constexpr (Averages > 1) a1[i] += p.average[1] * (s.value - a1[i]);
    if constexpr (Averages > 2) a2[i] += p.average[2] * (s.value - a2[i]);
    if constexpr (Averages > 3) a3[i] += p.average[3] * (s.value - a3[i]);
  }
}

}  // namespace detail

/// Sum of squares of a flat array in float64; pieces of fixed size are added in order, so threads do not change it.
/// `partials` is kept by the caller between calls.
template <ComputeScalar T>
[[nodiscard]] double square_sum(const cpu& dev, view<const T, cpu> x, std::vector<double>& partials) {
  const std::int64_t grain = detail::optimizer_grain, n = x.size(), pieces = (n + grain - 1) / grain;
  partials.resize(static_cast<std::size_t>(pieces));
  parallel_for(dev, pieces, [&](std::int64_t piece) {
    const T* p = x.data() + piece * grain;
    const std::int64_t count = std::min(grain, n - piece * grain);
    double sum = 0;
#if BOOT_HAS_OPENMP
#  pragma omp simd reduction(+ : sum)
#endif
    for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(p[i]) * static_cast<double>(p[i]);
    partials[static_cast<std::size_t>(piece)] = sum;
  });
  double sum = 0;
  for (const double s : partials) sum += s;
  return sum;
}

/// One AdamW step over all ranges, and every average, in one pass. With row->skip set it does nothing.
template <ComputeScalar T>
void adamw_ema(const cpu& dev, const adamw_row<T>* row, const group_row<T>* groups, const parameter_range* ranges,
               std::int64_t range_count, T* value, const T* gradient, T* first, T* second,
               const std::array<T*, max_averages>& average, int averages) {
  if (row->skip != T{0}) return;
  for (std::int64_t r = 0; r < range_count; ++r) {
    const parameter_range& range = ranges[r];
    parallel_chunks(dev, range.end - range.begin, detail::optimizer_grain, [&](std::int64_t b, std::int64_t e) {
      const std::int64_t at = range.begin + b, n = e - b;
      const auto a = [&](std::size_t k) { return average[k] == nullptr ? nullptr : average[k] + at; };
      const auto run = [&](auto count) {
        detail::adamw_range<decltype(count)::value>(*row, groups[range.group], n, value + at, gradient + at, first + at,
                                                    second + at, a(0), a(1), a(2), a(3));
      };
      switch (averages) {
        case 0:
          run(std::integral_constant<int, 0>{});
          break;
        case 1:
          run(std::integral_constant<int, 1>{});
          break;
        case 2:
          run(std::integral_constant<int, 2>{});
          break;
        case 3:
          run(std::integral_constant<int, 3>{});
          break;
        default:
          run(std::integral_constant<int, 4>{});
          break;
      }
    });
  }
}

}  // namespace boot::inline v0
