// SPDX-License-Identifier: MIT
/// Per-sample quantiles of absolute values on any TeamDevice: the first half of dynamic thresholding.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/core/math.hpp>
#include <boot/core/scalar.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/tensor/view.hpp>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

namespace detail {

/// Order statistic `below` of |f| and the one after it, exactly: the bits of numbers without a sign are in the order of
/// the numbers, and their digits of four bits are found from the first to the last, each by counting how often every
/// digit follows those found. Threads count for themselves. Grid: 1 x samples.
template <class T>
struct quantile_body {
  using bits = std::conditional_t<std::same_as<T, float>, std::uint32_t, std::uint64_t>;
  static constexpr int digits = 16, at_once = 4;
  static constexpr std::size_t shared_bytes = (digits * 256 + 256 + digits) * sizeof(std::uint32_t);
  const T* f;
  std::int64_t n;       // below 2^32
  std::uint32_t below;  // counted from 0
  T part, least;        // how far towards the next one; lower bound
  T* out;

  [[nodiscard]] BOOT_HD static bits magnitude(T x) {
    return __builtin_bit_cast(bits, x) & static_cast<bits>(~(bits{1} << (8 * sizeof(T) - 1)));
  }

  /// How often `digit` follows `found` at `shift`, for all digits: totals[digit], on every thread.
  template <class Team>
  BOOT_HD const std::uint32_t* count(const Team& team, const T* from, bits found, int shift) const {
    static_assert(Team::size <= 256 && Team::size % digits == 0, "boot: the scratch is for 256 threads");
    std::uint32_t* const counts = team.template scratch<std::uint32_t>();  // [digit, thread]
    std::uint32_t* const sums = counts + digits * Team::size;              // [16 threads, digit]
    std::uint32_t* const totals = sums + Team::size;
    for (int d = 0; d < digits; ++d) counts[d * Team::size + team.rank()] = 0;
    for (std::int64_t i = team.rank(); i < n; i += at_once * Team::size) {
      bits u[at_once];
      BOOT_UNROLL
      for (int k = 0; k < at_once; ++k) u[k] = i + k * Team::size < n ? magnitude(from[i + k * Team::size]) : ~bits{0};
      BOOT_UNROLL
      for (int k = 0; k < at_once; ++k)  // all bits: not there; no magnitude has them
        if ((u[k] >> shift) / digits == (found >> shift) / digits && u[k] != ~bits{0})
          ++counts[static_cast<int>((u[k] >> shift) % digits) * Team::size + team.rank()];
    }
    team.sync();
    const int digit = team.rank() % digits, first = team.rank() - digit;
    std::uint32_t sum = 0;
    for (int k = 0; k < digits; ++k) sum += counts[digit * Team::size + first + (k + digit) % digits];
    sums[team.rank()] = sum;
    team.sync();
    if (team.rank() < digits) {
      sum = 0;
      for (int k = 0; k < Team::size; k += digits) sum += sums[k + digit];
      totals[digit] = sum;
    }
    team.sync();
    return totals;
  }

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const T* const from = f + team.sample() * n;
    bits found = 0;
    std::uint32_t rank = below, same = 0;  // among those that begin with what is found
    for (int shift = 8 * static_cast<int>(sizeof(T)) - 4; shift >= 0; shift -= 4) {
      const std::uint32_t* const totals = count(team, from, found, shift);
      int digit = 0;
      while (digit + 1 < digits && rank >= totals[digit]) rank -= totals[digit++];
      same = totals[digit];
      found |= static_cast<bits>(digit) << shift;
    }
    const T value = __builtin_bit_cast(T, found);
    T next = value;
    if (part > T{0} && rank + 1 >= same) {  // alike on all threads
      next = static_cast<T>(__builtin_huge_val());
      for (std::int64_t i = team.rank(); i < n; i += Team::size) {
        const T x = __builtin_bit_cast(T, magnitude(from[i]));
        if (value < x && x < next) next = x;
      }
      T* const least_of = team.template scratch<T>();
      for (int m = Team::warp / 2; m > 0; m >>= 1) {
        const T x = team.shuffle_xor(next, m);
        if (x < next) next = x;
      }
      if (team.rank() % Team::warp == 0) least_of[team.rank() / Team::warp] = next;
      team.sync();
      for (int w = 0; w < Team::size / Team::warp; ++w)
        if (least_of[w] < next) next = least_of[w];
    }
    const T q = part > T{0} ? math::fma(part, next - value, value) : value;
    if (team.rank() == 0) out[team.sample()] = least < q ? q : least;
  }
};

}  // namespace detail

/// out[i] = max(least, the `share` quantile of |f| over sample i), linear between neighbouring order statistics (as
/// numpy.quantile and torch.quantile do). f is [batch, sample...], out holds one number per sample, `share` in [0, 1].
/// Throws boot::error for a share outside [0, 1]. A sample that holds NaN gives an unspecified quantile.
template <TeamDevice D, ComputeScalar T>
void abs_quantile(const D& dev, double share, std::type_identity_t<T> least, view<const T, D> f, T* out) {
  require(share >= 0 && share <= 1, "boot: quantile {} of |f|; it needs a share in [0, 1], 0.995 is usual", share);
  const std::int64_t n = f.sample_size();
  if (n == 0) return;
  require(n <= std::int64_t{0xffffffff}, "boot: a quantile of {} numbers; a sample of this device has at most {}", n,
          0xffffffff);
  const double position = share * static_cast<double>(n - 1), below = std::floor(position);
  launch(dev,
         detail::quantile_body<T>{f.data(), n, static_cast<std::uint32_t>(below), static_cast<T>(position - below),
                                  least, out},
         1, f.batch());
}

}  // namespace boot::inline v0
