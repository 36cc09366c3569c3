// SPDX-License-Identifier: MIT
/// Group norm, with SiLU and a scale and shift fused, on any TeamDevice.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/team/group_norm_parts.hpp>
#include <boot/nn/team/group_norm_slab.hpp>
#include <boot/nn/team/operations.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// partial[sample, slice, 0 and 1, channel]: mean and sum of squared deviations of a channel's numbers. The sums are
/// taken of differences to the slice's first number, so that a large mean costs no digits. Grid: cut.blocks() x batch.
template <class T>
struct norm_statistics_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  static constexpr std::size_t shared_bytes = 256 * width * sizeof(C);
  row_tiles<width> cut;
  const T* x;
  C* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place p = place_in(team, cut);
    const std::int64_t n = cut.columns, begin = p.slice * cut.per_slice;
    const T* const from = x + team.sample() * cut.rows * n + p.column;
    const bool whole = p.count == width && rows_aligned<width>(from, n);
    C origin[width] = {}, sum[width] = {}, square[width] = {};
    if (p.count > 0) {
      const auto o = load_again<width>(from + begin * n, whole, p.count);
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) origin[k] = static_cast<C>(o.v[k]);
      const auto add = [&](const element_group<T, width>& v) {
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C d = static_cast<C>(v.v[k]) - origin[k];
          sum[k] += d;
          square[k] = math::fma(d, d, square[k]);
        }
      };
      constexpr int ahead = width > 4 ? 2 : 4;  // loads under way; more would not fit
      std::int64_t r = p.row;
      BOOT_NO_UNROLL
      for (; r + (ahead - 1) * p.step < p.end; r += ahead * p.step) {
        element_group<T, width> v[ahead];
        BOOT_UNROLL
        for (int i = 0; i < ahead; ++i) v[i] = load_again<width>(from + (r + i * p.step) * n, whole, p.count);
        BOOT_UNROLL
        for (int i = 0; i < ahead; ++i) add(v[i]);
      }
      BOOT_NO_UNROLL
      for (; r < p.end; r += p.step) add(load_again<width>(from + r * n, whole, p.count));
    }
    sum_lines(team, cut.shift, sum);
    sum_lines(team, cut.shift, square);
    if (p.line != 0) return;
    C* const to = partial + (team.sample() * cut.slices + p.slice) * 2 * n + p.column;
    const C share = math::quotient(C{1}, static_cast<C>(p.end - begin));
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      if (k >= p.count) break;
      to[k] = origin[k] + sum[k] * share;
      to[n + k] = square[k] - sum[k] * sum[k] * share;
    }
  }
};

/// saved[sample, group] = mean and reciprocal deviation out of the channels' (Chan et al. 1983). A warp per sample and
/// group. Grid: any number of blocks x 1.
template <class T>
struct norm_finish_body {
  using C = compute_type<T>;
  std::int64_t all, groups, channels, rows, per_slice, slices;  // all: samples x groups
  const C* partial;
  C epsilon;
  C* saved;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t width = short_quotient(channels, groups);
    const C share = math::quotient(C{1}, static_cast<C>(rows) * static_cast<C>(width));
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < all; base += team.blocks() * at_once) {
      const std::int64_t at = base + team.rank() / Team::warp, own = at < all ? at : 0;
      const std::int64_t sample = short_quotient(own, groups), first = (own - sample * groups) * width;
      const C* const from = partial + sample * slices * 2 * channels + first;
      const std::int64_t end = at < all ? slices * width : 0;  // warps without a group take part in the sums
      const C origin = from[0];
      C sum = 0;
      for (std::int64_t k = team.rank() % Team::warp; k < end; k += Team::warp) {
        const std::int64_t s = short_quotient(k, width);
        sum += count(s) * (from[s * 2 * channels + (k - s * width)] - origin);
      }
      const C mean = origin + warp_sum(team, sum) * share;
      C square = 0;
      for (std::int64_t k = team.rank() % Team::warp; k < end; k += Team::warp) {
        const std::int64_t s = short_quotient(k, width);
        const C* const it = from + s * 2 * channels + (k - s * width);
        const C d = it[0] - mean;
        square += it[channels] + count(s) * d * d;
      }
      square = warp_sum(team, square) * share + epsilon;
      if (at >= all || team.rank() % Team::warp != 0) continue;
      saved[2 * at] = mean;
      saved[2 * at + 1] = math::quotient(C{1}, math::sqrt(square));
    }
  }

 private:
  BOOT_HD C count(std::int64_t slice) const {
    const std::int64_t left = rows - slice * per_slice;
    return static_cast<C>(left < per_slice ? left : per_slice);
  }
};

/// y = f((x - mean) slope + offset). Grid: cut.blocks() x batch.
template <bool with_silu, class T>
struct norm_apply_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  norm_operands<T> p;
  const C* saved;
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const row_place at = place_in(team, cut);
    if (at.count == 0) return;
    const std::int64_t n = cut.columns, start = team.sample() * cut.rows * n + at.column;
    const bool whole = at.count == width && rows_aligned<width>(p.x, n) && rows_aligned<width>(y, n);
    const norm_columns<width, C> own(p, saved, team.sample(), at.column, at.count);
    BOOT_NO_UNROLL
    for (std::int64_t r = at.row; r < at.end; r += at.step) {
      const auto v = load_part<width>(p.x + start + r * n, whole, at.count);
      element_group<T, width> q;
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        const C z = own.z(k, static_cast<C>(v.v[k]));
        store(q.v[k], with_silu ? norm_silu(z) : z);
      }
      store_part<width>(y + start + r * n, q, whole, at.count);
    }
  }
};

/// partial[sample, slice, 0 and 1, channel] = sums of dz and of dz (x - mean) rstd. Grid: cut.blocks() x batch.
template <bool with_silu, class T>
struct norm_gradient_sums_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  static constexpr std::size_t shared_bytes = 256 * width * sizeof(C);
  static constexpr launch_tuning tuning{256, sizeof(T) == 2 ? 2 : 4};
  row_tiles<width> cut;
  norm_operands<T> p;
  const C* saved;
  const T* dy;
  C* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place at = place_in(team, cut);
    const std::int64_t n = cut.columns, start = team.sample() * cut.rows * n + at.column;
    const bool whole = at.count == width && rows_aligned<width>(p.x, n) && rows_aligned<width>(dy, n);
    const norm_columns<width, C> own(p, saved, team.sample(), at.column, at.count);
    C sum[width] = {}, along[width] = {};
    if (at.count > 0) {
      BOOT_NO_UNROLL
      for (std::int64_t r = at.row; r < at.end; r += at.step) {
        const auto v = load_again<width>(p.x + start + r * n, whole, at.count);
        const auto g = load_again<width>(dy + start + r * n, whole, at.count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C x = static_cast<C>(v.v[k]), d = own.template dz<with_silu>(k, x, static_cast<C>(g.v[k]));
          sum[k] += d;
          along[k] = math::fma(d, x - own.mean[k], along[k]);
        }
      }
    }
    sum_lines(team, cut.shift, sum);
    sum_lines(team, cut.shift, along);
    if (at.line != 0) return;
    C* const to = partial + (team.sample() * cut.slices + at.slice) * 2 * n + at.column;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      if (k >= at.count) break;
      to[k] = sum[k];
      to[n + k] = along[k] * saved[2 * p.group_of(team.sample(), at.column + k) + 1];
    }
  }
};

/// means[sample, group] = means over the group of dz slope and of dz slope (x - mean) rstd. A warp per sample and group.
/// Grid: any number of blocks x 1.
template <class T>
struct norm_group_means_body {
  using C = compute_type<T>;
  norm_operands<T> p;
  const C *saved, *sums;
  C* means;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    constexpr int at_once = Team::size / Team::warp;
    const std::int64_t width = p.group_width, all = p.batch * p.groups;
    const C share = math::quotient(C{1}, static_cast<C>(p.pixels) * static_cast<C>(width));
    BOOT_NO_UNROLL
    for (std::int64_t base = team.block() * at_once; base < all; base += team.blocks() * at_once) {
      const std::int64_t at = base + team.rank() / Team::warp, own = at < all ? at : 0;
      const std::int64_t sample = short_quotient(own, p.groups), first = (own - sample * p.groups) * width;
      const std::int64_t end = at < all ? width : 0;
      C sum = 0, along = 0;
      for (std::int64_t k = team.rank() % Team::warp; k < end; k += Team::warp) {
        const std::int64_t c = first + k;
        const C slope = p.weight[c] * p.factor(sample, c);
        sum = math::fma(slope, sums[sample * 2 * p.channels + c], sum);
        along = math::fma(slope, sums[(sample * 2 + 1) * p.channels + c], along);
      }
      const C scale = saved[2 * own + 1] * share;
      sum = warp_sum(team, sum) * scale;
      along = warp_sum(team, along) * scale;
      if (at >= all || team.rank() % Team::warp != 0) continue;
      means[2 * at] = sum;
      means[2 * at + 1] = along;
    }
  }
};

/// dx (+)= dz slope - means. Grid: cut.blocks() x batch.
template <bool with_silu, bool accumulate, class T>
struct norm_input_gradient_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  static constexpr launch_tuning tuning{256, sizeof(T) == 2 ? 2 : 4};
  row_tiles<width> cut;
  norm_operands<T> p;
  const C* saved;
  const T* dy;
  const C* means;
  T* dx;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const row_place at = place_in(team, cut);
    if (at.count == 0) return;
    const std::int64_t n = cut.columns, start = team.sample() * cut.rows * n + at.column;
    const bool whole =
        at.count == width && rows_aligned<width>(p.x, n) && rows_aligned<width>(dy, n) && group_aligned(dx);
    const norm_columns<width, C> own(p, saved, team.sample(), at.column, at.count);
    C level[width] = {}, tilt[width] = {};
    norm_walk walk(p, team.sample(), at.column);
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      if (k >= at.count) break;
      level[k] = means[2 * walk.group];
      tilt[k] = means[2 * walk.group + 1] * saved[2 * walk.group + 1];
      walk.next(p);
    }
    BOOT_NO_UNROLL
    for (std::int64_t r = at.row; r < at.end; r += at.step) {
      const auto v = load_part<width>(p.x + start + r * n, whole, at.count);
      const auto g = load_part<width>(dy + start + r * n, whole, at.count);
      element_group<T, width> q;
      if constexpr (accumulate) q = load_part<width>(static_cast<const T*>(dx) + start + r * n, whole, at.count);
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        const C x = static_cast<C>(v.v[k]), dz = own.template dz<with_silu>(k, x, static_cast<C>(g.v[k]));
        const C d = math::fma(dz, own.slope[k], -math::fma(x - own.mean[k], tilt[k], level[k]));
        store(q.v[k], accumulate ? static_cast<C>(q.v[k]) + d : d);
      }
      store_part<width>(dx + start + r * n, q, whole, at.count);
    }
  }
};

/// dweight, dbias (over all samples), dscale and dshift (per sample, or over all where they are shared); null where not
/// wanted. The threads of a block lie side by side over channels and behind one another over samples.
/// Grid: cut.blocks() x 1; the cut has one slice.
template <class T>
struct norm_parameters_body {
  using C = compute_type<T>;
  row_tiles<1> cut;  // of [batch, channels]
  norm_operands<T> p;
  const C* sums;
  C *dweight, *dbias;
  T* dscale_shift;
  bool add_weight, add_bias, add_scale_shift;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= 256, "boot: the scratch is for 256 threads");
    const row_place at = place_in(team, cut);
    const std::int64_t channels = p.channels, c = at.column;
    C weight[1] = {}, bias[1] = {}, scale[1] = {}, shift[1] = {};
    if (at.count > 0) {
      BOOT_NO_UNROLL
      for (std::int64_t n = at.row; n < at.end; n += at.step) {
        const C sum = sums[n * 2 * channels + c], along = sums[(n * 2 + 1) * channels + c], factor = p.factor(n, c);
        weight[0] = math::fma(along, factor, weight[0]);
        bias[0] = math::fma(sum, factor, bias[0]);
        if (dscale_shift == nullptr) continue;
        const C one = math::fma(along, p.weight[c], sum * p.offset(c));
        scale[0] += one;
        shift[0] += sum;
        if (!p.shared_scale) {
          put(dscale_shift[n * 2 * channels + c], one, add_scale_shift);
          put(dscale_shift[(n * 2 + 1) * channels + c], sum, add_scale_shift);
        }
      }
    }
    sum_lines(team, cut.shift, weight);
    sum_lines(team, cut.shift, bias);
    const bool shared = dscale_shift != nullptr && p.shared_scale;
    if (shared) sum_lines(team, cut.shift, scale);
    if (shared) sum_lines(team, cut.shift, shift);
    if (at.line != 0 || at.count == 0) return;
    if (dweight != nullptr) put(dweight[c], weight[0], add_weight);
    if (dbias != nullptr) put(dbias[c], bias[0], add_bias);
    if (shared) put(dscale_shift[c], scale[0], add_scale_shift);
    if (shared) put(dscale_shift[channels + c], shift[0], add_scale_shift);
  }

 private:
  template <class To>
  BOOT_HD static void put(To& to, C value, bool add) {
    store(to, add ? static_cast<C>(to) + value : value);
  }
};

template <bool with_silu, class D, class T>
void launch_norm(const D& dev, const norm_operands<T>& p, double epsilon, T* y, compute_type<T>* saved) {
  using C = compute_type<T>;
  const norm_slabs slabs(p.pixels, p.channels, p.group_width, group_size<T>());
  const C eps = static_cast<C>(epsilon), share = C{1} / static_cast<C>(p.pixels * p.group_width);
  if (slabs.threads == 128)
    return launch(dev, norm_slab_body<with_silu, 128, T>{slabs, p, share, eps, saved, y}, slabs.count, p.batch);
  if (slabs.threads == 512)
    return launch(dev, norm_slab_body<with_silu, 512, T>{slabs, p, share, eps, saved, y}, slabs.count, p.batch);
  const auto sum_cut = p.sum_cut(), cut = p.cut();
  const auto numbers = [&](std::int64_t n, int slot) {
    return static_cast<C*>(device_scratch(dev, static_cast<std::size_t>(n) * sizeof(C), slot));
  };
  C* const partial = numbers(p.batch * sum_cut.slices * 2 * p.channels, 0);
  if (saved == nullptr) saved = numbers(2 * p.batch * p.groups, 1);
  launch(dev, norm_statistics_body<T>{sum_cut, p.x, partial}, sum_cut.blocks(), p.batch);
  launch(dev,
         norm_finish_body<T>{p.batch * p.groups, p.groups, p.channels, p.pixels, sum_cut.per_slice, sum_cut.slices,
                             partial, eps, saved},
         blocks_for(p.batch * p.groups, 8, 65536), 1);
  launch(dev, norm_apply_body<with_silu, T>{cut, p, saved, y}, cut.blocks(), p.batch);
}

template <bool with_silu, class D, class T>
void launch_norm_gradient(const D& dev, const norm_operands<T>& p, const compute_type<T>* saved, const T* dy, T* dx,
                          compute_type<T>* dweight, compute_type<T>* dbias, T* dscale_shift,
                          const std::array<bool, 4>& accumulate) {
  using C = compute_type<T>;
  const auto sum_cut = p.sum_cut();
  const auto numbers = [&](std::int64_t n, int slot) {
    return static_cast<C*>(device_scratch(dev, static_cast<std::size_t>(n) * sizeof(C), slot));
  };
  C* const partial = numbers(p.batch * sum_cut.slices * 2 * p.channels, 0);
  launch(dev, norm_gradient_sums_body<with_silu, T>{sum_cut, p, saved, dy, partial}, sum_cut.blocks(), p.batch);
  C* sums = partial;
  if (sum_cut.slices > 1) {
    sums = numbers(p.batch * 2 * p.channels, 1);
    add_slices(dev, static_cast<const C*>(partial), p.batch, sum_cut.slices, 2 * p.channels, sums, false);
  }
  if (dx != nullptr) {
    const auto cut = p.cut();
    C* const means = numbers(p.batch * 2 * p.groups, 2);
    launch(dev, norm_group_means_body<T>{p, saved, sums, means}, blocks_for(p.batch * p.groups, 8, 65536), 1);
    if (accumulate[0]) {
      launch(dev, norm_input_gradient_body<with_silu, true, T>{cut, p, saved, dy, means, dx}, cut.blocks(), p.batch);
    } else {
      launch(dev, norm_input_gradient_body<with_silu, false, T>{cut, p, saved, dy, means, dx}, cut.blocks(), p.batch);
    }
  }
  if (dweight == nullptr && dbias == nullptr && dscale_shift == nullptr) return;
  const row_tiles<1> cut(p.batch, p.channels, 1, 1);
  launch(
      dev,
      norm_parameters_body<T>{cut, p, sums, dweight, dbias, dscale_shift, accumulate[1], accumulate[2], accumulate[3]},
      cut.blocks(), 1);
}

}  // namespace detail

/// y = f((x - mean) rstd weight + bias) over `groups` groups of x's channels, f SiLU or the identity; a `scale_shift`
/// that is not empty [batch or 1, 2 channels] multiplies by 1 + scale and adds shift before f. `saved` gets mean and
/// rstd of each sample and group, if not null. Where a slab of whole groups fits into a block's registers (8 x 8 to 32 x 32
/// pixels of the usual widths) x is read once and the variance taken about the mean; elsewhere statistics are merged from
/// slices of channels, each with an origin of its own.
template <TeamDevice D, StorageScalar T>
void group_norm_forward(const D& dev, view<const T, D> x, const compute_type<T>* weight, const compute_type<T>* bias,
                        view<const T, D> scale_shift, std::int64_t groups, double epsilon, bool with_silu, view<T, D> y,
                        compute_type<T>* saved) {
  if (x.size() == 0) return;
  const detail::norm_operands<T> p(x.extents(), x.data(), weight, bias, scale_shift.data(), scale_shift.batch() == 1,
                                   groups);
  if (with_silu) {
    detail::launch_norm<true>(dev, p, epsilon, y.data(), saved);
  } else {
    detail::launch_norm<false>(dev, p, epsilon, y.data(), saved);
  }
}

/// Gradients of x, weight, bias and scale_shift, in this order, each written or added to; what has no data is left out.
/// `bias` may be null where neither SiLU nor a scale was fused.
template <TeamDevice D, StorageScalar T>
void group_norm_backward(const D& dev, view<const T, D> x, const compute_type<T>* weight, const compute_type<T>* bias,
                         view<const T, D> scale_shift, std::int64_t groups, bool with_silu,
                         const compute_type<T>* saved, view<const T, D> dy, view<T, D> dx, compute_type<T>* dweight,
                         compute_type<T>* dbias, view<T, D> dscale_shift, const std::array<bool, 4>& accumulate) {
  const detail::norm_operands<T> p(x.extents(), x.data(), weight, bias, scale_shift.data(), scale_shift.batch() == 1,
                                   groups);
  if (with_silu) {
    detail::launch_norm_gradient<true>(dev, p, saved, dy.data(), dx.data(), dweight, dbias, dscale_shift.data(),
                                       accumulate);
  } else {
    detail::launch_norm_gradient<false>(dev, p, saved, dy.data(), dx.data(), dweight, dbias, dscale_shift.data(),
                                        accumulate);
  }
}

}  // namespace boot::inline v0
