// SPDX-License-Identifier: MIT
/// The team of a CUDA block: plain intrinsics behind the names that kernel bodies use.
#pragma once

#include <boot/kernel/team/team.hpp>

#if BOOT_CUDA_COMPILATION

#  include <cstdint>

namespace boot::inline v0 {

/// One thread of a CUDA block of `Size` threads. Models Team. The grid is one-dimensional, blocks of one sample next to
/// each other: its second extent would end at 65,535 samples, and rows of a norm are more.
/// `memory` is the block's shared scratch: alignas(16), team_scratch_bytes() bytes.
template <int Size>
class cuda_team {
 public:
  static constexpr int size = Size;  ///< threads of a block
  static constexpr int warp = 32;    ///< threads of a warp

  /// With the block's shared memory and the number of blocks that share a sample.
  BOOT_DEVICE cuda_team(void* memory, unsigned blocks) : memory_(memory), blocks_(blocks) {}

  /// This thread.
  BOOT_DEVICE int rank() const { return static_cast<int>(threadIdx.x); }
  /// This block.
  BOOT_DEVICE std::int64_t block() const { return blockIdx.x % blocks_; }
  /// Blocks that share a sample.
  BOOT_DEVICE std::int64_t blocks() const { return blocks_; }
  /// The sample worked on.
  BOOT_DEVICE std::int64_t sample() const { return blockIdx.x / blocks_; }
  /// Waits for the whole block.
  BOOT_DEVICE void sync() const { __syncthreads(); }
  /// x of the thread with rank ^ mask.
  template <class X>
  BOOT_DEVICE X shuffle_xor(X x, int mask) const {
    return __shfl_xor_sync(0xffffffffu, x, mask);
  }
  /// Shared by the block.
  template <class X>
  BOOT_DEVICE X* scratch() const {
    return static_cast<X*>(memory_);
  }

 private:
  void* memory_;
  unsigned blocks_;
};

static_assert(Team<cuda_team<256>>);

}  // namespace boot::inline v0

#endif
