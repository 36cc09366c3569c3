// SPDX-License-Identifier: MIT
/// Host loops of modulation: channels scaled, shifted and gated per sample, and the layer norm without weights.
#pragma once

#include <boot/config.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

inline constexpr std::int64_t modulate_columns = 64;  // channels whose sums one task keeps

// Calls f(row of x, row of e) for every position of x [batch, ..., c] and its row of e [batch or 1, c].
template <class F>
void for_each_modulated_row(const cpu& dev, const shape& x, const shape& e, const F& f) {
  const std::int64_t c = e[-1], rows = x.size() / c, positions = x.sample_size() / c;
  const bool shared = e.batch() == 1;
  parallel_chunks(dev, rows, row_grain(c), [&f, positions, shared](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) f(r, shared ? 0 : r / positions);
  });
}

// to[group, j] (+)= the sum over a group's rows, in order and in double, of dy[row, j] x[row, j], or of dy without x.
template <class T>
void modulate_sums(const cpu& dev, const T* dy, const T* x, std::int64_t groups, std::int64_t rows, std::int64_t c,
                   T* to, bool accumulate) {
  const std::int64_t parts = (c + modulate_columns - 1) / modulate_columns;
  parallel_for(dev, groups * parts, [=](std::int64_t task) {
    const std::int64_t group = task / parts, begin = task % parts * modulate_columns;
    const std::int64_t n = std::min(modulate_columns, c - begin);
    double sum[modulate_columns] = {};
    for (std::int64_t r = group * rows; r < (group + 1) * rows; ++r) {
      const T* BOOT_RESTRICT slope = dy + r * c + begin;
      const T* BOOT_RESTRICT value = x + (x == nullptr ? 0 : r * c + begin);
      if (x == nullptr) {
        BOOT_SIMD
        for (std::int64_t j = 0; j < n; ++j) sum[j] += static_cast<double>(slope[j]);
      } else {
        BOOT_SIMD
        for (std::int64_t j = 0; j < n; ++j) sum[j] += static_cast<double>(slope[j]) * static_cast<double>(value[j]);
      }
    }
    T* const line = to + group * c + begin;
    for (std::int64_t j = 0; j < n; ++j) line[j] = (accumulate ? line[j] : T{0}) + static_cast<T>(sum[j]);
  });
}

// The sum of f(i) over a row, in eight lanes: the order follows from n alone.
template <class F>
[[nodiscard]] double normalise_sum(std::int64_t n, const F& f) {
  double lane[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    BOOT_SIMD
    for (std::int64_t j = 0; j < 8; ++j) lane[j] += f(i + j);
  }
  for (std::int64_t j = 0; i < n; ++i, ++j) lane[j] += f(i);
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

}  // namespace detail

/// y = x (1 + scale) + shift for x [batch, ..., c], scale and shift [batch or 1, c].
template <ComputeScalar T>
void modulate_forward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> scale, view<const T, cpu> shift,
                      view<T, cpu> y) {
  const std::int64_t c = scale.extents()[-1];
  detail::for_each_modulated_row(dev, x.extents(), scale.extents(), [=](std::int64_t r, std::int64_t e) {
    const T* BOOT_RESTRICT p = x.data() + r * c;
    const T* BOOT_RESTRICT a = scale.data() + e * c;
    const T* BOOT_RESTRICT b = shift.data() + e * c;
    T* BOOT_RESTRICT q = y.data() + r * c;
    BOOT_SIMD
    for (std::int64_t j = 0; j < c; ++j) q[j] = p[j] * (T{1} + a[j]) + b[j];
  });
}

/// dx (+)= dy (plus + factor) for dy [batch, ..., c] and factor [batch or 1, c].
template <ComputeScalar T>
void modulate_input_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> factor, T plus, view<T, cpu> dx,
                             bool accumulate) {
  const std::int64_t c = factor.extents()[-1];
  detail::for_each_modulated_row(dev, dy.extents(), factor.extents(), [=](std::int64_t r, std::int64_t e) {
    const T* BOOT_RESTRICT p = dy.data() + r * c;
    const T* BOOT_RESTRICT a = factor.data() + e * c;
    T* BOOT_RESTRICT q = dx.data() + r * c;
    BOOT_SIMD
    for (std::int64_t j = 0; j < c; ++j) q[j] = (accumulate ? q[j] : T{0}) + p[j] * (plus + a[j]);
  });
}

/// dfactor[batch or 1, c] (+)= the sums of dy x over everything between batch and channels (and over the batch where
/// dfactor has one row); of dy alone where x has no data. Rows are added in order.
template <ComputeScalar T>
void modulate_factor_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> x, view<T, cpu> dfactor,
                              bool accumulate) {
  const std::int64_t c = dfactor.extents()[-1], groups = dfactor.batch();
  const std::int64_t rows = groups == 0 ? 0 : dy.size() / (c * groups);
  detail::modulate_sums(dev, dy.data(), x.data(), groups, rows, c, dfactor.data(), accumulate);
}

/// y = x + gate h for x and h [batch, ..., c], gate [batch or 1, c].
template <ComputeScalar T>
void gate_add_forward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> h, view<const T, cpu> gate,
                      view<T, cpu> y) {
  const std::int64_t c = gate.extents()[-1];
  detail::for_each_modulated_row(dev, x.extents(), gate.extents(), [=](std::int64_t r, std::int64_t e) {
    const T* BOOT_RESTRICT p = x.data() + r * c;
    const T* BOOT_RESTRICT f = h.data() + r * c;
    const T* BOOT_RESTRICT a = gate.data() + e * c;
    T* BOOT_RESTRICT q = y.data() + r * c;
    BOOT_SIMD
    for (std::int64_t j = 0; j < c; ++j) q[j] = p[j] + a[j] * f[j];
  });
}

/// y = (x - mean) / sqrt(variance + epsilon) over rows of the last dimension; `rstd` gets the reciprocal root of each
/// row, if not null. Statistics are in double.
template <ComputeScalar T>
void normalise_forward(const cpu& dev, view<const T, cpu> x, double epsilon, view<T, cpu> y, T* rstd) {
  const std::int64_t n = y.extents()[-1], rows = y.size() / n;
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* BOOT_RESTRICT p = x.data() + r * n;
      T* BOOT_RESTRICT q = y.data() + r * n;
      const double size = static_cast<double>(n);
      const double mean = detail::normalise_sum(n, [p](std::int64_t i) { return static_cast<double>(p[i]); }) / size;
      const double square = detail::normalise_sum(n, [p, mean](std::int64_t i) {
        return (static_cast<double>(p[i]) - mean) * (static_cast<double>(p[i]) - mean);
      });
      const T centre = static_cast<T>(mean), scale = static_cast<T>(1 / std::sqrt(square / size + epsilon));
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) q[i] = (p[i] - centre) * scale;
      if (rstd != nullptr) rstd[r] = scale;
    }
  });
}

/// dx (+)= d normalise / dx, from its result y and each row's rstd.
template <ComputeScalar T>
void normalise_backward(const cpu& dev, view<const T, cpu> y, const T* rstd, view<const T, cpu> dy, view<T, cpu> dx,
                        bool accumulate) {
  const std::int64_t n = dy.extents()[-1], rows = dy.size() / n;
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* BOOT_RESTRICT p = y.data() + r * n;
      const T* BOOT_RESTRICT g = dy.data() + r * n;
      T* BOOT_RESTRICT q = dx.data() + r * n;
      const double sum = detail::normalise_sum(n, [g](std::int64_t i) { return static_cast<double>(g[i]); });
      const double along = detail::normalise_sum(
          n, [g, p](std::int64_t i) { return static_cast<double>(g[i]) * static_cast<double>(p[i]); });
      const T mean = static_cast<T>(sum / static_cast<double>(n));
      const T slope = static_cast<T>(along / static_cast<double>(n)), scale = rstd[r];
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) q[i] = (accumulate ? q[i] : T{0}) + scale * (g[i] - mean - p[i] * slope);
    }
  });
}

}  // namespace boot::inline v0
