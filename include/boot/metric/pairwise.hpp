// SPDX-License-Identifier: MIT
/// Squared Euclidean distances between all samples of two sets, made block by block and never stored whole.
#pragma once

#include <boot/config.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <cstdint>
#include <vector>

namespace boot::inline v0::detail {

inline constexpr std::int64_t pairwise_tile = 32;   ///< samples of y side by side in a tile
inline constexpr std::int64_t pairwise_depth = 64;  ///< elements summed in float before they join the sum in double
inline constexpr std::int64_t pairwise_rows = 64;   ///< samples of x that share a tile while it is in the cache

/// A set of samples rearranged for pairwise_distances: tiles of 32 samples, element by element, the last one padded.
class pairwise_tiles {
 public:
  /// Copies `y`; takes as much memory as `y`, rounded up to 32 samples.
  pairwise_tiles(const cpu& dev, const view<const float, cpu>& y)
      : count_(y.batch()), size_(y.sample_size()), values_(static_cast<std::size_t>(tiles() * pairwise_tile * size_)) {
    parallel_for(dev, tiles(), [&](std::int64_t t) {
      float* to = values_.data() + t * pairwise_tile * size_;
      for (std::int64_t j = 0; j < pairwise_tile && t * pairwise_tile + j < count_; ++j) {
        const float* from = y.data() + (t * pairwise_tile + j) * size_;
        for (std::int64_t k = 0; k < size_; ++k) to[k * pairwise_tile + j] = from[k];
      }
    });
  }
  /// Number of tiles.
  [[nodiscard]] std::int64_t tiles() const noexcept { return (count_ + pairwise_tile - 1) / pairwise_tile; }
  /// Number of samples.
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  /// Element `k` of the 32 samples of tile `t`.
  [[nodiscard]] const float* at(std::int64_t t, std::int64_t k) const noexcept {
    return values_.data() + (t * size_ + k) * pairwise_tile;
  }

 private:
  std::int64_t count_ = 0, size_ = 0;
  std::vector<float> values_;
};

/// sum[i][j] += sum over k < depth of (x[i][k] - y[k][j])^2 for Rows samples of x and a tile of y.
/// Differences, not |x|^2 + |y|^2 - 2 xy: equal samples are exactly 0 apart, and a common offset costs no digits.
template <int Rows>
void add_squared_distances(const float* x, std::int64_t stride, const float* y, std::int64_t depth, double* sum) {
  float part[Rows][pairwise_tile] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < Rows; ++i) {
      const float v = x[i * stride + k];
      BOOT_SIMD
      for (std::int64_t j = 0; j < pairwise_tile; ++j) {
        const float difference = v - y[k * pairwise_tile + j];
        part[i][j] += difference * difference;
      }
    }
  }
  for (int i = 0; i < Rows; ++i) {
    BOOT_SIMD
    for (std::int64_t j = 0; j < pairwise_tile; ++j) sum[i * pairwise_tile + j] += static_cast<double>(part[i][j]);
  }
}

/// Calls f(i, first, count, d) for every sample i of x and every tile of y: d[j], j < count <= 32, is the squared
/// distance from x_i to y_{first + j}. One thread sees all tiles of one i, in ascending order; different i may run at
/// the same time. A distance has the same bits in either direction and wherever the samples stand in their sets.
template <class F>
void pairwise_distances(const cpu& dev, const view<const float, cpu>& x, const pairwise_tiles& y, const F& f) {
  parallel_chunks(dev, x.batch(), pairwise_rows, [&](std::int64_t begin, std::int64_t end) {
    constexpr int group = 4;
    const std::int64_t size = x.sample_size();
    double sum[pairwise_rows * pairwise_tile];
    for (std::int64_t t = 0; t < y.tiles(); ++t) {
      for (std::int64_t i = 0; i < (end - begin) * pairwise_tile; ++i) sum[i] = 0;
      for (std::int64_t k = 0; k < size; k += pairwise_depth) {
        const std::int64_t depth = size - k < pairwise_depth ? size - k : pairwise_depth;
        const float* rows = x.data() + begin * size + k;
        std::int64_t i = 0;
        for (; i + group <= end - begin; i += group)
          add_squared_distances<group>(rows + i * size, size, y.at(t, k), depth, sum + i * pairwise_tile);
        for (; i < end - begin; ++i)
          add_squared_distances<1>(rows + i * size, size, y.at(t, k), depth, sum + i * pairwise_tile);
      }
      const std::int64_t first = t * pairwise_tile, left = y.count() - first;
      const std::int64_t count = left < pairwise_tile ? left : pairwise_tile;
      for (std::int64_t i = 0; i < end - begin; ++i) f(begin + i, first, count, sum + i * pairwise_tile);
    }
  });
}

}  // namespace boot::inline v0::detail
