// SPDX-License-Identifier: MIT
/// Network operations on any TeamDevice: additions, SiLU, rows and columns, sums of columns, storage types.
#pragma once

#include <boot/core/math.hpp>
#include <boot/device/memory.hpp>
#include <boot/kernel/team/map.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Rows x columns cut into tiles of at most 32 groups of columns, and slices of rows, by the shape alone. The threads of
/// a block lie side by side over a tile's groups, and behind one another over the rows of a slice.
template <int width>
struct row_tiles {
  std::int64_t rows, columns;             // of the whole array
  std::int64_t tiles, per_slice, slices;  // across, rows in a slice, slices
  int shift;                              // a tile has 1 << shift groups of `width` columns

  /// `passes` over a slice for a block of 256 threads; more where there would be over `most` blocks.
  row_tiles(std::int64_t r, std::int64_t c, std::int64_t passes, std::int64_t most) : rows(r), columns(c), shift(0) {
    const std::int64_t groups = (columns + width - 1) / width;
    while (shift < 5 && (std::int64_t{1} << shift) < groups) ++shift;
    tiles = (groups + (std::int64_t{1} << shift) - 1) >> shift;
    const std::int64_t room = std::max<std::int64_t>(1, most / std::max<std::int64_t>(1, tiles));
    per_slice = std::max(passes * 256 >> shift, (rows + room - 1) / room);
    slices = std::max<std::int64_t>(1, (rows + per_slice - 1) / per_slice);
  }
  [[nodiscard]] std::int64_t blocks() const { return tiles * slices; }
};

/// What one thread has of a row_tiles.
struct row_place {
  std::int64_t slice, row, end, step;  // rows row, row + step, .. < end
  std::int64_t column;                 // first of its columns
  int count;                           // columns, 0 to width
  int line;                            // its row of threads
};

template <int width, class Team>
BOOT_HD row_place place_in(const Team& team, const row_tiles<width>& cut) {
  static_assert(Team::size >= 32, "boot: a tile's groups lie next to each other in one block");
  row_place p;
  p.slice = short_quotient(team.block(), cut.tiles);
  const std::int64_t tile = team.block() - p.slice * cut.tiles;
  p.line = team.rank() >> cut.shift;
  p.row = p.slice * cut.per_slice + p.line;
  p.end = (p.slice + 1) * cut.per_slice;
  if (p.end > cut.rows) p.end = cut.rows;
  p.step = Team::size >> cut.shift;
  p.column = ((tile << cut.shift) + (team.rank() & ((1 << cut.shift) - 1))) * width;
  const std::int64_t left = cut.columns - p.column;
  p.count = left >= width ? width : left > 0 ? static_cast<int>(left) : 0;
  return p;
}

/// A group of which `count` elements are there, the others read as zero.
template <int width, class T>
BOOT_HD element_group<T, width> load_part(const T* p, bool whole, int count) {
  if (whole) return load_group<width>(p, true);
  element_group<T, width> r;
  BOOT_UNROLL
  for (int k = 0; k < width; ++k) r.v[k] = k < count ? p[k] : T{};
  return r;
}
template <int width, class T>
BOOT_HD void store_part(T* p, const element_group<T, width>& r, bool whole, int count) {
  if (whole) return store_group<width>(p, r, true);
  BOOT_UNROLL
  for (int k = 0; k < width; ++k)
    if (k < count) p[k] = r.v[k];
}
/// A group that will be read again: unlike load_group it may stay in the caches.
template <int width, class T>
BOOT_HD element_group<T, width> load_again(const T* p, bool whole, int count) {
#if BOOT_DEVICE_CODE
  if (whole) {
    element_group<T, width> r;
    group_words q[sizeof r / 16];
    BOOT_UNROLL
    for (std::size_t k = 0; k < sizeof r / 16; ++k) q[k] = reinterpret_cast<const group_words*>(p)[k];
    __builtin_memcpy(&r, q, sizeof r);
    return r;
  }
#endif
  return load_part<width>(p, whole, count);
}

/// Whether the groups of all rows begin at 16-byte addresses.
template <int width, class T>
BOOT_HD bool rows_aligned(const T* p, std::int64_t stride) {
  return group_aligned(p) && stride % width == 0;
}

/// to[row, i] = from[row, i] scale[row] + addend[sample, i]; scale and addend may be null. With `accumulate` also
/// + before[row, i], whose rows lie as those of `to` and may be they. Grid: cut.blocks() x samples.
template <bool accumulate, class T, class Addend>
struct row_body {
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T* from;
  std::int64_t from_stride;  // from one row to the next
  T* to;
  std::int64_t to_stride;
  const T* scale;
  const Addend* addend;
  std::int64_t addend_stride;  // from one sample to the next, 0 where all share it
  const T* before;             // not read without `accumulate`

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const T* const source = from + team.sample() * cut.rows * from_stride + p.column;
    T* const target = to + team.sample() * cut.rows * to_stride + p.column;
    const T* const more = before + team.sample() * cut.rows * to_stride + p.column;
    bool whole = p.count == width && rows_aligned<width>(source, from_stride) && rows_aligned<width>(target, to_stride);
    if constexpr (accumulate) whole = whole && group_aligned(more);
    element_group<Addend, width> b{};
    if (addend != nullptr) b = load_part<width>(addend + team.sample() * addend_stride + p.column, false, p.count);
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const auto x = load_part<width>(source + r * from_stride, whole, p.count);
      element_group<T, width> y;
      if constexpr (accumulate) y = load_part<width>(more + r * to_stride, whole, p.count);
      const C s = scale != nullptr ? static_cast<C>(scale[r]) : C{1};
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        C value = static_cast<C>(x.v[k]) * s;
        if (addend != nullptr) value += static_cast<C>(b.v[k]);
        if constexpr (accumulate) value += static_cast<C>(y.v[k]);
        store(y.v[k], value);
      }
      store_part<width>(target + r * to_stride, y, whole, p.count);
    }
  }
};

template <TeamDevice D, class T, class Addend = T>
void launch_rows(const D& dev, std::int64_t samples, std::int64_t rows, std::int64_t columns, const T* from,
                 std::int64_t from_stride, T* to, std::int64_t to_stride, const T* scale, const Addend* addend,
                 std::int64_t addend_stride, bool accumulate) {
  const row_tiles<group_size<T>()> cut(rows, columns, 4, 65536);
  if (accumulate) {
    launch(dev, row_body<true, T, Addend>{cut, from, from_stride, to, to_stride, scale, addend, addend_stride, to},
           cut.blocks(), samples);
  } else {
    launch(dev, row_body<false, T, Addend>{cut, from, from_stride, to, to_stride, scale, addend, addend_stride, to},
           cut.blocks(), samples);
  }
}

/// The sums over a block's rows of threads, valid on line 0; the order depends on the shape and the block's size alone.
template <int width, class Team, class C>
BOOT_HD void sum_lines(const Team& team, int shift, C (&sum)[width]) {
  C* const scratch = team.template scratch<C>() + team.rank();
  BOOT_UNROLL
  for (int k = 0; k < width; ++k) scratch[k * Team::size] = sum[k];
  team.sync();
  for (int half = (Team::size >> shift) / 2; half > 0; half >>= 1) {
    if ((team.rank() >> shift) < half) {
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) scratch[k * Team::size] += scratch[k * Team::size + (half << shift)];
    }
    team.sync();
  }
  BOOT_UNROLL
  for (int k = 0; k < width; ++k) sum[k] = scratch[k * Team::size];
}

/// sums[sample, slice, j] (+)= the sum over a slice's rows of x[sample, row, j]. Grid: cut.blocks() x samples.
template <class In, class Out>
struct column_sum_body {
  using C = compute_type<In>;
  static constexpr int width = group_size<In>();
  static constexpr std::size_t shared_bytes = 256 * width * sizeof(C);
  row_tiles<width> cut;
  const In* x;
  Out* sums;
  bool accumulate;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place p = place_in(team, cut);
    const In* const source = x + team.sample() * cut.rows * cut.columns + p.column;
    const bool whole = p.count == width && rows_aligned<width>(source, cut.columns);
    C sum[width] = {};
    if (p.count > 0) {
      BOOT_NO_UNROLL
      for (std::int64_t r = p.row; r < p.end; r += p.step) {
        const auto v = load_part<width>(source + r * cut.columns, whole, p.count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) sum[k] += static_cast<C>(v.v[k]);
      }
    }
    sum_lines(team, cut.shift, sum);
    if (p.line != 0) return;
    Out* const to = sums + (team.sample() * cut.slices + p.slice) * cut.columns + p.column;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k)
      if (k < p.count) store(to[k], accumulate ? static_cast<C>(to[k]) + sum[k] : sum[k]);
  }
};

/// The cut of sums over `rows` rows for each of `samples` samples.
template <class T>
[[nodiscard]] row_tiles<group_size<T>()> sum_tiles(std::int64_t samples, std::int64_t rows, std::int64_t columns) {
  return {rows, columns, 16, std::max<std::int64_t>(1, 1024 / std::max<std::int64_t>(1, samples))};
}

/// Second stage: sums[sample, j] (+)= the sum over slices of partial[sample, slice, j].
template <TeamDevice D, class C, class Out>
void add_slices(const D& dev, const C* partial, std::int64_t samples, std::int64_t slices, std::int64_t columns,
                Out* sums, bool accumulate) {
  const row_tiles<group_size<C>()> cut(slices, columns, 1, 1);  // one slice
  launch(dev, column_sum_body<C, Out>{cut, partial, sums, accumulate}, cut.blocks(), samples);
}

/// sums[sample, j] (+)= the sum over rows of x[sample, row, j], in two stages.
template <TeamDevice D, class T, class Out>
void sum_columns(const D& dev, const T* x, std::int64_t samples, std::int64_t rows, std::int64_t columns, Out* sums,
                 bool accumulate) {
  using C = compute_type<T>;
  const auto cut = sum_tiles<T>(samples, rows, columns);
  if (cut.slices == 1) {
    launch(dev, column_sum_body<T, Out>{cut, x, sums, accumulate}, cut.blocks(), samples);
    return;
  }
  const auto bytes = static_cast<std::size_t>(samples * cut.slices * columns) * sizeof(C);
  C* const partial = static_cast<C*>(device_scratch(dev, bytes, 0));
  launch(dev, column_sum_body<T, C>{cut, x, partial, false}, cut.blocks(), samples);
  add_slices(dev, static_cast<const C*>(partial), samples, cut.slices, columns, sums, accumulate);
}

struct team_same {
  template <class C>
  BOOT_HD C operator()(C x) const {
    return x;
  }
};
struct team_sum_of_two {
  template <class C>
  BOOT_HD C operator()(C a, C b) const {
    return a + b;
  }
};
struct team_round_bf16 {
  BOOT_HD float operator()(float x) const { return static_cast<float>(bf16(x)); }
};
struct team_silu {
  template <class C>
  BOOT_HD C operator()(C x) const {
    return math::silu(x);
  }
};
struct team_silu_slope {
  template <class C>
  BOOT_HD C operator()(C x, C dy) const {
    return dy * math::silu_derivative(x);
  }
};

}  // namespace detail

/// y = x for accumulate = false, y += x otherwise; equal sizes.
template <TeamDevice D, StorageScalar T>
void add_to(const D& dev, view<const T, D> x, view<T, D> y, bool accumulate) {
  if (accumulate) {
    map_elements(dev, y.size(), detail::team_same{}, true, y.data(), x.data());
  } else {
    copy_bytes(dev, x.data(), y.data(), static_cast<std::size_t>(y.size()) * sizeof(T));
  }
}

/// sums[j] (+)= sum over rows of x[row, j], in two stages of a fixed order.
template <TeamDevice D, StorageScalar T, StorageScalar Out>
void column_sums(const D& dev, view<const T, D> x, std::int64_t columns, Out* sums, bool accumulate) {
  detail::sum_columns(dev, x.data(), 1, columns == 0 ? 0 : x.size() / columns, columns, sums, accumulate);
}

/// The same numbers in another type, rounded to nearest even where it is narrower.
template <TeamDevice D>
void convert(const D& dev, view<const float, D> from, view<bf16, D> to) {
  map_elements(dev, to.size(), detail::team_same{}, false, to.data(), from.data());
}
/// \copydoc convert
template <TeamDevice D>
void convert(const D& dev, view<const bf16, D> from, view<float, D> to) {
  map_elements(dev, to.size(), detail::team_same{}, false, to.data(), from.data());
}
/// y = what would be left of x if it were stored as A.
template <std::same_as<bf16> A, TeamDevice D>
void round_to(const D& dev, view<const float, D> x, view<float, D> y) {
  map_elements(dev, y.size(), detail::team_round_bf16{}, false, y.data(), x.data());
}
/// The same in place.
template <std::same_as<bf16> A, TeamDevice D>
void round_to(const D& dev, view<float, D> y) {
  map_elements(dev, y.size(), detail::team_round_bf16{}, false, y.data(), static_cast<const float*>(y.data()));
}

/// y = x sigmoid(x).
template <TeamDevice D, StorageScalar T>
void silu_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  map_elements(dev, y.size(), detail::team_silu{}, false, y.data(), x.data());
}
/// dx (+)= dy silu'(x).
template <TeamDevice D, StorageScalar T>
void silu_backward(const D& dev, view<const T, D> x, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  map_elements(dev, dx.size(), detail::team_silu_slope{}, accumulate, dx.data(), x.data(), dy.data());
}

/// y = a + b, where b has as many rows as a, or one that is added to every row.
template <TeamDevice D, StorageScalar T>
void add_forward(const D& dev, view<const T, D> a, view<const T, D> b, view<T, D> y) {
  const std::int64_t n = b.size(), rows = n == 0 ? 0 : a.size() / n;
  if (rows == 1) {
    map_elements(dev, n, detail::team_sum_of_two{}, false, y.data(), a.data(), b.data());
  } else {
    detail::launch_rows<D, T>(dev, 1, rows, n, a.data(), n, y.data(), n, nullptr, b.data(), 0, false);
  }
}

/// y[row, i] = x[row, i] + bias[i].
template <TeamDevice D, StorageScalar T>
void add_bias_forward(const D& dev, view<const T, D> x, const compute_type<T>* bias, view<T, D> y) {
  const std::int64_t n = y.extents()[-1], rows = n == 0 ? 0 : y.size() / n;
  detail::launch_rows<D, T>(dev, 1, rows, n, x.data(), n, y.data(), n, nullptr, bias, 0, false);
}
/// y[row, i] = a[row, i] + b[row, i] + bias[i].
template <TeamDevice D, StorageScalar T>
void add_bias_forward(const D& dev, view<const T, D> a, view<const T, D> b, const compute_type<T>* bias, view<T, D> y) {
  const std::int64_t n = y.extents()[-1], rows = n == 0 ? 0 : y.size() / n;
  const detail::row_tiles<detail::group_size<T>()> cut(rows, n, 4, 65536);
  using body = detail::row_body<true, T, compute_type<T>>;
  launch(dev, body{cut, a.data(), n, y.data(), n, nullptr, bias, 0, b.data()}, cut.blocks(), 1);
}

/// y[row, i] (+)= x[row, i] scale[row].
template <TeamDevice D, StorageScalar T>
void scale_rows(const D& dev, view<const T, D> x, const T* scale, view<T, D> y, bool accumulate) {
  const std::int64_t n = y.sample_size();
  detail::launch_rows<D, T, T>(dev, 1, y.batch(), n, x.data(), n, y.data(), n, scale, nullptr, 0, accumulate);
}

/// Copies `columns` numbers per row between arrays whose rows are `from_stride` and `to_stride` apart, or adds them.
template <TeamDevice D, StorageScalar T>
void copy_columns(const D& dev, const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride,
                  std::int64_t rows, std::int64_t columns, bool accumulate) {
  detail::launch_rows<D, T, T>(dev, 1, rows, columns, from, from_stride, to, to_stride, nullptr, nullptr, 0,
                               accumulate);
}

}  // namespace boot::inline v0
