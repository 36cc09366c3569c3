// SPDX-License-Identifier: MIT
/// Runs a kernel body on host threads, one per thread of a block, so that its index arithmetic, tails, barriers and
/// reductions are tested on a machine without a GPU. Slow: for tests only.
#pragma once

#include <boot/kernel/team/team.hpp>

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace boot::inline v0 {

namespace detail {
struct alignas(16) host_scratch_line {
  std::byte bytes[16];
};
template <int Size>
struct host_block {
  explicit host_block(std::size_t scratch_bytes) : scratch((scratch_bytes + 15) / 16) {
    std::memset(scratch.data(), 0xff, scratch.size() * sizeof(host_scratch_line));  // NaN until written
  }
  std::barrier<> barrier{Size};
  std::vector<host_scratch_line> scratch;
  double lane[static_cast<std::size_t>(Size)];
};
}  // namespace detail

/// One thread of a block of `Size` host threads. Models Team.
template <int Size>
class host_team {
 public:
  static constexpr int size = Size;  ///< threads of a block
  static constexpr int warp = 32;    ///< threads of a warp
  static_assert(Size >= warp && Size % warp == 0, "boot: a block is whole warps");

  /// Thread `rank` of block `block` of `blocks` for `sample`.
  host_team(detail::host_block<Size>& state, int rank, std::int64_t block, std::int64_t blocks, std::int64_t sample)
      : state_(&state), rank_(rank), block_(block), blocks_(blocks), sample_(sample) {}

  /// This thread.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// This block.
  [[nodiscard]] std::int64_t block() const noexcept { return block_; }
  /// Blocks that share a sample.
  [[nodiscard]] std::int64_t blocks() const noexcept { return blocks_; }
  /// The sample worked on.
  [[nodiscard]] std::int64_t sample() const noexcept { return sample_; }
  /// Waits for the whole block.
  void sync() const { state_->barrier.arrive_and_wait(); }
  /// x of the thread with rank ^ mask. Every thread of the block must take part, not only its warp.
  template <ComputeScalar X>
  [[nodiscard]] X shuffle_xor(X x, int mask) const {
    state_->lane[rank_] = static_cast<double>(x);
    sync();
    const X y = static_cast<X>(state_->lane[rank_ ^ mask]);
    sync();
    return y;
  }
  /// Shared by the block.
  template <class X>
  [[nodiscard]] X* scratch() const noexcept {
    return reinterpret_cast<X*>(state_->scratch.data());
  }

 private:
  detail::host_block<Size>* state_;
  int rank_;
  std::int64_t block_, blocks_, sample_;
};

static_assert(Team<host_team<64>>);

/// Calls body(team) on every thread of `blocks` blocks for each of `samples` samples, block after block.
template <int Size, class Body>
void launch_on_host(std::int64_t blocks, std::int64_t samples, const Body& body) {
  detail::host_block<Size> state(team_scratch_bytes<Size, Body>());
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<std::size_t>(Size));
  for (int rank = 0; rank < Size; ++rank)
    threads.emplace_back([&state, &body, blocks, samples, rank] {
      for (std::int64_t sample = 0; sample < samples; ++sample)
        for (std::int64_t block = 0; block < blocks; ++block) {
          body(host_team<Size>(state, rank, block, blocks, sample));
          state.barrier.arrive_and_wait();  // blocks have nothing in common
        }
    });
}

}  // namespace boot::inline v0
