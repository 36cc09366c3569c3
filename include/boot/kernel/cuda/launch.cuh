// SPDX-License-Identifier: MIT
/// Launches kernel bodies on boot::cuda. The library's only __global__ function and only <<< >>> are here.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>
#include <boot/kernel/team/cuda_team.hpp>
#include <boot/kernel/team/team_device.hpp>

#if !BOOT_CUDA_COMPILATION
#  error "boot: kernel/cuda/launch.cuh holds kernels; include it (or boot_cuda.cuh) from a .cu file compiled by nvcc"
#endif

#include <cstdint>
#include <limits>
#include <type_traits>

namespace boot::inline v0 {

namespace detail {
/// Runs one body on every block. A body is a trivially copyable struct and lies in constant memory.
template <class Body, int Threads, int MinBlocks>
__global__ void __launch_bounds__(Threads, MinBlocks)
    run_body(const __grid_constant__ Body body, const unsigned blocks) {
  alignas(16) __shared__ unsigned char scratch[team_scratch_bytes<Threads, Body>()];
  body(cuda_team<Threads>(scratch, blocks));
}
}  // namespace detail

/// Enqueues body(team) on `blocks` blocks for each of `samples` samples; nothing is launched for an empty grid.
/// Throws boot::error when the grid or the launch is refused.
template <class Body>
void launch(const cuda& dev, const Body& body, std::int64_t blocks, std::int64_t samples) {
  static_assert(std::is_trivially_copyable_v<Body>, "boot: a kernel body is copied to the device bit by bit");
  if (blocks <= 0 || samples <= 0) return;
  require(samples <= std::numeric_limits<int>::max() / blocks,
          "boot: {} blocks for each of {} samples is more than a grid holds ({}); use a smaller batch", blocks, samples,
          std::numeric_limits<int>::max());
  if (!detail::enqueues(detail::launch_number<Body>(), blocks, samples)) return;
  constexpr launch_tuning t = detail::tuning_of<Body>();
  detail::run_body<Body, t.threads, t.min_blocks>
      <<<static_cast<unsigned>(blocks * samples), t.threads, 0, dev.stream>>>(body, static_cast<unsigned>(blocks));
  check_cuda(cudaPeekAtLastError(), "kernel launch");
}

static_assert(TeamDevice<cuda>);

}  // namespace boot::inline v0
