// SPDX-License-Identifier: MIT
/// Kernel bodies written once against a Team: per-element functors with their sums, AdamW, square sum, noise.
#pragma once

#include <boot/config.hpp>
#include <boot/core/random.hpp>
#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/kernel/pack.hpp>
#include <boot/kernel/team/group.hpp>
#include <boot/kernel/team/team.hpp>

#include <cstdint>
#include <utility>

namespace boot::inline v0 {

/// Elements are dealt to threads in groups of 16 bytes of the narrowest array. Which thread gets which element depends
/// on the shape and the grid alone: arrays that are not 16-byte aligned are read element by element and give the same
/// bits. Sums have two stages: one number per block, then finish_sum_body.

namespace detail {

BOOT_NO_EXEC_CHECK
template <class T, class Team, class Op, class Row, class... In, class... Out, std::size_t... I, std::size_t... O>
BOOT_HD void element_body(const Team& team, const Op& op, const Row* rows, std::int64_t n, const inputs<In...>& in,
                          const outputs<Out...>& out, T* partial, std::index_sequence<I...>,
                          std::index_sequence<O...>) {
  constexpr int width = group_size<In..., Out...>();
  const Row row = rows[team.sample()];
  const std::int64_t base = team.sample() * n, groups = n / width, step = team.blocks() * Team::size;
  const std::int64_t first = team.block() * Team::size + team.rank();
  const bool whole =
      (true && ... && group_aligned(get<I>(in) + base)) && (true && ... && group_aligned(get<O>(out) + base));
  T sum = 0;
  std::int64_t g = first;
  BOOT_NO_UNROLL
  for (; g < groups; g += step) {
    const std::int64_t at = base + g * width;
    const pack<element_group<In, width>...> x(load_group<width>(get<I>(in) + at, whole)...);
    [[maybe_unused]] pack<element_group<Out, width>...> y;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      const auto r = op(row, static_cast<T>(get<I>(x).v[k])...);
      (store(get<O>(y).v[k], r.out[O]), ...);
      sum += r.sum;
    }
    (store_group<width>(get<O>(out) + at, get<O>(y), whole), ...);
  }
  if (g == groups) {  // the thread that would have had the next group gets what is left
    for (std::int64_t i = base + groups * width; i < base + n; ++i) {
      const auto r = op(row, static_cast<T>(get<I>(in)[i])...);
      (store(get<O>(out)[i], r.out[O]), ...);
      sum += r.sum;
    }
  }
  if (partial == nullptr) return;
  sum = team_sum(team, sum);
  if (team.rank() == 0) partial[team.sample() * team.blocks() + team.block()] = sum;
}

template <int Averages, class T>
BOOT_HD inline void adamw_element(const adamw_row<T>& p, const group_row<T>& g, T& value, T gradient, T& first,
                                  T& second, T* average) {
  const adamw_state<T> s = adamw_update(p, g, value, gradient, first, second);
  value = s.value;
  first = s.first;
  second = s.second;
  BOOT_UNROLL
  for (int a = 0; a < Averages; ++a) average[a] += p.average[a] * (s.value - average[a]);
}

}  // namespace detail

/// The element functor `op` over one sample, as for_each_element does it on the host: `op(rows[sample], inputs...)`.
/// `partial`, unless null, gets the block's sum at [sample, block]; add them up with finish_sum_body.
/// Grid: blocks x samples.
BOOT_NO_EXEC_CHECK
template <class T, class Team, class Op, class Row, class... In, class... Out>
BOOT_HD void element_body(const Team& team, const Op& op, const Row* rows, std::int64_t n, const inputs<In...>& in,
                          const outputs<Out...>& out, T* partial) {
  detail::element_body<T>(team, op, rows, n, in, out, partial, std::index_sequence_for<In...>{},
                          std::index_sequence_for<Out...>{});
}

/// sums[sample] = the sum of `count` numbers partial[sample, ...]. Grid: one block x samples.
BOOT_NO_EXEC_CHECK
template <class Team, class T>
BOOT_HD void finish_sum_body(const Team& team, const T* partial, std::int64_t count, T* sums) {
  T sum = 0;
  for (std::int64_t i = team.rank(); i < count; i += Team::size) sum += partial[team.sample() * count + i];
  sum = team_sum(team, sum);
  if (team.rank() == 0) sums[team.sample()] = sum;
}

/// partial[block] = sum of squares of the block's elements of x, in the type they are computed in. Grid: blocks x 1.
BOOT_NO_EXEC_CHECK
template <class Team, class T>
BOOT_HD void square_sum_body(const Team& team, const T* x, std::int64_t n, compute_type<T>* partial) {
  using C = compute_type<T>;
  constexpr int width = detail::group_size<T>();
  const std::int64_t groups = n / width, step = team.blocks() * Team::size;
  const std::int64_t first = team.block() * Team::size + team.rank();
  const bool whole = detail::group_aligned(x);
  C sum = 0;
  std::int64_t g = first;
  BOOT_NO_UNROLL
  for (; g < groups; g += step) {
    const auto v = detail::load_group<width>(x + g * width, whole);
    C part = 0;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) part += static_cast<C>(v.v[k]) * static_cast<C>(v.v[k]);
    sum += part;
  }
  if (g == groups)
    for (std::int64_t i = groups * width; i < n; ++i) sum += static_cast<C>(x[i]) * static_cast<C>(x[i]);
  sum = team_sum(team, sum);
  if (team.rank() == 0) partial[team.block()] = sum;
}

/// AdamW and `Averages` averages over all ranges, as adamw_ema does it on the host. With row->skip set it does nothing.
/// Groups are dealt on from range to range: were each dealt from block 0, the first blocks would get all short ranges.
/// Grid: blocks x 1.
template <int Averages, class Team, class T>
BOOT_HD void adamw_body(const Team& team, const adamw_row<T>* row, const group_row<T>* groups,
                        const parameter_range* ranges, std::int64_t range_count, T* value, const T* gradient, T* first,
                        T* second, T* const (&average)[max_averages]) {
  constexpr int width = detail::group_size<T>(), room = Averages > 0 ? Averages : 1;
  using group = detail::element_group<T, width>;
  const adamw_row<T> p = *row;
  if (p.skip != T{0}) return;
  const std::int64_t step = team.blocks() * Team::size;
  std::int64_t g = team.block() * Team::size + team.rank();  // this thread's next group, from the range's first
  for (std::int64_t r = 0; r < range_count; ++r) {
    const parameter_range range = ranges[r];
    const std::int64_t n = range.end - range.begin, count = n / width, dealt = (n + width - 1) / width;
    if (g >= dealt) {
      g -= dealt;
      continue;
    }
    const group_row<T> factors = groups[range.group];
    bool whole = detail::group_aligned(value + range.begin) && detail::group_aligned(gradient + range.begin) &&
                 detail::group_aligned(first + range.begin) && detail::group_aligned(second + range.begin);
    for (int a = 0; a < Averages; ++a) whole = whole && detail::group_aligned(average[a] + range.begin);
    BOOT_NO_UNROLL
    for (; g < count; g += step) {
      const std::int64_t at = range.begin + g * width;
      group v = detail::load_group<width>(value + at, whole), m = detail::load_group<width>(first + at, whole);
      group s = detail::load_group<width>(second + at, whole), e[room];
      const group d = detail::load_group<width>(gradient + at, whole);
      BOOT_UNROLL
      for (int a = 0; a < Averages; ++a) e[a] = detail::load_group<width>(average[a] + at, whole);
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        T one[room];
        for (int a = 0; a < Averages; ++a) one[a] = e[a].v[k];
        detail::adamw_element<Averages>(p, factors, v.v[k], d.v[k], m.v[k], s.v[k], one);
        for (int a = 0; a < Averages; ++a) e[a].v[k] = one[a];
      }
      detail::store_group<width>(value + at, v, whole);
      detail::store_group<width>(first + at, m, whole);
      detail::store_group<width>(second + at, s, whole);
      BOOT_UNROLL
      for (int a = 0; a < Averages; ++a) detail::store_group<width>(average[a] + at, e[a], whole);
    }
    if (g < dealt) {  // what is left is less than a group
      for (std::int64_t i = range.begin + count * width; i < range.end; ++i) {
        T one[room];
        for (int a = 0; a < Averages; ++a) one[a] = average[a][i];
        detail::adamw_element<Averages>(p, factors, value[i], gradient[i], first[i], second[i], one);
        for (int a = 0; a < Averages; ++a) average[a][i] = one[a];
      }
      g += step;
    }
    g -= dealt;
  }
}

/// Standard normals: row `sample` of out, n numbers, gets the noise of sample number samples[sample]. Grid: blocks x
/// samples.
template <class Team, class T>
BOOT_HD void noise_body(const Team& team, const counter_key* key, const std::int64_t* samples, std::int64_t n, T* out) {
  const counter_key k = *key;
  const auto number = static_cast<std::uint64_t>(samples[team.sample()]);
  T* const to = out + team.sample() * n;
  const bool whole = detail::group_aligned(to);
  const auto group = [&](std::int64_t g) {
    const normal_block z = normal4{}(k, number, static_cast<std::uint64_t>(g));
    detail::element_group<T, 4> v;
    BOOT_UNROLL
    for (int i = 0; i < 4; ++i) v.v[i] = static_cast<T>(z.v[i]);
    return v;
  };
  const std::int64_t groups = n / 4;
  std::int64_t g = Team::size * team.block() + team.rank(), step = Team::size * team.blocks();
  if (whole) {  // two groups at a time: they share the round keys, which are added up each time
    g += Team::size * team.block();
    T* p = to + 4 * g;
    BOOT_NO_UNROLL
    for (; g + Team::size < groups; g += 2 * step) {
      const auto a = group(g), b = group(g + Team::size);
      detail::store_group<4>(p, a, true);
      detail::store_group<4>(p + 4 * Team::size, b, true);
      p += 8 * step;
    }
    step = Team::size;  // one group is left, or what is less than one, or both
  }
  BOOT_NO_UNROLL
  for (; 4 * g < n; g += step) {
    const auto v = group(g);
    if (g < groups) {
      detail::store_group<4>(to + 4 * g, v, whole);
    } else {
      BOOT_UNROLL
      for (int i = 0; i < 3; ++i)
        if (4 * g + i < n) to[4 * g + i] = v.v[i];
    }
  }
}

}  // namespace boot::inline v0
