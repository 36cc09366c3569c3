// SPDX-License-Identifier: MIT
/// Host loops of patches and positions.
#pragma once

#include <boot/config.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/view.hpp>

#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {
/// Copies or adds rows of `run` numbers between an image [batch, rows size, columns, run] and patches
/// [batch, rows, columns, size, run].
template <bool to_patches, class T>
void move_patches(const cpu& dev, const T* from, T* to, std::int64_t image_rows, std::int64_t columns,
                  std::int64_t size, std::int64_t run, bool accumulate) {
  parallel_chunks(dev, image_rows, row_grain(columns * run), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t y = first; y < last; ++y)
      for (std::int64_t x = 0; x < columns; ++x) {
        const std::int64_t in_image = (y * columns + x) * run;
        const std::int64_t in_patches = ((y / size * columns + x) * size + y % size) * run;
        const T* BOOT_RESTRICT p = from + (to_patches ? in_image : in_patches);
        T* BOOT_RESTRICT q = to + (to_patches ? in_patches : in_image);
        for (std::int64_t i = 0; i < run; ++i) q[i] = (accumulate ? q[i] : T{0}) + p[i];
      }
  });
}
}  // namespace detail

/// patches (+)= image [batch, height, width, c], cut into patches of size x size pixels.
template <ComputeScalar T>
void image_to_patches(const cpu& dev, view<const T, cpu> image, std::int64_t size, view<T, cpu> patches,
                      bool accumulate) {
  const shape& s = image.extents();
  detail::move_patches<true>(dev, image.data(), patches.data(), s[0] * s[1], s[2] / size, size, size * s[3],
                             accumulate);
}
/// image [batch, height, width, c] (+)= patches of size x size pixels.
template <ComputeScalar T>
void patches_to_image(const cpu& dev, view<const T, cpu> patches, std::int64_t size, view<T, cpu> image,
                      bool accumulate) {
  const shape& s = image.extents();
  detail::move_patches<false>(dev, patches.data(), image.data(), s[0] * s[1], s[2] / size, size, size * s[3],
                              accumulate);
}

/// y = x + the sine-cosine table of add_positions_op, computed in double. y and x must not be the same memory.
template <ComputeScalar T>
void add_positions(const cpu& dev, view<const T, cpu> x, double base, view<T, cpu> y) {
  const std::int64_t batch = x.extents()[0], rows = x.extents()[1], columns = x.extents()[2], n = x.extents()[3];
  const std::int64_t tokens = rows * columns, quarter = n / 4;
  if (batch == 0) return;  // there is no first sample to hold the table
  parallel_chunks(dev, tokens, detail::row_grain(16 * n), [=](std::int64_t first, std::int64_t last) {
    // The table is written where the first sample's result will stand, read for all other samples, and then added to.
    for (std::int64_t i = 0; i < quarter; ++i) {
      const double frequency = std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(quarter));
      for (std::int64_t k = first; k < last; ++k) {
        const double column = static_cast<double>(k % columns) * base / static_cast<double>(columns) * frequency;
        const double row = static_cast<double>(k / columns) * base / static_cast<double>(rows) * frequency;
        T* q = y.data() + k * n + i;
        q[0] = static_cast<T>(std::sin(column));
        q[quarter] = static_cast<T>(std::cos(column));
        q[2 * quarter] = static_cast<T>(std::sin(row));
        q[3 * quarter] = static_cast<T>(std::cos(row));
      }
    }
    const T* BOOT_RESTRICT from = x.data();
    T* BOOT_RESTRICT to = y.data();
    for (std::int64_t b = batch - 1; b >= 0; --b) {
      const std::int64_t at = b * tokens * n;
      BOOT_SIMD
      for (std::int64_t i = first * n; i < last * n; ++i) to[at + i] = from[at + i] + to[i];
    }
  });
}

}  // namespace boot::inline v0
