// SPDX-License-Identifier: MIT
/// Layer norm on any TeamDevice: a warp per row, gradients of weight and bias in two stages of a fixed order.
#pragma once

#include <boot/core/math.hpp>
#include <boot/nn/team/operations.hpp>

#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Grid: any number of blocks x 1.
template <class T>
struct layer_norm_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  const T* x;
  const C* weight;
  const C* bias;
  C epsilon, reciprocal;  // 1 / n
  T* y;
  C* saved;
  std::int64_t rows, n;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t own = team.rank() % Team::warp * width, step = Team::warp * width;
    const bool aligned = rows_aligned<width>(x, n) && rows_aligned<width>(y, n);
    const bool aligned_weight = group_aligned(weight) && group_aligned(bias);
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < rows; base += team.blocks() * at_once) {
      const std::int64_t row = base + team.rank() / Team::warp;
      const std::int64_t end = row < rows ? n : 0;  // warps without a row take part in the sums
      const T* const from = x + row * n;
      C sum = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const auto v = load_again<width>(from + i, aligned && count == width, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) sum += static_cast<C>(v.v[k]);
      }
      const C mean = warp_sum(team, sum) * reciprocal;
      C square = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const auto v = load_again<width>(from + i, aligned && count == width, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C d = k < count ? static_cast<C>(v.v[k]) - mean : C{0};
          square += d * d;
        }
      }
      const C rstd = math::quotient(C{1}, math::sqrt(warp_sum(team, square) * reciprocal + epsilon));
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool full = count == width;
        const auto v = load_part<width>(from + i, aligned && full, count);
        const auto w = load_again<width>(weight + i, aligned_weight && full, count);
        const auto b = load_again<width>(bias + i, aligned_weight && full, count);
        element_group<T, width> r;
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) store(r.v[k], (static_cast<C>(v.v[k]) - mean) * rstd * w.v[k] + b.v[k]);
        store_part<width>(y + row * n + i, r, aligned && full, count);
      }
      if (saved != nullptr && row < rows && team.rank() % Team::warp == 0) {
        saved[2 * row] = mean;
        saved[2 * row + 1] = rstd;
      }
    }
  }
};

/// Grid: any number of blocks x 1.
template <bool accumulate, class T>
struct layer_norm_input_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  const T* x;
  const C* weight;
  const C* saved;
  const T* dy;
  T* dx;
  C reciprocal;  // 1 / n
  std::int64_t rows, n;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t own = team.rank() % Team::warp * width, step = Team::warp * width;
    const bool aligned = rows_aligned<width>(x, n) && rows_aligned<width>(dy, n) && rows_aligned<width>(dx, n);
    const bool aligned_weight = group_aligned(weight);
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < rows; base += team.blocks() * at_once) {
      const std::int64_t row = base + team.rank() / Team::warp;
      const std::int64_t end = row < rows ? n : 0;
      const C mean = end > 0 ? saved[2 * row] : C{0}, rstd = end > 0 ? saved[2 * row + 1] : C{0};
      C sum = 0, along = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool full = count == width;
        const auto v = load_again<width>(x + row * n + i, aligned && full, count);
        const auto g = load_again<width>(dy + row * n + i, aligned && full, count);
        const auto w = load_again<width>(weight + i, aligned_weight && full, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C gw = static_cast<C>(g.v[k]) * w.v[k];
          sum += gw;
          along += gw * (static_cast<C>(v.v[k]) - mean) * rstd;
        }
      }
      sum = warp_sum(team, sum) * reciprocal;
      along = warp_sum(team, along) * reciprocal;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool full = count == width;
        const auto v = load_part<width>(x + row * n + i, aligned && full, count);
        const auto g = load_part<width>(dy + row * n + i, aligned && full, count);
        const auto w = load_again<width>(weight + i, aligned_weight && full, count);
        element_group<T, width> r;
        if constexpr (accumulate) r = load_part<width>(static_cast<const T*>(dx) + row * n + i, aligned && full, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C gw = static_cast<C>(g.v[k]) * w.v[k];
          const C value = rstd * (gw - sum - (static_cast<C>(v.v[k]) - mean) * rstd * along);
          store(r.v[k], accumulate ? static_cast<C>(r.v[k]) + value : value);
        }
        store_part<width>(dx + row * n + i, r, aligned && full, count);
      }
    }
  }
};

/// First stage: sums over a slice's rows, [slice, n] each. Grid: cut.blocks() x 1.
template <class T>
struct layer_norm_weight_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  static constexpr std::size_t shared_bytes = 256 * width * sizeof(C);
  row_tiles<width> cut;
  const T* x;
  const C* saved;
  const T* dy;
  C* dweight;
  C* dbias;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place p = place_in(team, cut);
    const bool whole = p.count == width && rows_aligned<width>(x, cut.columns) && rows_aligned<width>(dy, cut.columns);
    C along[width] = {}, sum[width] = {};
    if (p.count > 0) {
      BOOT_NO_UNROLL
      for (std::int64_t r = p.row; r < p.end; r += p.step) {
        const C mean = saved[2 * r], rstd = saved[2 * r + 1];
        const auto v = load_part<width>(x + r * cut.columns + p.column, whole, p.count);
        const auto g = load_part<width>(dy + r * cut.columns + p.column, whole, p.count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          along[k] += static_cast<C>(g.v[k]) * (static_cast<C>(v.v[k]) - mean) * rstd;
          sum[k] += static_cast<C>(g.v[k]);
        }
      }
    }
    sum_lines(team, cut.shift, along);
    sum_lines(team, cut.shift, sum);
    if (p.line != 0) return;
    const std::int64_t at = p.slice * cut.columns + p.column;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      if (k >= p.count) continue;
      dweight[at + k] = along[k];
      dbias[at + k] = sum[k];
    }
  }
};

}  // namespace detail

/// y = (x - mean) rstd weight + bias over rows of n elements; `saved` gets mean and rstd of each row, if not null.
template <TeamDevice D, StorageScalar T>
void layer_norm_forward(const D& dev, view<const T, D> x, const compute_type<T>* weight, const compute_type<T>* bias,
                        double epsilon, view<T, D> y, compute_type<T>* saved, std::int64_t n) {
  using C = compute_type<T>;
  const std::int64_t rows = n == 0 ? 0 : x.size() / n;
  if (rows == 0) return;
  launch(dev,
         detail::layer_norm_body<T>{x.data(), weight, bias, static_cast<C>(epsilon),
                                    static_cast<C>(1.0 / static_cast<double>(n)), y.data(), saved, rows, n},
         blocks_for(rows, 8, 65536), 1);
}

/// dx (+)= d layer_norm / dx, unless dx is null; dweight and dbias are added to where they are not null.
template <TeamDevice D, StorageScalar T>
void layer_norm_backward(const D& dev, view<const T, D> x, const compute_type<T>* weight, const compute_type<T>* saved,
                         view<const T, D> dy, view<T, D> dx, bool accumulate, compute_type<T>* dweight,
                         compute_type<T>* dbias, std::int64_t n) {
  using C = compute_type<T>;
  const std::int64_t rows = n == 0 ? 0 : dy.size() / n;
  if (rows == 0) return;
  if (dx.data() != nullptr) {
    const C reciprocal = static_cast<C>(1.0 / static_cast<double>(n));
    const std::int64_t blocks = blocks_for(rows, 8, 65536);
    if (accumulate) {
      launch(dev,
             detail::layer_norm_input_body<true, T>{x.data(), weight, saved, dy.data(), dx.data(), reciprocal, rows, n},
             blocks, 1);
    } else {
      launch(
          dev,
          detail::layer_norm_input_body<false, T>{x.data(), weight, saved, dy.data(), dx.data(), reciprocal, rows, n},
          blocks, 1);
    }
  }
  if (dweight == nullptr && dbias == nullptr) return;
  const auto cut = detail::sum_tiles<T>(1, rows, n);
  const std::int64_t part = cut.slices * n;
  C* const partial = static_cast<C*>(device_scratch(dev, static_cast<std::size_t>(2 * part) * sizeof(C), 0));
  launch(dev, detail::layer_norm_weight_body<T>{cut, x.data(), saved, dy.data(), partial, partial + part}, cut.blocks(),
         1);
  const C* const parts = partial;
  if (dweight != nullptr) detail::add_slices(dev, parts, 1, cut.slices, n, dweight, true);
  if (dbias != nullptr) detail::add_slices(dev, parts + part, 1, cut.slices, n, dbias, true);
}

}  // namespace boot::inline v0
