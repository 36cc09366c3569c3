// SPDX-License-Identifier: MIT
/// A device of host memory whose kernels run as on boot::cuda, the same launchers and bodies, on host threads: what is
/// left untested on a machine without a GPU is then the vendor's libraries and the launch itself. Slow: for tests only.
#pragma once

#include <boot/device/cpu.hpp>
#include <boot/device/memory.hpp>
#include <boot/kernel/team/host_team.hpp>
#include <boot/kernel/team/team_device.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace boot::inline v0 {

/// Host memory that counts as a device's own: views of boot::cpu do not convert. Models Device and TeamDevice. It lies in
/// namespace boot, as boot::cuda does: the operations of a graph find their functions by the device's namespace.
struct team_device {
  using device_category = team_device;  ///< names itself, see boot::Device

  /// Memory, filled with NaN patterns.
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    void* const p = cpu{}.allocate(bytes);
    std::memset(p, 0xff, bytes);
    return p;
  }
  /// Gives memory of allocate() back.
  void deallocate(void* p, std::size_t bytes) const noexcept { cpu{}.deallocate(p, bytes); }
};

/// Threads of a block on the host device: two warps show every barrier and every sum over warps.
inline constexpr int team_device_threads = 64;

/// Runs body(team) on `blocks` blocks for each of `samples` samples.
template <class Body>
void launch(const team_device&, const Body& body, std::int64_t blocks, std::int64_t samples) {
  static_assert(std::is_trivially_copyable_v<Body>, "boot: a kernel body is copied to the device bit by bit");
  if (blocks <= 0 || samples <= 0) return;
  launch_on_host<team_device_threads>(blocks, samples, body);
}

/// Memory for partial results, valid until the next call with the same slot, 0 to 3; NaN patterns at every call.
[[nodiscard]] inline void* device_scratch(const team_device& dev, std::size_t bytes, int slot = 0) {
  thread_local buffer<team_device> memory[4];
  if (memory[slot].bytes() < bytes) {
    memory[slot] = {};
    memory[slot] = buffer<team_device>(dev, bytes);
  }
  if (bytes > 0) std::memset(memory[slot].data(), 0xff, bytes);
  return memory[slot].data();
}

/// Sets `bytes` bytes at `p` to zero.
inline void fill_zero(const team_device&, void* p, std::size_t bytes) { std::memset(p, 0, bytes); }
/// Copies between addresses that do not overlap.
inline void copy_bytes(const team_device&, const void* from, void* to, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Host to device.
inline void copy_from_host(const team_device&, const void* from, void* to, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Device to host.
inline void copy_to_host(const team_device&, const void* from, void* to, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Fills memory with bytes that read as NaN in float, double and bf16.
inline void poison(const team_device&, void* p, std::size_t bytes) noexcept { std::memset(p, 0xff, bytes); }
/// Nothing to wait for.
inline void synchronize(const team_device&) noexcept {}

static_assert(TeamDevice<team_device>);

namespace testing {
using boot::team_device;
}  // namespace testing

}  // namespace boot::inline v0
