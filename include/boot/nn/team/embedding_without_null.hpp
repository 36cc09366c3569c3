// SPDX-License-Identifier: MIT
/// Rows of a table that has no null class, by class, on any TeamDevice.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/nn/condition.hpp>
#include <boot/tensor/view.hpp>

#include <concepts>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Class labels for a table of exactly `classes` rows.
template <class Ids, class D>
concept IdsWithoutNull = requires(const Ids& ids) {
  { ids.labels } -> std::convertible_to<class_labels<D>>;
  { ids.classes } -> std::convertible_to<std::int64_t>;
};

/// Grid: blocks x samples.
template <class T>
struct embedding_without_null_body {
  using C = compute_type<T>;
  const C* table;
  std::int64_t columns, rows;
  const std::int32_t* ids;  // null: all samples have the null class, which has no row
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const std::int64_t id = ids == nullptr ? -1 : ids[team.sample()];
    const bool known = id >= 0 && id < rows;
    const std::int64_t step = team.blocks() * Team::size;
    // Nothing can be thrown here, and the row of another class would go unnoticed: NaN ends in the loss.
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < columns; i += step)
      store(y[team.sample() * columns + i], known ? table[id * columns + i] : static_cast<C>(__builtin_nanf("")));
  }
};

/// One sample per row of the table. The block looks through all labels and adds what is its own, in their order.
/// Grid: blocks x rows of the table.
template <class T>
struct embedding_without_null_gradient_body {
  using C = compute_type<T>;
  const T* dy;
  std::int64_t batch, columns;
  const std::int32_t* ids;
  C* dtable;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const std::int64_t step = team.blocks() * Team::size;
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < columns; i += step) {
      C* const to = dtable + team.sample() * columns + i;
      C sum = *to;
      for (std::int64_t r = 0; r < batch; ++r)
        if (ids[r] == team.sample()) sum += static_cast<C>(dy[r * columns + i]);
      *to = sum;
    }
  }
};

}  // namespace detail

/// y[row] = table[id(row)] for a table without a null class. The labels lie in device memory, so an id that is negative or
/// beyond the classes throws nothing: its row becomes NaN.
template <TeamDevice D, StorageScalar T, detail::IdsWithoutNull<D> Ids>
void embedding_forward(const D& dev, view<const compute_type<T>, D> table, const Ids& ids, view<T, D> y) {
  const class_labels<D>& labels = ids.labels;
  const std::int64_t rows = table.extents()[0], n = table.extents()[1];
  launch(dev,
         detail::embedding_without_null_body<T>{table.data(), n, rows, labels.all_null ? nullptr : labels.ids.data(),
                                                y.data()},
         blocks_for(n, 256), y.batch());
}

/// dtable[id(row)] += dy[row], rows in order; ids without a row add nothing.
template <TeamDevice D, StorageScalar T, detail::IdsWithoutNull<D> Ids>
void embedding_backward(const D& dev, view<const T, D> dy, const Ids& ids, view<compute_type<T>, D> dtable) {
  const class_labels<D>& labels = ids.labels;
  const std::int64_t rows = dtable.extents()[0], n = dtable.extents()[1];
  if (labels.all_null || n == 0) return;
  launch(dev,
         detail::embedding_without_null_gradient_body<T>{dy.data(), dy.size() / n, n, labels.ids.data(), dtable.data()},
         blocks_for(n, 256), rows);
}

}  // namespace boot::inline v0
