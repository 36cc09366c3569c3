// SPDX-License-Identifier: MIT
/// Host loops of group norm: sums over slices of positions, added in order, then one pass over the numbers.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/cpu/activations.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Runs a pass over the slices, a step per sample and a second pass. With many samples a thread takes whole samples,
/// which then stay in its cache from pass to pass; the sums are the same either way.
template <class First, class Between, class Second>
void norm_passes(const cpu& dev, const channel_slices& cut, const First& first, const Between& between,
                 const Second& second) {
  const cpu team = cut.team(dev);
  if (cut.batch >= 32) {
    parallel_for(team, cut.batch, [&](std::int64_t sample) {
      for (std::int64_t u = sample * cut.count; u < (sample + 1) * cut.count; ++u) first(u);
      between(sample);
      for (std::int64_t u = sample * cut.count; u < (sample + 1) * cut.count; ++u) second(u);
    });
  } else {
    parallel_for(team, cut.units(), first);
    parallel_for(team, cut.batch, between);
    parallel_for(team, cut.units(), second);
  }
}

/// Per number of a line: z = (x - mean) slope + offset, with weight, bias, scale and shift multiplied out.
template <class T>
struct norm_line {
  T *mean, *slope, *offset;
};

// sum += x - shift and square += (x - shift)^2 per lane, over lines `stride` apart; four lines per load of the sums.
template <class T>
void norm_statistics(const T* from, std::int64_t stride, std::int64_t lines, std::int64_t width,
                     const double* BOOT_RESTRICT shift, double* BOOT_RESTRICT sum, double* BOOT_RESTRICT square) {
  std::int64_t line = 0;
  for (; line + 4 <= lines; line += 4) {
    const T* BOOT_RESTRICT p = from + line * stride;
    const T* BOOT_RESTRICT q = p + stride;
    const T* BOOT_RESTRICT r = q + stride;
    const T* BOOT_RESTRICT s = r + stride;
    BOOT_SIMD
    for (std::int64_t i = 0; i < width; ++i) {
      const double a = static_cast<double>(p[i]) - shift[i], b = static_cast<double>(q[i]) - shift[i];
      const double c = static_cast<double>(r[i]) - shift[i], d = static_cast<double>(s[i]) - shift[i];
      sum[i] += (a + b) + (c + d);
      square[i] += (a * a + b * b) + (c * c + d * d);
    }
  }
  for (; line < lines; ++line) {
    const T* BOOT_RESTRICT p = from + line * stride;
    BOOT_SIMD
    for (std::int64_t i = 0; i < width; ++i) {
      const double a = static_cast<double>(p[i]) - shift[i];
      sum[i] += a;
      square[i] += a * a;
    }
  }
}

template <bool with_silu, class T>
void norm_apply(const T* BOOT_RESTRICT x, const norm_line<T>& k, T* BOOT_RESTRICT y, std::int64_t n) {
  const T* BOOT_RESTRICT mean = k.mean;
  const T* BOOT_RESTRICT slope = k.slope;
  const T* BOOT_RESTRICT offset = k.offset;
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) {
    const T z = math::fma(x[i] - mean[i], slope[i], offset[i]);
    y[i] = with_silu ? math::silu(z) : z;
  }
}

// dL/dz of one number whose distance from its mean is `d`.
template <bool with_silu, class T>
BOOT_FORCE_INLINE T norm_slope(T d, T slope, T offset, T dy) noexcept {
  return with_silu ? dy * math::silu_derivative(math::fma(d, slope, offset)) : dy;
}

// sum += dz and along += dz (x - mean) per lane; `kept` gets dz if asked for.
template <bool with_silu, bool keep, class T>
void norm_gradient_sums(const T* BOOT_RESTRICT x, const T* BOOT_RESTRICT dy, const norm_line<T>& k,
                        T* BOOT_RESTRICT sum, T* BOOT_RESTRICT along, T* BOOT_RESTRICT kept, std::int64_t n) {
  const T* BOOT_RESTRICT mean = k.mean;
  const T* BOOT_RESTRICT slope = k.slope;
  const T* BOOT_RESTRICT offset = k.offset;
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) {
    const T d = x[i] - mean[i];
    const T dz = norm_slope<with_silu>(d, slope[i], offset[i], dy[i]);
    sum[i] += dz;
    along[i] = math::fma(dz, d, along[i]);
    if (keep) kept[i] = dz;
  }
}

// dx (+)= dz slope + (x - mean) tilt + level.
template <bool with_silu, bool accumulate, class T>
void norm_gradient(const T* BOOT_RESTRICT x, const T* BOOT_RESTRICT dy, const norm_line<T>& k,
                   const T* BOOT_RESTRICT tilt, const T* BOOT_RESTRICT level, T* BOOT_RESTRICT dx, std::int64_t n) {
  const T* BOOT_RESTRICT mean = k.mean;
  const T* BOOT_RESTRICT slope = k.slope;
  const T* BOOT_RESTRICT offset = k.offset;
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) {
    const T d = x[i] - mean[i];
    const T dz = norm_slope<with_silu>(d, slope[i], offset[i], dy[i]);
    const T v = math::fma(dz, slope[i], math::fma(d, tilt[i], level[i]));
    dx[i] = accumulate ? dx[i] + v : v;
  }
}

// The same for dz that dx already holds.
template <class T>
void norm_gradient_of_kept(const T* BOOT_RESTRICT x, const norm_line<T>& k, const T* BOOT_RESTRICT tilt,
                           const T* BOOT_RESTRICT level, T* BOOT_RESTRICT dx, std::int64_t n) {
  const T* BOOT_RESTRICT mean = k.mean;
  const T* BOOT_RESTRICT slope = k.slope;
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) dx[i] = math::fma(dx[i], slope[i], math::fma(x[i] - mean[i], tilt[i], level[i]));
}

/// What the two directions share: the operands, the cut, and the numbers of a line from mean and deviation.
template <class T>
struct norm_problem {
  const T *x, *weight, *bias, *scale_shift;
  bool shared_scale;  // one scale and shift for all samples
  std::int64_t groups, width;
  channel_slices cut;

  norm_problem(const view<const T, cpu>& in, const T* w, const T* b, const view<const T, cpu>& s, std::int64_t g)
      : x(in.data()),
        weight(w),
        bias(b),
        scale_shift(s.data()),
        shared_scale(s.batch() == 1),
        groups(g),
        width(in.extents()[-1] / g),
        cut(in.extents()) {}
  [[nodiscard]] double scale(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? 1.0 : 1.0 + static_cast<double>(row(sample)[c]);
  }
  [[nodiscard]] double shift(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? 0.0 : static_cast<double>(row(sample)[cut.channels + c]);
  }
  // `saved` holds the sample's mean and reciprocal deviation per group. A bias that backward was not given is 0.
  void expand(std::int64_t sample, const T* saved, const norm_line<T>& k) const {
    for (std::int64_t g = 0; g < groups; ++g) {
      const double rstd = static_cast<double>(saved[2 * g + 1]);
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
        const double factor = scale(sample, c);
        k.mean[c] = saved[2 * g];
        k.slope[c] = static_cast<T>(rstd * static_cast<double>(weight[c]) * factor);
        k.offset[c] =
            static_cast<T>((bias == nullptr ? 0.0 : static_cast<double>(bias[c])) * factor + shift(sample, c));
      }
    }
    repeat(k.mean);
    repeat(k.slope);
    repeat(k.offset);
  }
  // f(lane, group) for `count` numbers of a line from number `first` on: a division less per number.
  template <class F>
  void each_lane(std::int64_t first, std::int64_t count, const F& f) const {
    std::int64_t g = first % cut.channels / width, left = width - first % width;
    for (std::int64_t i = 0; i < count; ++i) {
      f(i, g);
      if (--left > 0) continue;
      left = width;
      g = g + 1 < groups ? g + 1 : 0;
    }
  }
  void repeat(T* values) const {
    for (std::int64_t i = cut.channels; i < cut.line; ++i) values[i] = values[i - cut.channels];
  }

 private:
  [[nodiscard]] const T* row(std::int64_t sample) const {
    return scale_shift + (shared_scale ? 0 : sample * 2 * cut.channels);
  }
};

template <bool with_silu, class T>
void group_norm_forward(const cpu& dev, const norm_problem<T>& p, double epsilon, T* y, T* saved) {
  const channel_slices& cut = p.cut;
  const std::int64_t groups = p.groups, units = cut.units(), lines = 3 * cut.batch * cut.line;
  // Sums and squares per unit and group; then mean and deviation, unless they are kept; then three lines per sample.
  const std::int64_t bytes = 2 * units * groups * static_cast<std::int64_t>(sizeof(double)) +
                             (lines + 2 * cut.batch * groups) * static_cast<std::int64_t>(sizeof(T));
  auto* const sums = reinterpret_cast<double*>(channel_space(dev, bytes));
  T* const line = reinterpret_cast<T*>(sums + 2 * units * groups);
  T* const kept = saved != nullptr ? saved : line + lines;
  const auto line_of = [&](std::int64_t sample) {
    T* const at = line + 3 * sample * cut.line;
    return norm_line<T>{at, at + cut.line, at + 2 * cut.line};
  };
  // Squares of the distance from the group's first number, in float64: that number is one of the n in the group, so its
  // own distance is at most sqrt(n) deviations and the variance is good to n 2^-52 whatever the mean.
  const auto first_of = [&](std::int64_t sample, std::int64_t g) {
    return static_cast<double>(p.x[sample * cut.positions * cut.channels + g * p.width]);
  };
  norm_passes(
      dev, cut,
      [&](std::int64_t u) {
        constexpr std::int64_t block = channel_slices::block;
        const T* const from = p.x + cut.begin(u);
        const std::int64_t n = cut.size(u), full = n / cut.line, rest = n % cut.line;
        double* const to = sums + 2 * u * groups;
        std::fill(to, to + 2 * groups, 0.0);
        for (std::int64_t j = 0; j < cut.line; j += block) {
          const std::int64_t lanes = std::min(block, cut.line - j);
          double shift[block], sum[block] = {}, square[block] = {};
          p.each_lane(j, lanes, [&](std::int64_t i, std::int64_t g) { shift[i] = first_of(u / cut.count, g); });
          norm_statistics(from + j, cut.line, full, lanes, shift, sum, square);
          if (rest > 0) norm_statistics(from + full * cut.line, cut.line, 1, rest, shift, sum, square);
          p.each_lane(j, lanes, [&](std::int64_t i, std::int64_t g) {
            to[2 * g] += sum[i];
            to[2 * g + 1] += square[i];
          });
        }
      },
      [&](std::int64_t sample) {
        T* const keep = kept + 2 * sample * groups;
        const double count = static_cast<double>(cut.positions * p.width);
        for (std::int64_t g = 0; g < groups; ++g) {
          double sum = 0, square = 0;
          for (std::int64_t u = sample * cut.count; u < (sample + 1) * cut.count; ++u) {
            sum += sums[2 * (u * groups + g)];
            square += sums[2 * (u * groups + g) + 1];
          }
          const double off = sum / count, variance = std::max(0.0, square / count - off * off);
          keep[2 * g] = static_cast<T>(first_of(sample, g) + off);
          keep[2 * g + 1] = static_cast<T>(1 / std::sqrt(variance + epsilon));
        }
        p.expand(sample, keep, line_of(sample));
      },
      [&](std::int64_t u) {
        const norm_line<T> k = line_of(u / cut.count);
        const std::int64_t begin = cut.begin(u), n = cut.size(u);
        for (std::int64_t at = 0; at < n; at += cut.line)
          norm_apply<with_silu>(p.x + begin + at, k, y + begin + at, std::min(cut.line, n - at));
      });
}

template <bool with_silu, class T>
void group_norm_backward(const cpu& dev, const norm_problem<T>& p, const T* saved, const T* dy,
                         const std::array<T*, 4>& gradient, const std::array<bool, 4>& accumulate) {
  const channel_slices& cut = p.cut;
  const std::int64_t channels = cut.channels, units = cut.units();
  // Sums of dz and dz (x - mean) per unit and channel, then per sample; five lines per sample.
  const std::int64_t bytes = 2 * (units + cut.batch) * channels * static_cast<std::int64_t>(sizeof(double)) +
                             5 * cut.batch * cut.line * static_cast<std::int64_t>(sizeof(T));
  auto* const partial = reinterpret_cast<double*>(channel_space(dev, bytes));
  double* const total = partial + 2 * units * channels;
  T* const lines = reinterpret_cast<T*>(total + 2 * cut.batch * channels);
  const auto line_at = [&](std::int64_t sample, std::int64_t i) { return lines + (5 * sample + i) * cut.line; };
  const auto line_of = [&](std::int64_t sample) {
    return norm_line<T>{line_at(sample, 0), line_at(sample, 1), line_at(sample, 2)};
  };
  parallel_for(cut.team(dev), cut.batch,
               [&](std::int64_t sample) { p.expand(sample, saved + 2 * sample * p.groups, line_of(sample)); });
  T* const dx = gradient[0];
  const bool keep = with_silu && dx != nullptr && !accumulate[0];  // SiLU's slope once where dx has room for dz
  norm_passes(
      dev, cut,
      [&](std::int64_t u) {
        constexpr std::int64_t block = channel_slices::block;
        const norm_line<T> all = line_of(u / cut.count);
        const std::int64_t begin = cut.begin(u), n = cut.size(u);
        double* const to = partial + 2 * u * channels;
        std::fill(to, to + 2 * channels, 0.0);
        for (std::int64_t j = 0; j < cut.line; j += block) {
          const std::int64_t lanes = std::min(block, cut.line - j);
          const norm_line<T> k{all.mean + j, all.slope + j, all.offset + j};
          T sum[block] = {}, along[block] = {};
          for (std::int64_t i = j; i < n; i += cut.line) {
            const std::int64_t at = begin + i, m = std::min(lanes, n - i);
            if (keep) {
              norm_gradient_sums<with_silu, true>(p.x + at, dy + at, k, sum, along, dx + at, m);
            } else {
              norm_gradient_sums<with_silu, false>(p.x + at, dy + at, k, sum, along, static_cast<T*>(nullptr), m);
            }
          }
          for (std::int64_t i = 0, c = j % channels; i < lanes; ++i, c = c + 1 < channels ? c + 1 : 0) {
            to[c] += static_cast<double>(sum[i]);
            to[channels + c] += static_cast<double>(along[i]);
          }
        }
      },
      [&](std::int64_t sample) {
        double* const sum = total + 2 * sample * channels;
        double* const along = sum + channels;
        std::fill(sum, along + channels, 0.0);
        for (std::int64_t u = sample * cut.count; u < (sample + 1) * cut.count; ++u)
          for (std::int64_t c = 0; c < 2 * channels; ++c) sum[c] += partial[2 * u * channels + c];
        const double count = static_cast<double>(cut.positions * p.width);
        for (std::int64_t g = 0; g < p.groups; ++g) {
          const double rstd = static_cast<double>(saved[2 * (sample * p.groups + g) + 1]);
          double level = 0, tilt = 0;
          for (std::int64_t c = g * p.width; c < (g + 1) * p.width; ++c) {
            const double factor = static_cast<double>(p.weight[c]) * p.scale(sample, c);
            level += factor * sum[c];
            tilt += factor * along[c];
            along[c] *= rstd;  // from here on dz times the normalised number
          }
          std::fill_n(line_at(sample, 3) + g * p.width, p.width, static_cast<T>(-tilt * rstd * rstd * rstd / count));
          std::fill_n(line_at(sample, 4) + g * p.width, p.width, static_cast<T>(-level * rstd / count));
        }
        p.repeat(line_at(sample, 3));
        p.repeat(line_at(sample, 4));
      },
      [&](std::int64_t u) {
        if (dx == nullptr) return;
        const std::int64_t sample = u / cut.count, begin = cut.begin(u), n = cut.size(u);
        const norm_line<T> k = line_of(sample);
        for (std::int64_t at = begin; at < begin + n; at += cut.line) {
          const std::int64_t m = std::min(cut.line, begin + n - at);
          if (keep) {
            norm_gradient_of_kept(p.x + at, k, line_at(sample, 3), line_at(sample, 4), dx + at, m);
          } else if (accumulate[0]) {
            norm_gradient<with_silu, true>(p.x + at, dy + at, k, line_at(sample, 3), line_at(sample, 4), dx + at, m);
          } else {
            norm_gradient<with_silu, false>(p.x + at, dy + at, k, line_at(sample, 3), line_at(sample, 4), dx + at, m);
          }
        }
      });

  // The parameters' gradients from the sums of every sample, samples in order.
  const auto put = [](T* to, bool add, double value) {
    if (to != nullptr) *to = static_cast<T>(add ? static_cast<double>(*to) + value : value);
  };
  const auto at = [&](std::size_t i, std::int64_t offset) {
    return gradient[i] == nullptr ? nullptr : gradient[i] + offset;
  };
  parallel_chunks(cut.team(dev), channels, 64, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t c = first; c < last; ++c) {
      double dweight = 0, dbias = 0, dscale = 0, dshift = 0;
      for (std::int64_t sample = 0; sample < cut.batch; ++sample) {
        const double sum = total[2 * sample * channels + c], along = total[(2 * sample + 1) * channels + c];
        dweight += p.scale(sample, c) * along;
        dbias += p.scale(sample, c) * sum;
        if (p.scale_shift == nullptr) continue;
        const double by_scale = static_cast<double>(p.weight[c]) * along + static_cast<double>(p.bias[c]) * sum;
        dscale += by_scale;
        dshift += sum;
        if (!p.shared_scale) {
          put(at(3, 2 * sample * channels + c), accumulate[3], by_scale);
          put(at(3, (2 * sample + 1) * channels + c), accumulate[3], sum);
        }
      }
      put(at(1, c), accumulate[1], dweight);
      put(at(2, c), accumulate[2], dbias);
      if (p.scale_shift != nullptr && p.shared_scale) {
        put(at(3, c), accumulate[3], dscale);
        put(at(3, channels + c), accumulate[3], dshift);
      }
    }
  });
}

}  // namespace detail

/// y = f((x - mean) rstd weight + bias) over `groups` groups of x's channels, f SiLU or the identity; a `scale_shift`
/// that is not empty [batch or 1, 2 channels] multiplies by 1 + scale and adds shift before f. `saved` gets mean and
/// rstd of each sample and group, if not null. The statistics are summed in float64.
template <ComputeScalar T>
void group_norm_forward(const cpu& dev, view<const T, cpu> x, const T* weight, const T* bias,
                        view<const T, cpu> scale_shift, std::int64_t groups, double epsilon, bool with_silu,
                        view<T, cpu> y, T* saved) {
  const detail::norm_problem<T> problem(x, weight, bias, scale_shift, groups);
  if (with_silu) {
    detail::group_norm_forward<true>(dev, problem, epsilon, y.data(), saved);
  } else {
    detail::group_norm_forward<false>(dev, problem, epsilon, y.data(), saved);
  }
}

/// Gradients of x, weight, bias and scale_shift, in this order, each written or added to; what has no data is left out.
/// `bias` may be null where neither SiLU nor a scale was fused.
template <ComputeScalar T>
void group_norm_backward(const cpu& dev, view<const T, cpu> x, const T* weight, const T* bias,
                         view<const T, cpu> scale_shift, std::int64_t groups, bool with_silu, const T* saved,
                         view<const T, cpu> dy, view<T, cpu> dx, T* dweight, T* dbias, view<T, cpu> dscale_shift,
                         const std::array<bool, 4>& accumulate) {
  const std::array<T*, 4> gradient{dx.data(), dweight, dbias, dscale_shift.data()};
  const detail::norm_problem<T> problem(x, weight, bias, scale_shift, groups);
  if (with_silu) {
    detail::group_norm_backward<true>(dev, problem, saved, dy.data(), gradient, accumulate);
  } else {
    detail::group_norm_backward<false>(dev, problem, saved, dy.data(), gradient, accumulate);
  }
}

}  // namespace boot::inline v0
