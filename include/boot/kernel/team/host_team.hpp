// SPDX-License-Identifier: MIT
/// Runs a kernel body on host threads, one per thread of a block, so that its index arithmetic, tails, barriers and
/// reductions are tested on a machine without a GPU. Slow: for tests only.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/team/team.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

// Contexts that take turns on one thread are a hundred times as fast as threads. A sanitizer looks at threads: then what
// one barrier too few leaves to chance is found.
#if BOOT_HAS_CONTEXTS && !BOOT_SANITIZED
#  include <ucontext.h>
#else
#  include <barrier>
#  include <thread>
#endif

namespace boot::inline v0 {

namespace detail {
struct alignas(16) host_scratch_line {
  std::byte bytes[16];
};

#if BOOT_HAS_CONTEXTS && !BOOT_SANITIZED
/// `Size` contexts of the calling thread. Each runs until it waits or ends, then the next one does.
template <int Size>
class host_ring {
 public:
  /// Waits until every context that has not ended waits as well.
  void wait() {
    const int from = now_;
    if (next()) ::swapcontext(&contexts_[from], &contexts_[now_]);
  }
  /// Calls code(rank) in every context.
  template <class Code>
  void run(const Code& code) {
    static constexpr std::size_t stack_bytes = std::size_t{1} << 18;
    thread_local const std::unique_ptr<std::byte[]> stacks(new std::byte[Size * stack_bytes]);
    const auto call = [&] {
      code(now_);
      ended_[now_] = true;
      if (next()) ::setcontext(&contexts_[now_]);
      ::setcontext(&caller_);  // every context has ended
    };
    struct entry {
      static void begin() { (*static_cast<const decltype(call)*>(start_))(); }
    };
    start_ = &call;
    for (int rank = 0; rank < Size; ++rank) {
      ucontext_t& c = contexts_[rank];
      ::getcontext(&c);
      c.uc_stack.ss_sp = stacks.get() + static_cast<std::size_t>(rank) * stack_bytes;
      c.uc_stack.ss_size = stack_bytes;
      c.uc_link = nullptr;
      ended_[rank] = false;
      ::makecontext(&c, &entry::begin, 0);
    }
    now_ = 0;
    ::swapcontext(&caller_, &contexts_[0]);
  }

 private:
  // Moves on to another context that has not ended; false where there is none.
  bool next() {
    for (int i = 1; i < Size; ++i) {
      const int rank = (now_ + i) % Size;
      if (ended_[rank]) continue;
      now_ = rank;
      return true;
    }
    return false;
  }

  static inline thread_local const void* start_ = nullptr;
  ucontext_t contexts_[static_cast<std::size_t>(Size)], caller_;
  bool ended_[static_cast<std::size_t>(Size)];
  int now_ = 0;
};
#else
/// `Size` threads with a barrier.
template <int Size>
class host_ring {
 public:
  /// Waits for all threads.
  void wait() { barrier_.arrive_and_wait(); }
  /// Calls code(rank) in every thread.
  template <class Code>
  void run(const Code& code) {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(Size));
    for (int rank = 0; rank < Size; ++rank) threads.emplace_back([&code, rank] { code(rank); });
  }

 private:
  std::barrier<> barrier_{Size};
};
#endif

template <int Size>
struct host_block {
  explicit host_block(std::size_t scratch_bytes) : scratch((scratch_bytes + 15) / 16) {
    std::memset(scratch.data(), 0xff, scratch.size() * sizeof(host_scratch_line));  // NaN until written
  }
  host_ring<Size> ring;
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
  void sync() const { state_->ring.wait(); }
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
  const auto state = std::make_unique<detail::host_block<Size>>(team_scratch_bytes<Size, Body>());
  state->ring.run([&](int rank) {
    for (std::int64_t sample = 0; sample < samples; ++sample)
      for (std::int64_t block = 0; block < blocks; ++block) {
        body(host_team<Size>(*state, rank, block, blocks, sample));
        state->ring.wait();  // blocks have nothing in common
      }
  });
}

}  // namespace boot::inline v0
