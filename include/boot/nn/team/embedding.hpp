// SPDX-License-Identifier: MIT
/// Sinusoids of times and rows of a table by class, on any TeamDevice.
#pragma once

#include <boot/core/long_number.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/nn/condition.hpp>
#include <boot/tensor/view.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>

namespace boot::inline v0 {

namespace detail {

/// Grid: blocks x rows.
template <class T>
struct sinusoid_body {
  const T* input;
  std::int64_t features;
  bool cosine_first;
  long_powers<compute_type<T>> frequency;          // of slope -ln(max_period) / (half - shift)
  long_number<compute_type<T>> factor, half_turn;  // half_turn: 1 / pi
  T* out;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t half = features / 2, step = team.blocks() * Team::size;
    const std::int64_t first = team.block() * Team::size + team.rank();
    const C u = static_cast<C>(input[team.sample()]);
    T* const row = out + team.sample() * features;
    BOOT_NO_UNROLL
    for (std::int64_t i = first; i < half; i += step) {
      const C angle = u * frequency.times(factor, i).high;  // both rounded, as on the host
      C s = 0, c = 0;
      sincospi(long_product(half_turn, angle), s, c);
      store(row[i], cosine_first ? c : s);
      store(row[i + half], cosine_first ? s : c);
    }
    if (features % 2 != 0 && first == 0) store(row[features - 1], C{0});
  }
};

/// Grid: blocks x samples.
template <class T>
struct embedding_body {
  const T* table;
  std::int64_t columns, last_row;
  const std::int32_t* ids;  // null: all samples have the null class
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t id = ids == nullptr ? -1 : ids[team.sample()];
    const std::int64_t k = id < 0 ? last_row : id;
    const bool known = id < last_row;
    const std::int64_t step = team.blocks() * Team::size;
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < columns; i += step) {
      T value = known ? table[k * columns + i] : T{};
      // Nothing can be thrown here, and the row of another class would go unnoticed: NaN ends in the loss.
      if (!known) store(value, static_cast<C>(__builtin_nanf("")));
      y[team.sample() * columns + i] = value;
    }
  }
};

/// One sample per row of the table. The block looks through all labels and adds what is its own, in their order.
/// Grid: blocks x rows of the table.
template <class T>
struct embedding_gradient_body {
  const T* dy;
  std::int64_t rows, columns, last_row;
  const std::int32_t* ids;  // null: all samples have the null class
  T* dtable;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t mine = team.sample(), step = team.blocks() * Team::size;
    T* const to = dtable + mine * columns;
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < columns; i += step) {
      C sum = 0;
      bool any = false;
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t id = ids == nullptr ? -1 : ids[r];
        if ((id < 0 ? last_row : id) != mine) continue;
        if (!any) sum = static_cast<C>(to[i]);
        any = true;
        sum += static_cast<C>(dy[r * columns + i]);
      }
      if (any) store(to[i], sum);
    }
  }
};

}  // namespace detail

/// Sinusoids of `rows` inputs: row r gets cos and sin (or sin and cos) of input[r] frequency[i], `features` numbers.
/// frequency[i] = factor exp(-ln(max_period) i / (half - shift)); an odd width ends with a zero.
template <TeamDevice D, StorageScalar T>
void sinusoids(const D& dev, const T* input, std::int64_t rows, std::int64_t features, bool cosine_first, double shift,
               double max_period, double factor, T* out) {
  using C = compute_type<T>;
  const double slope = -std::log(max_period) / (static_cast<double>(features / 2) - shift);
  launch(dev,
         detail::sinusoid_body<T>{input, features, cosine_first, detail::long_powers<C>(slope, features / 2),
                                  detail::to_long_number<C>(factor),
                                  detail::to_long_number<C>(std::numbers::inv_pi_v<long double>), out},
         blocks_for(features / 2, 256), rows);
}

/// y[row] = table[id(row)]; a negative id is the last row of the table. The labels lie in device memory, so an id beyond
/// the classes throws nothing: its row becomes NaN.
template <TeamDevice D, StorageScalar T>
void embedding_forward(const D& dev, view<const T, D> table, const class_labels<D>& labels, view<T, D> y) {
  const std::int64_t n = table.extents()[1], last_row = table.extents()[0] - 1;
  const std::int32_t* const ids = labels.all_null ? nullptr : labels.ids.data();
  launch(dev, detail::embedding_body<T>{table.data(), n, last_row, ids, y.data()}, blocks_for(n, 256), y.batch());
}

/// dtable[id(row)] += dy[row], rows in order.
template <TeamDevice D, StorageScalar T>
void embedding_backward(const D& dev, view<const T, D> dy, const class_labels<D>& labels, view<T, D> dtable) {
  const std::int64_t n = dtable.extents()[1], last_row = dtable.extents()[0] - 1;
  const std::int64_t rows = n == 0 ? 0 : dy.size() / n;
  const std::int32_t* const ids = labels.all_null ? nullptr : labels.ids.data();
  launch(dev, detail::embedding_gradient_body<T>{dy.data(), rows, n, last_row, ids, dtable.data()}, blocks_for(n, 256),
         last_row + 1);
}

}  // namespace boot::inline v0
