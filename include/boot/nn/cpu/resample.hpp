// SPDX-License-Identifier: MIT
/// Host loops of upsampling and average pooling.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/view.hpp>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace boot::inline v0 {

namespace detail {

// Calls f(coarse row, upper fine row, lower fine row) for every row of the smaller of two images of sizes 1 : 2.
template <class Coarse, class Fine, class F>
void for_row_pairs(const cpu& dev, const shape& coarse, Coarse* small_image, Fine* large_image, const F& f) {
  const std::int64_t line = coarse[2] * coarse[3];
  parallel_chunks(dev, coarse[0] * coarse[1], row_grain(4 * line), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r)
      f(small_image + r * line, large_image + 4 * r * line, large_image + (4 * r + 2) * line);
  });
}

// to[pixel] (+)= factor times the sum of 2 x 2 pixels, the upper two first.
template <class T>
void sum_of_four(const cpu& dev, view<const T, cpu> from, view<T, cpu> to, T factor, bool accumulate) {
  const std::int64_t width = to.extents()[2], channels = to.extents()[3];
  for_row_pairs(dev, to.extents(), to.data(), from.data(), [=](T* y, const T* upper, const T* lower) {
    for (std::int64_t x = 0; x < width; ++x) {
      T* BOOT_RESTRICT q = y + x * channels;
      const T* BOOT_RESTRICT a = upper + 2 * x * channels;
      const T* BOOT_RESTRICT b = lower + 2 * x * channels;
      BOOT_SIMD
      for (std::int64_t c = 0; c < channels; ++c)
        q[c] = (accumulate ? q[c] : T{0}) + factor * ((a[c] + a[c + channels]) + (b[c] + b[c + channels]));
    }
  });
}

}  // namespace detail

/// y [b, 2h, 2w, c] = every pixel of x [b, h, w, c] four times.
template <ComputeScalar T>
void upsample_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  const std::int64_t width = x.extents()[2], channels = x.extents()[3];
  const std::size_t bytes = static_cast<std::size_t>(channels) * sizeof(T);
  detail::for_row_pairs(dev, x.extents(), x.data(), y.data(), [=](const T* from, T* upper, T* lower) {
    for (std::int64_t i = 0; i < 2 * width; ++i) std::memcpy(upper + i * channels, from + i / 2 * channels, bytes);
    std::memcpy(lower, upper, static_cast<std::size_t>(2 * width) * bytes);
  });
}

/// dx [b, h, w, c] (+)= the sum of the four pixels of dy [b, 2h, 2w, c].
template <ComputeScalar T>
void upsample_backward(const cpu& dev, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  detail::sum_of_four(dev, dy, dx, T{1}, accumulate);
}

/// y [b, h/2, w/2, c] = the mean of 2 x 2 pixels of x [b, h, w, c].
template <ComputeScalar T>
void average_pool_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  detail::sum_of_four(dev, x, y, static_cast<T>(0.25), false);
}

/// dx [b, h, w, c] (+)= a quarter of the pixel of dy [b, h/2, w/2, c] above it.
template <ComputeScalar T>
void average_pool_backward(const cpu& dev, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  const std::int64_t width = dy.extents()[2], channels = dy.extents()[3];
  detail::for_row_pairs(dev, dy.extents(), dy.data(), dx.data(), [=](const T* from, T* upper, T* lower) {
    for (T* const line : {upper, lower})
      for (std::int64_t i = 0; i < 2 * width; ++i) {
        T* BOOT_RESTRICT q = line + i * channels;
        const T* BOOT_RESTRICT p = from + i / 2 * channels;
        BOOT_SIMD
        for (std::int64_t c = 0; c < channels; ++c) q[c] = (accumulate ? q[c] : T{0}) + static_cast<T>(0.25) * p[c];
      }
  });
}

}  // namespace boot::inline v0
