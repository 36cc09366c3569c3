// SPDX-License-Identifier: MIT
/// Group norm, with SiLU and a scale and shift fused, on any TeamDevice.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/team/operations.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// How a sample [pixels, channels] is cut: neighbouring pixels are put side by side into a line of at most 256 numbers
/// where channels are few, so that every thread has a lane of its own, and with it one channel; lines are dealt to slices.
struct norm_lanes {
  std::int64_t batch, pixels, channels, groups;
  std::int64_t together;  ///< pixels of a line
  std::int64_t lines;     ///< of a sample
  std::int64_t slices;    ///< of a sample's lines: line l belongs to slice l modulo slices

  norm_lanes(const shape& x, std::int64_t group_count)
      : batch(x.batch()),
        pixels(x.sample_size() / x[-1]),
        channels(x[-1]),
        groups(group_count),
        together(1),
        lines(pixels),
        slices(1) {
    while (2 * together * channels <= 256 && pixels % (2 * together) == 0) together *= 2;
    lines = pixels / together;
    slices = blocks_for(lines, 16, 64);
  }
  [[nodiscard]] BOOT_HD std::int64_t lanes() const noexcept { return together * channels; }
  /// Lines of a slice.
  [[nodiscard]] BOOT_HD std::int64_t count(std::int64_t slice) const noexcept {
    return (lines - slice + slices - 1) / slices;
  }
  [[nodiscard]] std::int64_t lane_blocks() const noexcept { return (lanes() + 255) / 256; }
};

/// Operands of both directions. `saved` holds mean and reciprocal deviation of every sample and group.
template <class T>
struct norm_operands {
  const T *x, *weight, *bias, *scale_shift;
  bool shared_scale;
  norm_lanes cut;

  using C = compute_type<T>;
  /// 1 + scale of a channel.
  [[nodiscard]] BOOT_HD C factor(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? C{1} : C{1} + static_cast<C>(row(sample)[c]);
  }
  [[nodiscard]] BOOT_HD C shift(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? C{0} : static_cast<C>(row(sample)[cut.channels + c]);
  }
  [[nodiscard]] BOOT_HD C offset(std::int64_t c) const { return bias == nullptr ? C{0} : static_cast<C>(bias[c]); }

 private:
  [[nodiscard]] BOOT_HD const T* row(std::int64_t sample) const {
    return scale_shift + (shared_scale ? 0 : sample * 2 * cut.channels);
  }
};

/// partial[sample, slice, 0 and 1, lane]: mean and sum of squared deviations of a lane's numbers. The sums are taken of
/// differences to the lane's first number, so that a large mean costs no digits. Grid: lane blocks x batch slices.
template <class T>
struct norm_statistics_body {
  const T* x;
  norm_lanes cut;
  compute_type<T>* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t sample = team.sample() / cut.slices, slice = team.sample() % cut.slices, lanes = cut.lanes();
    const T* const from = x + sample * cut.pixels * cut.channels;
    C* const to = partial + team.sample() * 2 * lanes;
    for (std::int64_t j = team.block() * Team::size + team.rank(); j < lanes; j += team.blocks() * Team::size) {
      const C origin = static_cast<C>(from[slice * lanes + j]);
      C sum = 0, square = 0;
      for (std::int64_t l = slice; l < cut.lines; l += cut.slices) {
        const C d = static_cast<C>(from[l * lanes + j]) - origin;
        sum += d;
        square += d * d;
      }
      const C count = static_cast<C>(cut.count(slice));
      to[j] = origin + sum / count;
      to[lanes + j] = square - sum * sum / count;
    }
  }
};

/// saved[sample, group] = mean and reciprocal deviation out of the lanes' (Chan et al. 1983). Grid: 1 x batch groups.
template <class T>
struct norm_finish_body {
  norm_lanes cut;
  const compute_type<T>* partial;
  compute_type<T> epsilon;
  T* saved;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t sample = team.sample() / cut.groups, group = team.sample() % cut.groups;
    const std::int64_t width = cut.channels / cut.groups, lanes = cut.lanes(), mine = width * cut.together;
    const C* const from = partial + sample * cut.slices * 2 * lanes;
    const C total = static_cast<C>(cut.pixels) * static_cast<C>(width);
    const auto lane = [&](std::int64_t k) { return k / width * cut.channels + group * width + k % width; };
    const C origin = from[lane(0)];
    C sum = 0;
    for (std::int64_t s = 0; s < cut.slices; ++s)
      for (std::int64_t k = team.rank(); k < mine; k += Team::size)
        sum += static_cast<C>(cut.count(s)) * (from[2 * s * lanes + lane(k)] - origin);
    const C mean = origin + team_sum_everywhere(team, sum) / total;
    C square = 0;
    for (std::int64_t s = 0; s < cut.slices; ++s)
      for (std::int64_t k = team.rank(); k < mine; k += Team::size) {
        const C d = from[2 * s * lanes + lane(k)] - mean;
        square += from[(2 * s + 1) * lanes + lane(k)] + static_cast<C>(cut.count(s)) * d * d;
      }
    square = team_sum_everywhere(team, square);
    if (team.rank() != 0) return;
    store(saved[2 * team.sample()], mean);
    store(saved[2 * team.sample() + 1], C{1} / math::sqrt(square / total + epsilon));
  }
};

/// y = f((x - mean) slope + offset). Grid: lane blocks x batch slices.
template <bool with_silu, class T>
struct norm_apply_body {
  norm_operands<T> p;
  const T* saved;
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const norm_lanes& cut = p.cut;
    const std::int64_t sample = team.sample() / cut.slices, slice = team.sample() % cut.slices, lanes = cut.lanes();
    const std::int64_t base = sample * cut.pixels * cut.channels, width = cut.channels / cut.groups;
    for (std::int64_t j = team.block() * Team::size + team.rank(); j < lanes; j += team.blocks() * Team::size) {
      const std::int64_t c = j % cut.channels;
      const T* const s = saved + 2 * (sample * cut.groups + c / width);
      const C factor = p.factor(sample, c), mean = static_cast<C>(s[0]);
      const C slope = static_cast<C>(s[1]) * static_cast<C>(p.weight[c]) * factor;
      const C offset = p.offset(c) * factor + p.shift(sample, c);
      for (std::int64_t l = slice; l < cut.lines; l += cut.slices) {
        const C z = (static_cast<C>(p.x[base + l * lanes + j]) - mean) * slope + offset;
        store(y[base + l * lanes + j], with_silu ? math::silu(z) : z);
      }
    }
  }
};

/// A lane's numbers of the backward pass: dz = dy f'(z).
template <bool with_silu, class T>
struct norm_lane_gradient {
  using C = compute_type<T>;
  C mean, rstd, slope, offset;

  BOOT_HD norm_lane_gradient(const norm_operands<T>& p, const T* saved, std::int64_t sample, std::int64_t c) {
    const std::int64_t width = p.cut.channels / p.cut.groups;
    const T* const s = saved + 2 * (sample * p.cut.groups + c / width);
    const C factor = p.factor(sample, c);
    mean = static_cast<C>(s[0]);
    rstd = static_cast<C>(s[1]);
    slope = rstd * static_cast<C>(p.weight[c]) * factor;
    offset = p.offset(c) * factor + p.shift(sample, c);
  }
  [[nodiscard]] BOOT_HD C operator()(C x, C dy) const {
    return with_silu ? dy * math::silu_derivative((x - mean) * slope + offset) : dy;
  }
};

/// partial[sample, slice, 0 and 1, lane] = sums of dz and of dz (x - mean) rstd. Grid: lane blocks x batch slices.
template <bool with_silu, class T>
struct norm_gradient_sums_body {
  norm_operands<T> p;
  const T *saved, *dy;
  compute_type<T>* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const norm_lanes& cut = p.cut;
    const std::int64_t sample = team.sample() / cut.slices, slice = team.sample() % cut.slices, lanes = cut.lanes();
    const std::int64_t base = sample * cut.pixels * cut.channels;
    C* const to = partial + team.sample() * 2 * lanes;
    for (std::int64_t j = team.block() * Team::size + team.rank(); j < lanes; j += team.blocks() * Team::size) {
      const norm_lane_gradient<with_silu, T> k(p, saved, sample, j % cut.channels);
      C sum = 0, along = 0;
      for (std::int64_t l = slice; l < cut.lines; l += cut.slices) {
        const std::int64_t at = base + l * lanes + j;
        const C x = static_cast<C>(p.x[at]), dz = k(x, static_cast<C>(dy[at]));
        sum += dz;
        along += dz * (x - k.mean);
      }
      to[j] = sum;
      to[lanes + j] = along * k.rstd;
    }
  }
};

/// sums[sample, 0 and 1, channel] out of the lanes'. Grid: blocks of channels x batch.
template <class C>
struct norm_channel_sums_body {
  norm_lanes cut;
  const C* partial;
  C* sums;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const std::int64_t lanes = cut.lanes(), sample = team.sample();
    for (std::int64_t c = team.block() * Team::size + team.rank(); c < cut.channels; c += team.blocks() * Team::size) {
      C sum = 0, along = 0;
      for (std::int64_t s = 0; s < cut.slices; ++s) {
        const C* const from = partial + (sample * cut.slices + s) * 2 * lanes;
        for (std::int64_t j = c; j < lanes; j += cut.channels) {
          sum += from[j];
          along += from[lanes + j];
        }
      }
      sums[sample * 2 * cut.channels + c] = sum;
      sums[(sample * 2 + 1) * cut.channels + c] = along;
    }
  }
};

/// means[sample, group] = means over the group of dz slope and of dz slope (x - mean) rstd. Grid: 1 x batch groups.
template <class T>
struct norm_group_means_body {
  norm_operands<T> p;
  const T* saved;
  const compute_type<T>* sums;
  compute_type<T>* means;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const norm_lanes& cut = p.cut;
    const std::int64_t sample = team.sample() / cut.groups, group = team.sample() % cut.groups;
    const std::int64_t width = cut.channels / cut.groups;
    const C rstd = static_cast<C>(saved[2 * team.sample() + 1]);
    C sum = 0, along = 0;
    for (std::int64_t k = team.rank(); k < width; k += Team::size) {
      const std::int64_t c = group * width + k;
      const C slope = rstd * static_cast<C>(p.weight[c]) * p.factor(sample, c);
      sum += slope * sums[sample * 2 * cut.channels + c];
      along += slope * sums[(sample * 2 + 1) * cut.channels + c];
    }
    sum = team_sum(team, sum);
    along = team_sum(team, along);
    if (team.rank() != 0) return;
    const C total = static_cast<C>(cut.pixels) * static_cast<C>(width);
    means[2 * team.sample()] = sum / total;
    means[2 * team.sample() + 1] = along / total;
  }
};

/// dx (+)= dz slope - means. Grid: lane blocks x batch slices.
template <bool with_silu, bool accumulate, class T>
struct norm_input_gradient_body {
  norm_operands<T> p;
  const T *saved, *dy;
  const compute_type<T>* means;
  T* dx;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const norm_lanes& cut = p.cut;
    const std::int64_t sample = team.sample() / cut.slices, slice = team.sample() % cut.slices, lanes = cut.lanes();
    const std::int64_t base = sample * cut.pixels * cut.channels, width = cut.channels / cut.groups;
    for (std::int64_t j = team.block() * Team::size + team.rank(); j < lanes; j += team.blocks() * Team::size) {
      const std::int64_t c = j % cut.channels;
      const norm_lane_gradient<with_silu, T> k(p, saved, sample, c);
      const C* const mean = means + 2 * (sample * cut.groups + c / width);
      const C level = mean[0], tilt = mean[1] * k.rstd;
      for (std::int64_t l = slice; l < cut.lines; l += cut.slices) {
        const std::int64_t at = base + l * lanes + j;
        const C x = static_cast<C>(p.x[at]), dz = k(x, static_cast<C>(dy[at]));
        const C d = dz * k.slope - level - (x - k.mean) * tilt;
        store(dx[at], accumulate ? static_cast<C>(dx[at]) + d : d);
      }
    }
  }
};

/// dweight, dbias (over all samples, in order), dscale and dshift (per sample, or over all where they are shared); null
/// where not wanted. Grid: blocks of channels x 1.
template <class T>
struct norm_parameters_body {
  norm_operands<T> p;
  const compute_type<T>* sums;
  T *dweight, *dbias, *dscale_shift;
  bool add_weight, add_bias, add_scale_shift;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const std::int64_t channels = p.cut.channels;
    for (std::int64_t c = team.block() * Team::size + team.rank(); c < channels; c += team.blocks() * Team::size) {
      C weight = 0, bias = 0, scale = 0, shift = 0;
      for (std::int64_t n = 0; n < p.cut.batch; ++n) {
        const C sum = sums[n * 2 * channels + c], along = sums[(n * 2 + 1) * channels + c], factor = p.factor(n, c);
        weight += along * factor;
        bias += sum * factor;
        if (dscale_shift == nullptr) continue;
        const C one = along * static_cast<C>(p.weight[c]) + sum * p.offset(c);
        scale += one;
        shift += sum;
        if (!p.shared_scale) {
          put(dscale_shift[n * 2 * channels + c], one, add_scale_shift);
          put(dscale_shift[(n * 2 + 1) * channels + c], sum, add_scale_shift);
        }
      }
      if (dweight != nullptr) put(dweight[c], weight, add_weight);
      if (dbias != nullptr) put(dbias[c], bias, add_bias);
      if (dscale_shift != nullptr && p.shared_scale) {
        put(dscale_shift[c], scale, add_scale_shift);
        put(dscale_shift[channels + c], shift, add_scale_shift);
      }
    }
  }

 private:
  BOOT_HD static void put(T& to, compute_type<T> value, bool add) {
    store(to, add ? static_cast<compute_type<T>>(to) + value : value);
  }
};

template <bool with_silu, class D, class T>
void launch_norm_gradient(const D& dev, const norm_operands<T>& p, const T* saved, const T* dy,
                          const std::array<T*, 4>& gradient, const std::array<bool, 4>& accumulate) {
  using C = compute_type<T>;
  const norm_lanes& cut = p.cut;
  const std::int64_t units = cut.batch * cut.slices;
  const auto numbers = [&](std::int64_t n, int slot) {
    return static_cast<C*>(device_scratch(dev, static_cast<std::size_t>(n) * sizeof(C), slot));
  };
  C* const partial = numbers(units * 2 * cut.lanes(), 0);
  C* const sums = numbers(cut.batch * 2 * cut.channels, 1);
  C* const means = numbers(cut.batch * 2 * cut.groups, 2);
  launch(dev, norm_gradient_sums_body<with_silu, T>{p, saved, dy, partial}, cut.lane_blocks(), units);
  launch(dev, norm_channel_sums_body<C>{cut, partial, sums}, blocks_for(cut.channels, 256), cut.batch);
  if (gradient[0] != nullptr) {
    launch(dev, norm_group_means_body<T>{p, saved, sums, means}, 1, cut.batch * cut.groups);
    if (accumulate[0]) {
      launch(dev, norm_input_gradient_body<with_silu, true, T>{p, saved, dy, means, gradient[0]}, cut.lane_blocks(),
             units);
    } else {
      launch(dev, norm_input_gradient_body<with_silu, false, T>{p, saved, dy, means, gradient[0]}, cut.lane_blocks(),
             units);
    }
  }
  if (gradient[1] == nullptr && gradient[2] == nullptr && gradient[3] == nullptr) return;
  launch(dev,
         norm_parameters_body<T>{p, sums, gradient[1], gradient[2], gradient[3], accumulate[1], accumulate[2],
                                 accumulate[3]},
         blocks_for(cut.channels, 256), 1);
}

}  // namespace detail

/// y = f((x - mean) rstd weight + bias) over `groups` groups of x's channels, f SiLU or the identity; a `scale_shift`
/// that is not empty [batch or 1, 2 channels] multiplies by 1 + scale and adds shift before f. `saved` gets mean and
/// rstd of each sample and group, if not null. Statistics are merged from lanes, each with an origin of its own.
template <TeamDevice D, StorageScalar T>
void group_norm_forward(const D& dev, view<const T, D> x, const T* weight, const T* bias, view<const T, D> scale_shift,
                        std::int64_t groups, double epsilon, bool with_silu, view<T, D> y, T* saved) {
  using C = compute_type<T>;
  const detail::norm_lanes cut(x.extents(), groups);
  const std::int64_t units = cut.batch * cut.slices;
  const detail::norm_operands<T> p{x.data(), weight, bias, scale_shift.data(), scale_shift.batch() == 1, cut};
  auto* const partial =
      static_cast<C*>(device_scratch(dev, static_cast<std::size_t>(units * 2 * cut.lanes()) * sizeof(C), 0));
  if (saved == nullptr)
    saved = static_cast<T*>(device_scratch(dev, static_cast<std::size_t>(2 * cut.batch * groups) * sizeof(T), 1));
  launch(dev, detail::norm_statistics_body<T>{x.data(), cut, partial}, cut.lane_blocks(), units);
  launch(dev, detail::norm_finish_body<T>{cut, partial, static_cast<C>(epsilon), saved}, 1, cut.batch * groups);
  if (with_silu) {
    launch(dev, detail::norm_apply_body<true, T>{p, saved, y.data()}, cut.lane_blocks(), units);
  } else {
    launch(dev, detail::norm_apply_body<false, T>{p, saved, y.data()}, cut.lane_blocks(), units);
  }
}

/// Gradients of x, weight, bias and scale_shift, in this order, each written or added to; an empty view is left out.
/// `bias` may be null where neither SiLU nor a scale was fused.
template <TeamDevice D, StorageScalar T, std::size_t operands>
void group_norm_backward(const D& dev, view<const T, D> x, const T* weight, const T* bias, view<const T, D> scale_shift,
                         std::int64_t groups, bool with_silu, const T* saved, view<const T, D> dy,
                         const std::array<view<T, D>, operands>& gradient,
                         const std::array<bool, operands>& accumulate) {
  static_assert(operands == 4);
  const detail::norm_lanes cut(x.extents(), groups);
  const detail::norm_operands<T> p{x.data(), weight, bias, scale_shift.data(), scale_shift.batch() == 1, cut};
  const std::array<T*, 4> to{gradient[0].data(), gradient[1].data(), gradient[2].data(), gradient[3].data()};
  if (with_silu) {
    detail::launch_norm_gradient<true>(dev, p, saved, dy.data(), to, accumulate);
  } else {
    detail::launch_norm_gradient<false>(dev, p, saved, dy.data(), to, accumulate);
  }
}

}  // namespace boot::inline v0
