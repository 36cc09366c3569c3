// SPDX-License-Identifier: MIT
/// Upsampling and average pooling on any TeamDevice.
#pragma once

#include <boot/nn/team/operations.hpp>

#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Between images [samples, h, w, c] and [samples, 2h, 2w, c]: every coarse pixel with its four fine ones. `gather`:
/// coarse (+)= factor times the sum of the four, the upper two first; otherwise each of the four (+)= factor times coarse.
/// Grid: cut.blocks() x samples; the cut's rows are the coarse pixels of one sample.
template <bool gather, bool accumulate, class T>
struct resample_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T* from;
  T* to;
  std::uint32_t columns;  // of the coarse image
  C factor;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const std::int64_t n = cut.columns, image = team.sample() * cut.rows * n;
    const bool whole =
        p.count == width && rows_aligned<width>(from, n) && rows_aligned<width>(to, n) && p.column % width == 0;
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const std::int64_t y = static_cast<std::uint32_t>(r) / columns;  // a sample has below 2^32 pixels
      const std::int64_t small_at = image + r * n + p.column;
      const std::int64_t large_at = 4 * image + (2 * y * columns + 2 * r) * n + p.column;
      const std::int64_t below = 2 * static_cast<std::int64_t>(columns) * n;
      if constexpr (gather) {
        const auto a = load_part<width>(from + large_at, whole, p.count);
        const auto b = load_part<width>(from + large_at + n, whole, p.count);
        const auto c = load_part<width>(from + large_at + below, whole, p.count);
        const auto d = load_part<width>(from + large_at + below + n, whole, p.count);
        element_group<T, width> q;
        if constexpr (accumulate) q = load_part<width>(static_cast<const T*>(to) + small_at, whole, p.count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C sum =
              (static_cast<C>(a.v[k]) + static_cast<C>(b.v[k])) + (static_cast<C>(c.v[k]) + static_cast<C>(d.v[k]));
          store(q.v[k], accumulate ? static_cast<C>(q.v[k]) + factor * sum : factor * sum);
        }
        store_part<width>(to + small_at, q, whole, p.count);
      } else {
        const auto x = load_part<width>(from + small_at, whole, p.count);
        BOOT_UNROLL
        for (int i = 0; i < 4; ++i) {
          T* const target = to + large_at + (i / 2) * below + (i % 2) * n;
          element_group<T, width> q;
          if constexpr (accumulate) q = load_part<width>(static_cast<const T*>(target), whole, p.count);
          BOOT_UNROLL
          for (int k = 0; k < width; ++k) {
            const C value = factor * static_cast<C>(x.v[k]);
            store(q.v[k], accumulate ? static_cast<C>(q.v[k]) + value : value);
          }
          store_part<width>(target, q, whole, p.count);
        }
      }
    }
  }
};

template <bool gather, TeamDevice D, class T>
void resample(const D& dev, const shape& coarse, const T* from, T* to, double factor, bool accumulate) {
  const row_tiles<group_size<T>()> cut(coarse[1] * coarse[2], coarse[3], 4, 65536);
  const auto columns = static_cast<std::uint32_t>(coarse[2]);
  const auto f = static_cast<compute_type<T>>(factor);
  if (accumulate) {
    launch(dev, resample_body<gather, true, T>{cut, from, to, columns, f}, cut.blocks(), coarse[0]);
  } else {
    launch(dev, resample_body<gather, false, T>{cut, from, to, columns, f}, cut.blocks(), coarse[0]);
  }
}

}  // namespace detail

/// y [b, 2h, 2w, c] = every pixel of x [b, h, w, c] four times.
template <TeamDevice D, StorageScalar T>
void upsample_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  detail::resample<false>(dev, x.extents(), x.data(), y.data(), 1, false);
}

/// dx [b, h, w, c] (+)= the sum of the four pixels of dy [b, 2h, 2w, c].
template <TeamDevice D, StorageScalar T>
void upsample_backward(const D& dev, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  detail::resample<true>(dev, dx.extents(), dy.data(), dx.data(), 1, accumulate);
}

/// y [b, h/2, w/2, c] = the mean of 2 x 2 pixels of x [b, h, w, c].
template <TeamDevice D, StorageScalar T>
void average_pool_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  detail::resample<true>(dev, y.extents(), x.data(), y.data(), 0.25, false);
}

/// dx [b, h, w, c] (+)= a quarter of the pixel of dy [b, h/2, w/2, c] above it.
template <TeamDevice D, StorageScalar T>
void average_pool_backward(const D& dev, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  detail::resample<false>(dev, dy.extents(), dy.data(), dx.data(), 0.25, accumulate);
}

}  // namespace boot::inline v0
