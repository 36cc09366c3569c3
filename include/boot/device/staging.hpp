// SPDX-License-Identifier: MIT
/// Bookkeeping of a ring of staging memory: which bytes a copy may use, and when they are free again.
#pragma once

#include <boot/core/error.hpp>

#include <cstddef>
#include <vector>

namespace boot::inline v0 {

/// Deals out parts of `capacity` bytes in turn. Each part comes with an event; the caller records the event behind the
/// last use of the part, and the part is dealt again once the event is done. Event: default-constructible, with
/// `bool done()` and `void wait()`; one that was never recorded counts as done. Nothing is allocated after construction.
template <class Event>
class staging_ring {
 public:
  static constexpr std::size_t alignment = 256;  ///< of every offset, and the unit of sizes

  /// A part of the memory, and the event that the caller records behind its last use.
  struct part {
    std::size_t offset;  ///< of its first byte
    Event& event;        ///< recorded by the caller
  };

  /// Over `capacity` bytes, a multiple of `alignment`, at most `parts` parts at a time.
  staging_ring(std::size_t capacity, std::size_t parts) : capacity_(capacity), entries_(parts) {
    require(capacity > 0 && capacity % alignment == 0 && parts > 0,
            "boot: a staging ring of {} bytes in {} parts; needs a positive multiple of {} bytes and one part or more",
            capacity, parts, static_cast<std::size_t>(alignment));
  }

  /// `bytes` bytes, 1 to capacity(). Waits, for the oldest part first, only while there is no room.
  [[nodiscard]] part take(std::size_t bytes) {
    require(bytes > 0 && bytes <= capacity_, "boot: {} bytes of a staging ring of {}; copy in smaller pieces", bytes,
            capacity_);
    const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
    while (count_ > 0 && entries_[first_].event.done()) drop();
    while (!place(size)) {
      entries_[first_].event.wait();
      ++waits_;
      drop();
    }
    entry& e = entries_[(first_ + count_) % entries_.size()];
    e.begin = next_;
    next_ += size;
    ++count_;
    return {e.begin, e.event};
  }

  /// Bytes in all.
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// Parts not known to be free.
  [[nodiscard]] std::size_t pending() const noexcept { return count_; }
  /// How often take() had to wait.
  [[nodiscard]] std::size_t waits() const noexcept { return waits_; }

 private:
  struct entry {
    std::size_t begin = 0;
    Event event{};
  };

  void drop() noexcept {
    first_ = (first_ + 1) % entries_.size();
    --count_;
  }
  /// Moves next_ to `size` free bytes, or says that there are none.
  bool place(std::size_t size) noexcept {
    if (count_ == 0) {
      next_ = 0;
      return true;
    }
    if (count_ == entries_.size()) return false;
    const std::size_t oldest = entries_[first_].begin;
    if (next_ <= oldest) return oldest - next_ >= size;  // the used bytes go around the end
    if (capacity_ - next_ >= size) return true;
    if (oldest < size) return false;
    next_ = 0;
    return true;
  }

  std::size_t capacity_, next_ = 0;
  std::vector<entry> entries_;  // a ring: the oldest at first_
  std::size_t first_ = 0, count_ = 0, waits_ = 0;
};

}  // namespace boot::inline v0
