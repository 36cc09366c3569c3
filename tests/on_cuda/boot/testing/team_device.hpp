// SPDX-License-Identifier: MIT
/// Takes the place of the library's header of this name where the tests of team kernels run on a GPU: the same device for
/// the tests, whose memory is pinned host memory, which the GPU reaches, and whose kernels boot::cuda launches.
#pragma once

#include <boot/device/cuda.hpp>
#include <boot/device/memory.hpp>
#include <boot/kernel/cuda/launch.cuh>
#include <boot/kernel/team/team_device.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace boot::inline v0 {

/// Memory that host and GPU both reach. A call returns when the GPU is done with it.
struct team_device {
  using device_category = team_device;         ///< names itself, see boot::Device
  static constexpr bool computes_bf16 = true;  ///< the operations of a graph take views of bf16 here

  /// Memory, filled with NaN patterns.
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    void* p = nullptr;
    check_cuda(cudaMallocHost(&p, bytes > 0 ? bytes : 1), "cudaMallocHost");
    std::memset(p, 0xff, bytes);
    return p;
  }
  /// Gives memory of allocate() back.
  void deallocate(void* p, std::size_t) const noexcept { static_cast<void>(cudaFreeHost(p)); }
};

/// Nothing to wait for: every call has waited.
inline void synchronize(const team_device&) noexcept {}

/// Runs `call` on the host.
template <class Call, class... N>
void enqueue(const team_device&, Call call, N...) {
  call();
}
/// Runs body(team) on the GPU, and tells what went wrong there at once.
template <class Body>
void launch(const team_device&, const Body& body, std::int64_t blocks, std::int64_t samples) {
  launch(cuda{}, body, blocks, samples);
  check_cuda(cudaDeviceSynchronize(), "a kernel");
}
/// Memory for partial results, which the host reaches as well; NaN patterns at every call.
[[nodiscard]] inline void* device_scratch(const team_device& dev, std::size_t bytes, int slot = 0) {
  static auto& memory = *new std::array<buffer<team_device>, 4>;  // at the end the driver may be gone before them
  buffer<team_device>& own = memory[static_cast<std::size_t>(slot)];
  if (bytes == 0) return nullptr;
  if (own.bytes() < bytes) own = buffer<team_device>(dev, bytes);
  std::memset(own.data(), 0xff, bytes);
  return own.data();
}
/// Sets `bytes` bytes at `p` to zero.
inline void fill_zero(const team_device&, void* p, std::size_t bytes) { std::memset(p, 0, bytes); }
/// Copies between addresses that do not overlap.
inline void copy_bytes(const team_device&, const void* from, void* to, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
/// Host to device.
inline void copy_from_host(const team_device& dev, const void* from, void* to, std::size_t bytes) {
  copy_bytes(dev, from, to, bytes);
}
/// Device to host.
inline void copy_to_host(const team_device& dev, const void* from, void* to, std::size_t bytes) {
  copy_bytes(dev, from, to, bytes);
}
/// Fills memory with bytes that read as NaN in float, double and bf16.
inline void poison(const team_device&, void* p, std::size_t bytes) { std::memset(p, 0xff, bytes); }

namespace testing {
using boot::team_device;
}
static_assert(TeamDevice<team_device>);

namespace detail {
// Without a GPU the program ends here, before its first test, with the status of a skipped one.
inline const bool gpu_is_there = [] {
  if (cuda_device_count() > 0) return true;
  std::fputs("skipped: no CUDA device\n", stderr);
  std::_Exit(4);
}();
}  // namespace detail

}  // namespace boot::inline v0
