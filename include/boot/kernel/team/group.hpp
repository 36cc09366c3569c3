// SPDX-License-Identifier: MIT
/// Groups of neighbouring elements that one thread of a kernel body loads and stores 16 bytes at a time.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>

#include <cstddef>
#include <cstdint>

namespace boot::inline v0::detail {

/// V neighbouring elements in registers.
template <class T, int V>
struct element_group {
  T v[V];
};

struct alignas(16) group_words {
  std::uint32_t v[4];
};

/// Whether 16-byte accesses may begin at p.
BOOT_HD inline bool group_aligned(const void* p) noexcept { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// Elements of a group so that the narrowest of the arrays fills 16 bytes.
template <class... T>
[[nodiscard]] BOOT_HD constexpr int group_size() noexcept {
  std::size_t narrowest = 16;
  ((narrowest = sizeof(T) < narrowest ? sizeof(T) : narrowest), ...);
  return static_cast<int>(16 / narrowest);
}

/// Reads a group; every element is read once, so it need not stay in the caches. With `whole`, p is 16-byte aligned.
template <int V, class T>
BOOT_HD element_group<T, V> load_group(const T* p, bool whole) {
  element_group<T, V> r;
  static_assert(sizeof r % 16 == 0);
  if (whole) {
#if BOOT_DEVICE_CODE
    group_words q[sizeof r / 16];
    BOOT_UNROLL
    for (std::size_t k = 0; k < sizeof r / 16; ++k) {
      const uint4 u = __ldcs(reinterpret_cast<const uint4*>(p) + k);
      q[k] = {{u.x, u.y, u.z, u.w}};
    }
    __builtin_memcpy(&r, q, sizeof r);
#else
    if (!group_aligned(p)) __builtin_trap();  // a device would stop here as well
    __builtin_memcpy(&r, p, sizeof r);
#endif
  } else {
    BOOT_UNROLL
    for (int k = 0; k < V; ++k) r.v[k] = p[k];
  }
  return r;
}

/// Writes a group.
template <int V, class T>
BOOT_HD void store_group(T* p, const element_group<T, V>& r, bool whole) {
  if (whole) {
#if BOOT_DEVICE_CODE
    group_words q[sizeof r / 16];
    __builtin_memcpy(q, &r, sizeof r);
    BOOT_UNROLL
    for (std::size_t k = 0; k < sizeof r / 16; ++k)
      __stcs(reinterpret_cast<uint4*>(p) + k, make_uint4(q[k].v[0], q[k].v[1], q[k].v[2], q[k].v[3]));
#else
    if (!group_aligned(p)) __builtin_trap();
    __builtin_memcpy(p, &r, sizeof r);
#endif
  } else {
    BOOT_UNROLL
    for (int k = 0; k < V; ++k) p[k] = r.v[k];
  }
}

}  // namespace boot::inline v0::detail
