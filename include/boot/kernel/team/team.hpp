// SPDX-License-Identifier: MIT
/// What a kernel body sees of its block, and the sum over a block in a fixed order.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

/// A block of threads that run one body together: cuda_team on the device, host_team on host threads.
///
/// Needs: T::size, T::warp        threads of the block and of a warp, both powers of two
///        t.rank()                this thread, 0 .. size - 1
///        t.block(), t.blocks()   this block among those that share a sample
///        t.sample()              which sample the block works on
///        t.sync()                a barrier of the block
///        t.shuffle_xor(x, mask)  x of the thread whose rank differs by `mask` < warp; all threads take part
///        t.scratch<X>()          memory that the block shares, 16-byte aligned: 8 bytes per thread, or the body's own
///                                `static constexpr std::size_t shared_bytes` where that is more
template <class T>
concept Team = requires(const T& t, float f, double d, int mask) {
  { T::size } -> std::convertible_to<int>;
  { T::warp } -> std::convertible_to<int>;
  { t.rank() } -> std::same_as<int>;
  { t.block() } -> std::same_as<std::int64_t>;
  { t.blocks() } -> std::same_as<std::int64_t>;
  { t.sample() } -> std::same_as<std::int64_t>;
  t.sync();
  { t.shuffle_xor(f, mask) } -> std::same_as<float>;
  { t.shuffle_xor(d, mask) } -> std::same_as<double>;
  { t.template scratch<double>() } -> std::same_as<double*>;
};

/// a / b for 0 <= a < 2^32 and 0 < b < 2^32: a division of 64 bits is the call of a long function on a device.
[[nodiscard]] BOOT_HD inline std::int64_t short_quotient(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
}

/// The sum over a warp on every thread of it. All threads of the block take part.
BOOT_NO_EXEC_CHECK
template <class Team, ComputeScalar X>
BOOT_HD X warp_sum(const Team& team, X x) {
  BOOT_UNROLL
  for (int mask = Team::warp / 2; mask > 0; mask >>= 1) x += team.shuffle_xor(x, mask);
  return x;
}

/// The sum of `x` over the block, in an order that depends on its size alone; valid on rank 0. Every thread takes part.
BOOT_NO_EXEC_CHECK
template <class Team, ComputeScalar X>
BOOT_HD X team_sum(const Team& team, X x) {
  constexpr int warps = Team::size / Team::warp;
  static_assert(warps >= 1 && warps <= Team::warp && (warps & (warps - 1)) == 0, "boot: a block is 1, 2, 4, .. warps");
  X* const scratch = team.template scratch<X>();
  x = warp_sum(team, x);
  if (team.rank() % Team::warp == 0) scratch[team.rank() / Team::warp] = x;
  team.sync();
  x = team.rank() < warps ? scratch[team.rank()] : X{0};
  BOOT_UNROLL
  for (int mask = warps / 2; mask > 0; mask >>= 1) x += team.shuffle_xor(x, mask);
  team.sync();  // the scratch may be used again
  return x;
}

/// The sum of `x` over the block on every thread; the order depends on the block's size alone. Every thread takes part.
BOOT_NO_EXEC_CHECK
template <class Team, ComputeScalar X>
BOOT_HD X team_sum_everywhere(const Team& team, X x) {
  const X sum = team_sum(team, x);
  X* const scratch = team.template scratch<X>();
  if (team.rank() == 0) scratch[0] = sum;
  team.sync();
  const X all = scratch[0];
  team.sync();  // the scratch may be used again
  return all;
}

/// Bytes of scratch that a block of `Size` threads running `Body` shares.
template <int Size, class Body>
[[nodiscard]] BOOT_HD constexpr std::size_t team_scratch_bytes() noexcept {
  constexpr std::size_t usual = static_cast<std::size_t>(Size) * sizeof(double);
  if constexpr (requires { Body::shared_bytes; }) {
    return Body::shared_bytes > usual ? Body::shared_bytes : usual;
  } else {
    return usual;
  }
}

}  // namespace boot::inline v0
