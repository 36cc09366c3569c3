// SPDX-License-Identifier: MIT
/// Modulation on any TeamDevice: channels scaled, shifted and gated per sample, and the layer norm without weights.
#pragma once

#include <boot/core/math.hpp>
#include <boot/nn/team/layer_norm.hpp>

#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// y = x (plus + factor) + base, an array of x's shape that may be y itself, or + shift, a row as factor, or null.
/// Grid: cut.blocks() x samples; the cut is of one sample.
template <bool based, class T>
struct modulate_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T *x, *base, *factor, *shift;
  C plus;
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const std::int64_t n = cut.columns, start = team.sample() * cut.rows * n + p.column;
    const std::int64_t row = team.sample() * n + p.column;
    const bool whole =
        p.count == width && rows_aligned<width>(x, n) && rows_aligned<width>(y, n) && (!based || group_aligned(base));
    const auto a = load_part<width>(factor + row, false, p.count);
    element_group<T, width> b{};
    if (!based && shift != nullptr) b = load_part<width>(shift + row, false, p.count);
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const auto v = load_part<width>(x + start + r * n, whole, p.count);
      if constexpr (based) b = load_part<width>(base + start + r * n, whole, p.count);
      element_group<T, width> q;
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        const C factor_k = plus + static_cast<C>(a.v[k]);
        store(q.v[k], math::fma(static_cast<C>(v.v[k]), factor_k, static_cast<C>(b.v[k])));
      }
      store_part<width>(y + start + r * n, q, whole, p.count);
    }
  }
};

/// Rows of x that share a row of e, and how often: all of them once where e has one row.
struct modulated_rows {
  std::int64_t samples, rows, columns;
  modulated_rows(const shape& x, const shape& e) : samples(e.batch()), rows(0), columns(e.rank() > 0 ? e[-1] : 1) {
    if (samples > 0 && columns > 0) rows = x.size() / (columns * samples);
  }
};

template <TeamDevice D, class T>
void modulate_rows(const D& dev, const shape& s, const shape& e, const T* x, const T* base, const T* factor,
                   const T* shift, compute_type<T> plus, T* y) {
  const modulated_rows m(s, e);
  if (m.rows == 0) return;
  const row_tiles<group_size<T>()> cut(m.rows, m.columns, 4, 65536);
  if (base != nullptr) {
    launch(dev, modulate_body<true, T>{cut, x, base, factor, shift, plus, y}, cut.blocks(), m.samples);
  } else {
    launch(dev, modulate_body<false, T>{cut, x, base, factor, shift, plus, y}, cut.blocks(), m.samples);
  }
}

/// sums[sample, slice, j] (+)= the sum over a slice's rows of dy[sample, row, j] x[sample, row, j], or of dy where x is
/// null. Grid: cut.blocks() x samples.
template <class In, class Out>
struct product_sum_body {
  using C = compute_type<In>;
  static constexpr int width = group_size<In>();
  static constexpr std::size_t shared_bytes = 256 * width * sizeof(C);
  row_tiles<width> cut;
  const In *dy, *x;
  Out* sums;
  bool accumulate;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place p = place_in(team, cut);
    const std::int64_t n = cut.columns, start = team.sample() * cut.rows * n + p.column;
    const bool whole = p.count == width && rows_aligned<width>(dy, n) && (x == nullptr || group_aligned(x));
    C sum[width] = {};
    if (p.count > 0) {
      BOOT_NO_UNROLL
      for (std::int64_t r = p.row; r < p.end; r += p.step) {
        const auto g = load_part<width>(dy + start + r * n, whole, p.count);
        if (x != nullptr) {
          const auto v = load_part<width>(x + start + r * n, whole, p.count);
          BOOT_UNROLL
          for (int k = 0; k < width; ++k) sum[k] = math::fma(static_cast<C>(g.v[k]), static_cast<C>(v.v[k]), sum[k]);
        } else {
          BOOT_UNROLL
          for (int k = 0; k < width; ++k) sum[k] += static_cast<C>(g.v[k]);
        }
      }
    }
    sum_lines(team, cut.shift, sum);
    if (p.line != 0) return;
    Out* const to = sums + (team.sample() * cut.slices + p.slice) * n + p.column;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k)
      if (k < p.count) store(to[k], accumulate ? static_cast<C>(to[k]) + sum[k] : sum[k]);
  }
};

/// A warp per row. Grid: any number of blocks x 1.
template <class T>
struct normalise_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  const T* x;
  C epsilon, reciprocal;  // 1 / n
  T* y;
  C* rstd;
  std::int64_t rows, n;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t own = team.rank() % Team::warp * width, step = Team::warp * width;
    const bool aligned = rows_aligned<width>(x, n) && rows_aligned<width>(y, n);
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < rows; base += team.blocks() * at_once) {
      const std::int64_t row = base + team.rank() / Team::warp;
      const std::int64_t end = row < rows ? n : 0;  // warps without a row take part in the sums
      const T* const from = x + row * n;
      // Sums of differences to the first number: a large mean costs no digits.
      const C origin = end > 0 ? static_cast<C>(from[0]) : C{0};
      C sum = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const auto v = load_again<width>(from + i, aligned && count == width, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) sum += k < count ? static_cast<C>(v.v[k]) - origin : C{0};
      }
      const C mean = origin + warp_sum(team, sum) * reciprocal;
      C square = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const auto v = load_again<width>(from + i, aligned && count == width, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C d = k < count ? static_cast<C>(v.v[k]) - mean : C{0};
          square += d * d;
        }
      }
      const C scale = math::quotient(C{1}, math::sqrt(warp_sum(team, square) * reciprocal + epsilon));
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool whole = aligned && count == width;
        const auto v = load_part<width>(from + i, whole, count);
        element_group<T, width> r;
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) store(r.v[k], (static_cast<C>(v.v[k]) - mean) * scale);
        store_part<width>(y + row * n + i, r, whole, count);
      }
      if (rstd != nullptr && end > 0 && team.rank() % Team::warp == 0) rstd[row] = scale;
    }
  }
};

/// A warp per row. Grid: any number of blocks x 1.
template <bool accumulate, class T>
struct normalise_gradient_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  const T* y;
  const C* rstd;
  const T* dy;
  T* dx;
  C reciprocal;  // 1 / n
  std::int64_t rows, n;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t own = team.rank() % Team::warp * width, step = Team::warp * width;
    const bool aligned = rows_aligned<width>(y, n) && rows_aligned<width>(dy, n) && rows_aligned<width>(dx, n);
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < rows; base += team.blocks() * at_once) {
      const std::int64_t row = base + team.rank() / Team::warp;
      const std::int64_t end = row < rows ? n : 0;
      C sum = 0, along = 0;
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool whole = aligned && count == width;
        const auto v = load_again<width>(y + row * n + i, whole, count);
        const auto g = load_again<width>(dy + row * n + i, whole, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {  // what is not there was read as zero
          sum += static_cast<C>(g.v[k]);
          along += static_cast<C>(g.v[k]) * static_cast<C>(v.v[k]);
        }
      }
      sum = warp_sum(team, sum) * reciprocal;
      along = warp_sum(team, along) * reciprocal;
      const C scale = end > 0 ? rstd[row] : C{0};
      for (std::int64_t i = own; i < end; i += step) {
        const int count = n - i < width ? static_cast<int>(n - i) : width;
        const bool whole = aligned && count == width;
        const auto v = load_part<width>(y + row * n + i, whole, count);
        const auto g = load_part<width>(dy + row * n + i, whole, count);
        element_group<T, width> r;
        if constexpr (accumulate) r = load_part<width>(static_cast<const T*>(dx) + row * n + i, whole, count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C value = scale * (static_cast<C>(g.v[k]) - sum - static_cast<C>(v.v[k]) * along);
          store(r.v[k], accumulate ? static_cast<C>(r.v[k]) + value : value);
        }
        store_part<width>(dx + row * n + i, r, whole, count);
      }
    }
  }
};

}  // namespace detail

/// y = x (1 + scale) + shift for x [batch, ..., c], scale and shift [batch or 1, c].
template <TeamDevice D, StorageScalar T>
void modulate_forward(const D& dev, view<const T, D> x, view<const T, D> scale, view<const T, D> shift, view<T, D> y) {
  detail::modulate_rows<D, T>(dev, x.extents(), scale.extents(), x.data(), nullptr, scale.data(), shift.data(), 1,
                              y.data());
}

/// dx (+)= dy (plus + factor) for dy [batch, ..., c] and factor [batch or 1, c].
template <TeamDevice D, StorageScalar T>
void modulate_input_gradient(const D& dev, view<const T, D> dy, view<const T, D> factor, compute_type<T> plus,
                             view<T, D> dx, bool accumulate) {
  detail::modulate_rows<D, T>(dev, dy.extents(), factor.extents(), dy.data(), accumulate ? dx.data() : nullptr,
                              factor.data(), nullptr, plus, dx.data());
}

/// dfactor[batch or 1, c] (+)= the sums of dy x over everything between batch and channels (and over the batch where
/// dfactor has one row); of dy alone where x has no data. In two stages of a fixed order.
template <TeamDevice D, StorageScalar T>
void modulate_factor_gradient(const D& dev, view<const T, D> dy, view<const T, D> x, view<T, D> dfactor,
                              bool accumulate) {
  using C = compute_type<T>;
  const detail::modulated_rows m(dy.extents(), dfactor.extents());
  const auto cut = detail::sum_tiles<T>(m.samples, m.rows, m.columns);
  if (cut.slices == 1) {
    launch(dev, detail::product_sum_body<T, T>{cut, dy.data(), x.data(), dfactor.data(), accumulate}, cut.blocks(),
           m.samples);
    return;
  }
  const auto bytes = static_cast<std::size_t>(m.samples * cut.slices * m.columns) * sizeof(C);
  C* const partial = static_cast<C*>(device_scratch(dev, bytes, 0));
  launch(dev, detail::product_sum_body<T, C>{cut, dy.data(), x.data(), partial, false}, cut.blocks(), m.samples);
  detail::add_slices(dev, static_cast<const C*>(partial), m.samples, cut.slices, m.columns, dfactor.data(), accumulate);
}

/// y = x + gate h for x and h [batch, ..., c], gate [batch or 1, c].
template <TeamDevice D, StorageScalar T>
void gate_add_forward(const D& dev, view<const T, D> x, view<const T, D> h, view<const T, D> gate, view<T, D> y) {
  detail::modulate_rows<D, T>(dev, x.extents(), gate.extents(), h.data(), x.data(), gate.data(), nullptr, 0, y.data());
}

/// y = (x - mean) / sqrt(variance + epsilon) over rows of the last dimension; `rstd` gets the reciprocal root of each
/// row, if not null.
template <TeamDevice D, StorageScalar T>
void normalise_forward(const D& dev, view<const T, D> x, double epsilon, view<T, D> y, compute_type<T>* rstd) {
  using C = compute_type<T>;
  const std::int64_t n = y.extents()[-1], rows = n == 0 ? 0 : y.size() / n;
  if (rows == 0) return;
  launch(dev,
         detail::normalise_body<T>{x.data(), static_cast<C>(epsilon), static_cast<C>(1.0 / static_cast<double>(n)),
                                   y.data(), rstd, rows, n},
         blocks_for(rows, 8, 65536), 1);
}

/// dx (+)= d normalise / dx, from its result y and each row's rstd.
template <TeamDevice D, StorageScalar T>
void normalise_backward(const D& dev, view<const T, D> y, const compute_type<T>* rstd, view<const T, D> dy,
                        view<T, D> dx, bool accumulate) {
  using C = compute_type<T>;
  const std::int64_t n = dy.extents()[-1], rows = n == 0 ? 0 : dy.size() / n;
  if (rows == 0) return;
  const C reciprocal = static_cast<C>(1.0 / static_cast<double>(n));
  const std::int64_t blocks = blocks_for(rows, 8, 65536);
  if (accumulate) {
    launch(dev, detail::normalise_gradient_body<true, T>{y.data(), rstd, dy.data(), dx.data(), reciprocal, rows, n},
           blocks, 1);
  } else {
    launch(dev, detail::normalise_gradient_body<false, T>{y.data(), rstd, dy.data(), dx.data(), reciprocal, rows, n},
           blocks, 1);
  }
}

}  // namespace boot::inline v0
