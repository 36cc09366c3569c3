// SPDX-License-Identifier: MIT
/// Matrix product on the host: packed panels, register tiles in vector extensions, the same bits for any thread count.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/device/memory.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace boot::inline v0 {

/// An operand of gemm(): element (i, j) lies at data[i * row + j * column]; one of the strides is 1.
template <class T>
struct matrix {
  const T* data;            ///< first element
  std::int64_t row = 1;     ///< distance of rows
  std::int64_t column = 1;  ///< distance of columns
};

namespace detail {

template <class T>
struct gemm_tile {
  static constexpr int width = BOOT_HAS_VECTOR_EXTENSIONS ? BOOT_VECTOR_BYTES / static_cast<int>(sizeof(T)) : 1;
  static constexpr int columns = 2 * width;                                                    // NR
  static constexpr int rows = BOOT_VECTOR_BYTES == 64 ? 12 : BOOT_VECTOR_BYTES == 32 ? 6 : 4;  // MR
  static constexpr std::int64_t depth = 512;                                                   // K per pass
#if BOOT_HAS_VECTOR_EXTENSIONS
  typedef T vector __attribute__((vector_size(BOOT_VECTOR_BYTES)));
  typedef T loose __attribute__((vector_size(BOOT_VECTOR_BYTES), aligned(alignof(T)), may_alias));
  static vector load(const T* p) { return *reinterpret_cast<const loose*>(p); }
  static void save(T* p, vector v) { *reinterpret_cast<loose*>(p) = v; }
  static T lane(vector v, int i) { return v[i]; }
#else
  using vector = T;
  static vector load(const T* p) { return *p; }
  static void save(T* p, vector v) { *p = v; }
  static T lane(vector v, int) { return v; }
#endif
};

// C[rows x NR] (+)= A B over `depth` steps: `a` holds MR values per step, `b` NR values per step, both packed.
template <class T>
[[gnu::noinline]] void gemm_kernel(const T* BOOT_RESTRICT a, const T* BOOT_RESTRICT b, std::int64_t depth, T* c,
                                   std::int64_t stride, int rows, int columns, bool add, const T* bias) {
  using tile = gemm_tile<T>;
  using vector = typename tile::vector;
  vector sum[tile::rows][2];
  for (int i = 0; i < tile::rows; ++i) sum[i][0] = sum[i][1] = vector{};
  for (std::int64_t k = 0; k < depth; ++k) {
    const vector b0 = tile::load(b), b1 = tile::load(b + tile::width);
#pragma GCC unroll 12
    for (int i = 0; i < tile::rows; ++i) {
      const vector x = a[i] - vector{};
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
    a += tile::rows;
    b += tile::columns;
  }
  if (columns == tile::columns) {
    vector d0{}, d1{};
    if (bias != nullptr) d0 = tile::load(bias), d1 = tile::load(bias + tile::width);
#pragma GCC unroll 12
    for (int i = 0; i < tile::rows; ++i) {
      if (i >= rows) break;
      T* p = c + i * stride;
      vector s0 = sum[i][0] + d0, s1 = sum[i][1] + d1;
      if (add) s0 += tile::load(p), s1 += tile::load(p + tile::width);
      tile::save(p, s0);
      tile::save(p + tile::width, s1);
    }
    return;
  }
  T edge[tile::rows][tile::columns];
#pragma GCC unroll 12
  for (int i = 0; i < tile::rows; ++i) {
    tile::save(edge[i], sum[i][0]);
    tile::save(edge[i] + tile::width, sum[i][1]);
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      T v = edge[i][j] + (bias != nullptr ? bias[j] : T{0});
      c[i * stride + j] = add ? c[i * stride + j] + v : v;
    }
}

#if BOOT_HAS_VECTOR_EXTENSIONS
// One round of a square transpose in registers: exchanges the off-diagonal blocks of size `block`.
template <int block, class Tile, std::size_t... J>
void gemm_exchange(typename Tile::vector& a, typename Tile::vector& b, std::index_sequence<J...>) {
  constexpr int w = Tile::width;
  const auto x = a, y = b;
  a = __builtin_shufflevector(x, y, ((J & block) == 0 ? static_cast<int>(J) : w + static_cast<int>(J) - block)...);
  b = __builtin_shufflevector(x, y, ((J & block) == 0 ? static_cast<int>(J) + block : w + static_cast<int>(J))...);
}
template <int block, class Tile>
void gemm_transpose(typename Tile::vector (&v)[Tile::width]) {
  if constexpr (block < Tile::width) {
#  pragma GCC unroll 16
    for (int i = 0; i < Tile::width; ++i)
      if ((i & block) == 0) gemm_exchange<block, Tile>(v[i], v[i + block], std::make_index_sequence<Tile::width>{});
    gemm_transpose<2 * block, Tile>(v);
  }
}
#endif

// Copies `lines` lines (rows of A or columns of B) of `depth` steps into a panel `width` lines wide, zero beyond
// `lines`.
template <int width, class T>
void gemm_pack(const T* from, std::int64_t line, std::int64_t step, std::int64_t lines, std::int64_t depth,
               T* BOOT_RESTRICT to) {
  if (lines == width && line == 1) {
    for (std::int64_t k = 0; k < depth; ++k) std::memcpy(to + k * width, from + k * step, sizeof(T) * width);
    return;
  }
#if BOOT_HAS_VECTOR_EXTENSIONS
  if constexpr (width == gemm_tile<T>::columns) {
    using tile = gemm_tile<T>;
    if (step == 1 && lines == width) {  // lines are contiguous: squares are transposed in registers
      std::int64_t k = 0;
      for (; k + tile::width <= depth; k += tile::width)
        for (int half = 0; half < 2; ++half) {
          typename tile::vector v[tile::width];
#  pragma GCC unroll 16
          for (int i = 0; i < tile::width; ++i) v[i] = tile::load(from + (half * tile::width + i) * line + k);
          gemm_transpose<1, tile>(v);
#  pragma GCC unroll 16
          for (int i = 0; i < tile::width; ++i) tile::save(to + (k + i) * width + half * tile::width, v[i]);
        }
      for (; k < depth; ++k)
        for (int i = 0; i < width; ++i) to[k * width + i] = from[i * line + k];
      return;
    }
  }
#endif
  if (step == 1) {  // lines are contiguous: transpose in small squares, so that reads and writes stay in cache lines
    constexpr std::int64_t square = 16;
    for (std::int64_t k0 = 0; k0 < depth; k0 += square) {
      const std::int64_t k1 = std::min(depth, k0 + square);
      for (std::int64_t i = 0; i < lines; ++i)
        for (std::int64_t k = k0; k < k1; ++k) to[k * width + i] = from[i * line + k];
    }
  } else {
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t i = 0; i < lines; ++i) to[k * width + i] = from[i * line + k * step];
  }
  for (std::int64_t i = lines; i < width; ++i)
    for (std::int64_t k = 0; k < depth; ++k) to[k * width + i] = T{0};
}

// Packing space, one per calling thread, kept: after the first product of a size nothing is allocated.
template <class T>
T* gemm_space(const cpu& dev, std::int64_t elements) {
  thread_local buffer<cpu> space;
  const auto bytes = static_cast<std::size_t>(elements) * sizeof(T);
  if (space.bytes() < bytes) {
    space = {};
    space = buffer<cpu>(dev, bytes);
  }
  return static_cast<T*>(space.data());
}

}  // namespace detail

/// C = A B, or C += A B, for row-major C of `m` rows, `n` columns and row distance `stride`; A is m x k, B is k x n.
/// `bias`, unless null, has n numbers added to every row. Each element is a sum over k in one fixed order.
template <ComputeScalar T>
void gemm(const cpu& dev, std::int64_t m, std::int64_t n, std::int64_t k, matrix<T> a, matrix<T> b, T* c,
          std::int64_t stride, bool add = false, const T* bias = nullptr) {
  using tile = detail::gemm_tile<T>;
  constexpr std::int64_t mr = tile::rows, nr = tile::columns;
  if (m == 0 || n == 0) return;
  const std::int64_t m_tiles = (m + mr - 1) / mr, n_tiles = (n + nr - 1) / nr;
  // A small product is done before a second thread has woken up; where the cut falls does not change the bits.
  const cpu team = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) < 2e6 ? cpu{1} : dev;
  T* const a_packed = detail::gemm_space<T>(dev, (m_tiles * mr + n_tiles * nr) * std::max<std::int64_t>(k, 1));
  T* const b_packed = a_packed + m_tiles * mr * k;
  parallel_for(team, m_tiles + n_tiles, [&](std::int64_t i) {
    if (i < m_tiles) {
      detail::gemm_pack<mr>(a.data + i * mr * a.row, a.row, a.column, std::min(mr, m - i * mr), k,
                            a_packed + i * mr * k);
    } else {
      const std::int64_t j = i - m_tiles;
      detail::gemm_pack<nr>(b.data + j * nr * b.column, b.column, b.row, std::min(nr, n - j * nr), k,
                            b_packed + j * nr * k);
    }
  });
  // Blocks of tiles are cut by shape: 4 row tiles by 2 column tiles, or smaller ones while there are few.
  const std::int64_t m_step = m_tiles > 8 ? 4 : 1, n_step = n_tiles > 8 ? 2 : 1;
  const std::int64_t m_blocks = (m_tiles + m_step - 1) / m_step, n_blocks = (n_tiles + n_step - 1) / n_step;
  parallel_for(team, m_blocks * n_blocks, [&](std::int64_t block) {
    const std::int64_t i0 = block / n_blocks * m_step, i1 = std::min(m_tiles, i0 + m_step);
    const std::int64_t j0 = block % n_blocks * n_step, j1 = std::min(n_tiles, j0 + n_step);
    std::int64_t k0 = 0;
    do {
      const std::int64_t depth = std::min(tile::depth, k - k0);
      for (std::int64_t j = j0; j < j1; ++j)
        for (std::int64_t i = i0; i < i1; ++i)
          detail::gemm_kernel<T>(a_packed + i * mr * k + k0 * mr, b_packed + j * nr * k + k0 * nr, depth,
                                 c + i * mr * stride + j * nr, stride, static_cast<int>(std::min(mr, m - i * mr)),
                                 static_cast<int>(std::min(nr, n - j * nr)), add || k0 > 0,
                                 bias == nullptr || k0 > 0 ? nullptr : bias + j * nr);
      k0 += depth;
    } while (k0 < k);
  });
}

}  // namespace boot::inline v0
