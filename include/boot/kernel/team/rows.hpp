// SPDX-License-Identifier: MIT
/// Rows of an array, chosen by a list of numbers, on any TeamDevice.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/team/group.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/tensor/view.hpp>

#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// to[sample] = from[rows[sample]]. Grid: blocks x chosen rows.
template <class T>
struct gather_rows_body {
  const T* from;
  const std::int64_t* rows;
  std::int64_t n;  // numbers of a row
  T* to;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int width = group_size<T>();
    const T* const a = from + rows[team.sample()] * n;
    T* const b = to + team.sample() * n;
    const std::int64_t groups = n / width, step = team.blocks() * Team::size;
    const bool whole = group_aligned(a) && group_aligned(b);
    std::int64_t g = team.block() * Team::size + team.rank();
    BOOT_NO_UNROLL
    for (; g < groups; g += step) store_group<width>(b + g * width, load_group<width>(a + g * width, whole), whole);
    if (g != groups) return;  // the thread that would have had the next group gets what is left
    for (std::int64_t i = groups * width; i < n; ++i) b[i] = a[i];
  }
};

}  // namespace detail

/// to[i] = from[rows[i]] for every row of `to`. `rows` lies on the device and may change between replays of a captured
/// step, which a copy's address may not. No overlap; numbers are not checked.
template <TeamDevice D, class T>
void gather_rows(const D& dev, view<const T, D> from, const std::int64_t* rows, view<T, D> to) {
  require_shape("gather_rows", "to", to, from.extents().with_batch(to.batch()));
  const std::int64_t n = to.sample_size();
  launch(dev, detail::gather_rows_body<T>{from.data(), rows, n, to.data()}, blocks_for(n, 4096, 64), to.batch());
}

}  // namespace boot::inline v0
