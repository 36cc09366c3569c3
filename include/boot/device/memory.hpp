// SPDX-License-Identifier: MIT
/// An owning block of device memory, and the count of what is allocated.
#pragma once

#include <boot/device/device.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace boot::inline v0 {

/// What the library's own allocations came to, over all devices of one type D. Counted, not sampled.
struct memory_statistics {
  std::int64_t live_bytes = 0;   ///< held now
  std::int64_t peak_bytes = 0;   ///< most ever held at once
  std::int64_t allocations = 0;  ///< calls so far: a step after the first must not move it
};

namespace detail {
template <class D>
struct memory_counter {
  static inline std::atomic<std::int64_t> live{0}, peak{0}, calls{0};
  static void add(std::int64_t bytes) noexcept {
    const std::int64_t now = live.fetch_add(bytes) + bytes;
    if (bytes <= 0) return;
    calls.fetch_add(1);
    for (std::int64_t seen = peak.load(); now > seen && !peak.compare_exchange_weak(seen, now);) {
    }
  }
};
}  // namespace detail

/// The counters of device type D.
template <Device D>
[[nodiscard]] memory_statistics memory_use(const D& = {}) noexcept {
  using counter = detail::memory_counter<D>;
  return {counter::live.load(), counter::peak.load(), counter::calls.load()};
}

/// Lets the peak of device type D begin anew at what is held now, so that a part of a program has its own.
template <Device D>
void reset_peak_memory(const D& = {}) noexcept {
  using counter = detail::memory_counter<D>;
  counter::peak.store(counter::live.load());
}

/// Owns `bytes()` bytes on a device, 128-byte aligned, uninitialised. Move-only; throws boot::error when memory is out.
template <Device D>
class buffer {
 public:
  buffer() = default;
  /// Allocates; zero bytes allocate nothing.
  buffer(const D& dev, std::size_t bytes) : device_(dev), bytes_(bytes) {
    if (bytes == 0) return;
    data_ = dev.allocate(bytes);
    detail::memory_counter<D>::add(static_cast<std::int64_t>(bytes));
  }
  buffer(buffer&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    if (this != &other) {
      release();
      device_ = other.device_;
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~buffer() { release(); }

  /// First byte; null when empty.
  [[nodiscard]] void* data() const noexcept { return data_; }
  /// Size in bytes.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// Where the memory is.
  [[nodiscard]] const D& device() const noexcept { return device_; }

 private:
  void release() noexcept {
    if (data_ == nullptr) return;
    device_.deallocate(data_, bytes_);
    detail::memory_counter<D>::add(-static_cast<std::int64_t>(bytes_));
    data_ = nullptr;
  }

  D device_{};
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace boot::inline v0
