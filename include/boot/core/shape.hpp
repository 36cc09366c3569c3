// SPDX-License-Identifier: MIT
/// The extents of a dense row-major array: up to six, the first one the batch wherever there is one.
#pragma once

#include <boot/core/error.hpp>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace boot::inline v0 {

/// Extents of a dense row-major array, rank 0 (one element) to 6. A value; comparable.
class shape {
 public:
  static constexpr int max_rank = 6;  ///< more dimensions than any tensor of ours has

  /// Rank 0: one element.
  constexpr shape() = default;
  /// Extents from outermost to innermost; throws boot::error for more than six or a negative one.
  shape(std::initializer_list<std::int64_t> extents) {
    for (const std::int64_t n : extents) push_back(n);
  }

  /// Number of dimensions.
  [[nodiscard]] constexpr int rank() const noexcept { return rank_; }
  /// Extent of dimension `i`; negative `i` counts from the last.
  [[nodiscard]] constexpr std::int64_t operator[](int i) const noexcept {
    return extent_[static_cast<std::size_t>(i < 0 ? i + rank_ : i)];
  }
  /// Number of elements: the product of the extents.
  [[nodiscard]] constexpr std::int64_t size() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= extent_[static_cast<std::size_t>(i)];
    return n;
  }
  /// The first extent: the batch (1 for rank 0).
  [[nodiscard]] constexpr std::int64_t batch() const noexcept { return rank_ == 0 ? 1 : extent_[0]; }
  /// Elements of one sample: the product of all extents but the first.
  [[nodiscard]] constexpr std::int64_t sample_size() const noexcept {
    std::int64_t n = 1;
    for (int i = 1; i < rank_; ++i) n *= extent_[static_cast<std::size_t>(i)];
    return n;
  }

  /// Appends an innermost extent.
  void push_back(std::int64_t n) {
    require(rank_ < max_rank, "boot: a shape has at most {} dimensions; reshape the tensor to fewer", max_rank);
    require(n >= 0, "boot: extent {} of dimension {} is negative; extents are counts of elements", n, rank_);
    extent_[static_cast<std::size_t>(rank_++)] = n;
  }
  /// The same shape with another batch.
  [[nodiscard]] shape with_batch(std::int64_t n) const {
    shape s = *this;
    if (s.rank_ == 0) {
      s.push_back(n);
    } else {
      s.extent_[0] = n;
    }
    return s;
  }
  /// `n` samples of this shape: the extents of one sample behind a batch.
  [[nodiscard]] shape batched(std::int64_t n) const {
    shape s{n};
    for (int i = 0; i < rank_; ++i) s.push_back((*this)[i]);
    return s;
  }

  /// Equal rank and extents.
  friend constexpr bool operator==(const shape& a, const shape& b) noexcept {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

 private:
  std::array<std::int64_t, max_rank> extent_{};
  int rank_ = 0;
};

/// "[256, 8, 8, 1]", for messages.
[[nodiscard]] inline std::string to_string(const shape& s) {
  std::string text = "[";
  for (int i = 0; i < s.rank(); ++i) text += (i ? ", " : "") + std::to_string(s[i]);
  return text + "]";
}

}  // namespace boot::inline v0
