// SPDX-License-Identifier: MIT
/// What the kernels of group norm share: operands, the channels of a thread, SiLU.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/team/operations.hpp>

#include <algorithm>
#include <cstdint>

namespace boot::inline v0::detail {

/// Operands of both directions; a sample is [pixels, channels]. `saved` holds mean and reciprocal deviation of every
/// sample and group.
template <class T>
struct norm_operands {
  using C = compute_type<T>;
  const T* x;
  const C *weight, *bias;  // parameters are kept in full
  const T* scale_shift;
  bool shared_scale;
  std::int64_t batch, pixels, channels, groups, group_width;

  norm_operands(const shape& s, const T* from, const C* w, const C* b, const T* scale, bool shared, std::int64_t count)
      : x(from),
        weight(w),
        bias(b),
        scale_shift(scale),
        shared_scale(shared),
        batch(s.batch()),
        pixels(s.sample_size() / s[-1]),
        channels(s[-1]),
        groups(count),
        group_width(channels / count) {}
  /// 1 + scale of a channel.
  [[nodiscard]] BOOT_HD C factor(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? C{1} : C{1} + static_cast<C>(row(sample)[c]);
  }
  [[nodiscard]] BOOT_HD C shift(std::int64_t sample, std::int64_t c) const {
    return scale_shift == nullptr ? C{0} : static_cast<C>(row(sample)[channels + c]);
  }
  [[nodiscard]] BOOT_HD C offset(std::int64_t c) const { return bias == nullptr ? C{0} : bias[c]; }
  /// The group of channel c of a sample, among those of all samples.
  [[nodiscard]] BOOT_HD std::int64_t group_of(std::int64_t sample, std::int64_t c) const {
    return sample * groups + short_quotient(c, group_width);
  }
  /// Slices whose sums meet later; a card is full at some thousand blocks.
  [[nodiscard]] row_tiles<group_size<T>()> sum_cut() const {
    return {pixels, channels, 16, std::max<std::int64_t>(1, 4096 / batch)};
  }
  /// Slices of what goes from array to array.
  [[nodiscard]] row_tiles<group_size<T>()> cut() const {
    return {pixels, channels, batch * pixels * channels < (1 << 22) ? 4 : 8, 65536};
  }

 private:
  [[nodiscard]] BOOT_HD const T* row(std::int64_t sample) const {
    return scale_shift + (shared_scale ? 0 : sample * 2 * channels);
  }
};

/// 1 / b for b from 1 to 2, correctly rounded: after one step from the device's approximation it is (CUDA's own).
BOOT_HD BOOT_FORCE_INLINE float norm_reciprocal(float b) noexcept {
#if BOOT_DEVICE_CODE
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  return math::fma(r, math::fma(-b, r, 1.0f), r);
#else
  return 1.0f / b;
#endif
}

/// What SiLU and its slope are made of: 1 / (1 + e^-|x|) and e^-|x|, with the bits of math::exp and math::quotient in half
/// the instructions of a device: max instead of tests of bits, and 2^k added to an exponent. On a host the loops over
/// math::silu vectorise, this one need not.
struct norm_logistic {
  float large, e;

  BOOT_HD BOOT_FORCE_INLINE explicit norm_logistic(float x) noexcept {
    using math::fma;
    constexpr float round = 0x1.8p23f + 64.0f;  // its low bits then hold k + 64
    const float u = __builtin_fmaxf(-__builtin_fabsf(x), -104.0f);
    const float t = fma(u, 0x1.715476p+0f, round);
#if BOOT_DEVICE_CODE
    const float n = t - round;  // a conversion runs at a quarter of an addition's rate
#else
    const float n = static_cast<float>(static_cast<std::int32_t>(as_bits(t) - as_bits(round)));
#endif
    float r = fma(n, -0x1.62e4p-1f, u);
    r = fma(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6ad14p-10f;  // math::exp
    p = fma(p, r, 0x1.123f3p-7f);
    p = fma(p, r, 0x1.55584ep-5f);
    p = fma(p, r, 0x1.55548ap-3f);
    p = fma(p, r, 0x1.fffffcp-2f);
    p = fma(p * r, r, r) + 1.0f;
    e = as_float(as_bits(p) + (as_bits(t) << 23)) * 0x1p-64f;  // p 2^(k + 64) 2^-64, rounded once
    large = norm_reciprocal(1.0f + e);
  }
};

/// math::silu with its bits; of NaN only that it is one.
BOOT_HD BOOT_FORCE_INLINE float norm_silu(float x) noexcept {
  const norm_logistic p(x);
  const float low = x < -1000.0f ? -1000.0f : x;  // 0 times infinity would be NaN
  return low * ((x < 0.0f ? p.e : 1.0f) * p.large);
}
BOOT_HD inline double norm_silu(double x) noexcept { return math::silu(x); }

/// math::silu_derivative, likewise.
BOOT_HD BOOT_FORCE_INLINE float norm_silu_slope(float x) noexcept {
  const norm_logistic p(x);
  const bool negative = x < 0.0f;
  const float low = x < -1000.0f ? -1000.0f : x, v = low > 1000.0f ? 1000.0f : low;
  const float small_ = p.e * p.large, sigmoid = negative ? small_ : p.large, complement = negative ? p.large : small_;
  return sigmoid * math::fma(v, complement, 1.0f);
}
BOOT_HD inline double norm_silu_slope(double x) noexcept { return math::silu_derivative(x); }

/// Channels one after another and their groups, with one division for all.
struct norm_walk {
  std::int64_t channel, group;  // the group among those of all samples

  template <class T>
  BOOT_HD norm_walk(const norm_operands<T>& p, std::int64_t sample, std::int64_t column)
      : channel(column),
        group(p.group_of(sample, channel)),
        left_((group - sample * p.groups + 1) * p.group_width - channel) {}
  template <class T>
  BOOT_HD void next(const norm_operands<T>& p) {
    ++channel;
    const bool over = --left_ == 0;
    group += over ? 1 : 0;
    left_ = over ? p.group_width : left_;
  }

 private:
  std::int64_t left_;
};

/// What a thread's channels need: z = (x - mean) slope + offset.
template <int width, class C>
struct norm_columns {
  C mean[width], slope[width], offset[width];

  template <class T>
  BOOT_HD norm_columns(const norm_operands<T>& p, const C* saved, std::int64_t sample, std::int64_t column, int count) {
    norm_walk at(p, sample, column);
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      mean[k] = slope[k] = offset[k] = C{0};
      if (k >= count) continue;
      const C factor = p.factor(sample, at.channel);
      mean[k] = saved[2 * at.group];
      slope[k] = saved[2 * at.group + 1] * p.weight[at.channel] * factor;
      offset[k] = math::fma(p.offset(at.channel), factor, p.shift(sample, at.channel));
      at.next(p);
    }
  }
  [[nodiscard]] BOOT_HD C z(int k, C x) const { return math::fma(x - mean[k], slope[k], offset[k]); }
  /// d f(z) = dy f'(z).
  template <bool with_silu>
  [[nodiscard]] BOOT_HD C dz(int k, C x, C dy) const {
    return with_silu ? dy * norm_silu_slope(z(k, x)) : dy;
  }
};

}  // namespace boot::inline v0::detail
