// SPDX-License-Identifier: MIT
/// Rows of an array, chosen by a list of numbers, on the host.
#pragma once

#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cstdint>

namespace boot::inline v0 {

/// to[i] = from[rows[i]] for every row of `to`. No overlap; numbers are not checked.
template <class T>
void gather_rows(const cpu& dev, view<const T, cpu> from, const std::int64_t* rows, view<T, cpu> to) {
  require_shape("gather_rows", "to", to, from.extents().with_batch(to.batch()));
  const std::int64_t n = to.sample_size();
  parallel_for(dev, to.batch(), [&](std::int64_t i) { std::copy_n(from.data() + rows[i] * n, n, to.data() + i * n); });
}

}  // namespace boot::inline v0
