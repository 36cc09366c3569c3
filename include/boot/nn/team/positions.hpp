// SPDX-License-Identifier: MIT
/// The sine-cosine table of the tokens' places on any TeamDevice.
#pragma once

#include <boot/nn/team/embedding.hpp>

#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// A thread makes four numbers of the table, the sines and cosines of one frequency, and adds them to every sample of
/// its group.
/// Grid: blocks over tokens x frequencies x groups of samples.
template <class T>
struct positions_body {
  const T* x;
  T* y;
  std::int64_t batch, tokens, columns, frequencies, together;  // together: samples of a group
  long_powers<compute_type<T>> frequency;                      // by its number
  long_number<compute_type<T>> per_column, per_row;            // half turns of frequency 1

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t n = 4 * frequencies, first = team.sample() * together;
    const std::int64_t end = first + together < batch ? first + together : batch;
    const std::int64_t step = team.blocks() * Team::size, all = tokens * frequencies;
    BOOT_NO_UNROLL
    for (std::int64_t at = team.block() * Team::size + team.rank(); at < all; at += step) {
      const std::int64_t token = short_quotient(at, frequencies), i = at - token * frequencies;
      const std::int64_t row = short_quotient(token, columns), column = token - row * columns;
      const long_number<C> f = frequency.times({C{1}, C{0}}, i);
      C table[4];
      sincospi(long_product(long_product(per_column, static_cast<C>(column)), f), table[0], table[1]);
      sincospi(long_product(long_product(per_row, static_cast<C>(row)), f), table[2], table[3]);
      for (std::int64_t b = first; b < end; ++b) {
        const std::int64_t to = (b * tokens + token) * n + i;
        BOOT_UNROLL
        for (int k = 0; k < 4; ++k) store(y[to + k * frequencies], static_cast<C>(x[to + k * frequencies]) + table[k]);
      }
    }
  }
};

}  // namespace detail

/// y = x + the sine-cosine table of add_positions_op, for x [batch, rows, columns, width]; y may be x's memory.
template <TeamDevice D, StorageScalar T>
void add_positions(const D& dev, view<const T, D> x, double base, view<T, D> y) {
  const shape& s = x.extents();
  const std::int64_t batch = s[0], rows = s[1], columns = s[2], frequencies = s[3] / 4;
  if (x.size() == 0) return;
  using C = compute_type<T>;
  require(rows * columns * frequencies <= 0xffffffff,
          "boot: positions of {} tokens of width {}; needs below 2^34 numbers", rows * columns, s[3]);
  const long double half_turns = base * std::numbers::inv_pi_v<long double>;
  const std::int64_t groups = blocks_for(batch, 16, 8), together = (batch + groups - 1) / groups;
  launch(dev,
         detail::positions_body<T>{
             x.data(), y.data(), batch, rows * columns, columns, frequencies, together,
             detail::long_powers<C>(-std::log(10000.0) / static_cast<double>(frequencies), frequencies),
             detail::to_long_number<C>(half_turns / static_cast<long double>(columns)),
             detail::to_long_number<C>(half_turns / static_cast<long double>(rows))},
         blocks_for(rows * columns * frequencies, 256, 65536), groups);
}

}  // namespace boot::inline v0
