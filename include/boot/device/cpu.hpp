// SPDX-License-Identifier: MIT
/// boot::cpu: host memory and a team of threads. Work is cut by shape, so the bits do not depend on the number of
/// threads.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/device.hpp>

#include <cstdint>
#include <cstring>
#include <new>

#if BOOT_HAS_OPENMP
#  include <omp.h>
#endif
#if BOOT_HAS_HUGE_PAGES
#  include <sys/mman.h>
#endif

namespace boot::inline v0 {

/// Runs on the host. `threads` = 0 takes every processor OpenMP offers; without OpenMP it is always one.
struct cpu {
  using device_category = cpu;  ///< names itself, see boot::Device
  int threads = 0;              ///< 0: all

  /// Threads a parallel loop will use.
  [[nodiscard]] int thread_count() const noexcept {
#if BOOT_HAS_OPENMP
    return threads > 0 ? threads : omp_get_max_threads();
#else
    return 1;
#endif
  }
  /// 128-byte aligned host memory; throws boot::error when there is none. Large blocks lie on huge pages where the
  /// system has them: a kernel that reads five arrays is a sixth faster so (measure kernels).
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    void* p = ::operator new(bytes, alignment(bytes), std::nothrow);
    require(p != nullptr, "boot: no memory for {} bytes on the host; use a smaller batch or network", bytes);
#if BOOT_HAS_HUGE_PAGES
    if (bytes >= huge_bytes) static_cast<void>(::madvise(p, bytes, MADV_HUGEPAGE));  // a hint: failure changes nothing
#endif
    return p;
  }
  /// Gives memory of allocate() back; `bytes` as it was asked for.
  void deallocate(void* p, std::size_t bytes) const noexcept { ::operator delete(p, alignment(bytes)); }

 private:
  static constexpr std::size_t huge_bytes = std::size_t{1} << 23;
  static std::align_val_t alignment(std::size_t bytes) noexcept {
    return std::align_val_t{bytes >= huge_bytes ? std::size_t{1} << 21 : std::size_t{128}};
  }
};

static_assert(Device<cpu>);

/// Calls f(i) for i in [0, count), spread over the device's threads. f must not depend on the order.
/// An exception inside f ends the program: check before the loop, not in it.
template <class F>
void parallel_for(const cpu& dev, std::int64_t count, const F& f) {
#if BOOT_HAS_OPENMP
  if (const int n = dev.thread_count(); n > 1 && count > 1 && omp_in_parallel() == 0) {
#  pragma omp parallel for schedule(static) num_threads(n)
    for (std::int64_t i = 0; i < count; ++i) f(i);
    return;
  }
#endif
  static_cast<void>(dev);
  for (std::int64_t i = 0; i < count; ++i) f(i);
}

/// Cuts [0, n) into pieces of `grain` and calls f(begin, end) for each, spread over threads; the cut ignores their
/// number.
template <class F>
void parallel_chunks(const cpu& dev, std::int64_t n, std::int64_t grain, const F& f) {
  const std::int64_t chunks = (n + grain - 1) / grain;
  parallel_for(dev, chunks, [&](std::int64_t c) {
    const std::int64_t begin = c * grain, end = begin + grain < n ? begin + grain : n;
    f(begin, end);
  });
}

/// Sets `bytes` bytes at `p` to zero.
inline void fill_zero(const cpu& dev, void* p, std::size_t bytes) {
  parallel_chunks(dev, static_cast<std::int64_t>(bytes), 1 << 18, [p](std::int64_t b, std::int64_t e) {
    std::memset(static_cast<char*>(p) + b, 0, static_cast<std::size_t>(e - b));
  });
}

/// Copies `bytes` bytes between host addresses that do not overlap.
inline void copy_bytes(const cpu& dev, const void* from, void* to, std::size_t bytes) {
  parallel_chunks(dev, static_cast<std::int64_t>(bytes), 1 << 18, [from, to](std::int64_t b, std::int64_t e) {
    std::memcpy(static_cast<char*>(to) + b, static_cast<const char*>(from) + b, static_cast<std::size_t>(e - b));
  });
}

/// Host to device: a plain copy here.
inline void copy_from_host(const cpu& dev, const void* from, void* to, std::size_t bytes) {
  copy_bytes(dev, from, to, bytes);
}
/// Device to host, waiting for the device: a plain copy here.
inline void copy_to_host(const cpu& dev, const void* from, void* to, std::size_t bytes) {
  copy_bytes(dev, from, to, bytes);
}
/// Fills memory with bytes that read as NaN in float, double and bf16.
inline void poison(const cpu&, void* p, std::size_t bytes) noexcept { std::memset(p, 0xff, bytes); }

/// Waits until everything enqueued on `dev` is done: nothing to wait for on the host.
inline void synchronize(const cpu&) noexcept {}

}  // namespace boot::inline v0
