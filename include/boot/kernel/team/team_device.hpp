// SPDX-License-Identifier: MIT
/// The TeamDevice concept: a device whose kernels are bodies run by teams. Launchers are written once against it.
#pragma once

#include <boot/device/device.hpp>
#include <boot/device/recording.hpp>
#include <boot/kernel/team/team.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

/// How a body's blocks are made: a body may name another one as `static constexpr launch_tuning tuning`.
struct launch_tuning {
  int threads = 256;   ///< of a block
  int min_blocks = 4;  ///< of a multiprocessor: bounds the registers of a thread. 256 x 4 leaves 64, enough for every
                       ///< body without a spill; by 256 alone ptxas took 47 and spilled (nvcc 13.0, sm_90)
};

namespace detail {
template <class Body>
[[nodiscard]] constexpr launch_tuning tuning_of() noexcept {
  if constexpr (requires { Body::tuning; }) {
    return Body::tuning;
  } else {
    return {};
  }
}

template <class Body>
inline constexpr char launch_tag = 0;  // its address tells bodies apart
template <class Body>
[[nodiscard]] std::uintptr_t launch_number() noexcept {
  return reinterpret_cast<std::uintptr_t>(&launch_tag<Body>);
}
}  // namespace detail

/// A device that runs bodies: boot::cuda, and boot::testing's host device that runs the same launchers on host threads.
///
/// Needs, besides Device: `launch(dev, body, blocks, samples)`, which runs body(team) on `blocks` blocks for each of
/// `samples` samples, after what was launched before; `device_scratch(dev, bytes, slot)`, device memory for partial
/// results, valid until the next call with the same slot.
template <class D>
concept TeamDevice = Device<D> && requires(const D& dev, std::size_t bytes, int slot) {
  { device_scratch(dev, bytes, slot) } -> std::same_as<void*>;
};

/// Blocks for `work` pieces of which a block of 256 threads takes `per_block` at a time; at least 1, at most `most`.
/// From the shape alone, so that sums have the same bits on every card.
[[nodiscard]] inline std::int64_t blocks_for(std::int64_t work, std::int64_t per_block,
                                             std::int64_t most = 1024) noexcept {
  return std::clamp<std::int64_t>((work + per_block - 1) / per_block, 1, most);
}

}  // namespace boot::inline v0
