// SPDX-License-Identifier: MIT
/// Offsets for activations: a first-fit allocator that hands out places, not memory, and knows the most it ever needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

/// Deterministic first-fit allocation of byte ranges within one block. The same calls give the same offsets, so a run
/// without memory (graph_mode::plan) tells exactly how large the block must be.
class offset_allocator {
 public:
  static constexpr std::int64_t alignment = 128;  ///< bytes; every range starts and ends on it

  /// A range of at least `bytes` bytes; returns its first byte.
  [[nodiscard]] std::int64_t take(std::int64_t bytes) {
    bytes = rounded(bytes);
    for (std::size_t i = 0; i < free_.size(); ++i) {
      if (free_[i].bytes < bytes) continue;
      const std::int64_t offset = free_[i].offset;
      free_[i].offset += bytes;
      free_[i].bytes -= bytes;
      if (free_[i].bytes == 0) free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return offset;
    }
    const std::int64_t offset = top_;
    top_ += bytes;
    peak_ = std::max(peak_, top_);
    return offset;
  }
  /// Gives a range of take(bytes) back.
  void give(std::int64_t offset, std::int64_t bytes) {
    bytes = rounded(bytes);
    auto next = std::lower_bound(free_.begin(), free_.end(), offset,
                                 [](const range& r, std::int64_t o) { return r.offset < o; });
    next = free_.insert(next, {offset, bytes});
    if (const auto after = next + 1; after != free_.end() && next->offset + next->bytes == after->offset) {
      next->bytes += after->bytes;
      free_.erase(after);
    }
    if (next != free_.begin()) {
      const auto before = next - 1;
      if (before->offset + before->bytes == next->offset) {
        before->bytes += next->bytes;
        free_.erase(next);
      }
    }
    if (!free_.empty() && free_.back().offset + free_.back().bytes == top_) {
      top_ = free_.back().offset;
      free_.pop_back();
    }
  }
  /// Forgets every range; the peak stays.
  void clear() noexcept {
    free_.clear();
    top_ = 0;
  }
  /// As new: forgets every range and the peak.
  void reset() noexcept {
    clear();
    peak_ = 0;
  }
  /// Bytes a block must have for all calls since the beginning or reset().
  [[nodiscard]] std::int64_t peak() const noexcept { return peak_; }

 private:
  struct range {
    std::int64_t offset, bytes;
  };
  [[nodiscard]] static std::int64_t rounded(std::int64_t bytes) noexcept {
    return (std::max<std::int64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  }
  std::vector<range> free_;
  std::int64_t top_ = 0, peak_ = 0;
};

}  // namespace boot::inline v0
