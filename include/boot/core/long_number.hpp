// SPDX-License-Identifier: MIT
/// Numbers of twice the digits for the few places of a kernel that need them: phases and their frequencies.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/core/math.hpp>

#include <cmath>
#include <cstdint>

/// A phase of thousands of turns keeps only its fraction, so float loses it: both factors need more digits than the
/// result. Graphics cards have few units for float64, or none to speak of; two floats and fused multiply-adds do.
/// Dekker, "A floating-point technique for extending the available precision" (1971). Not under -ffast-math.
namespace boot::inline v0::detail {

/// high + low, |low| at most half a unit in the last place of high.
template <class C>
struct long_number {
  C high{}, low{};
};

/// `x` in two parts; on the host.
template <class C>
[[nodiscard]] inline long_number<C> to_long_number(long double x) noexcept {
  const C high = static_cast<C>(x);
  return {high, static_cast<C>(x - static_cast<long double>(high))};
}

BOOT_HD BOOT_FORCE_INLINE float exact_fma(float a, float b, float c) noexcept { return ::fmaf(a, b, c); }
BOOT_HD BOOT_FORCE_INLINE double exact_fma(double a, double b, double c) noexcept { return ::fma(a, b, c); }
/// a b, rounded here: fused into a later sum it would carry the digits that are added to it.
BOOT_HD BOOT_FORCE_INLINE float rounded_product(float a, float b) noexcept {
#if BOOT_DEVICE_CODE
  return __fmul_rn(a, b);
#else
  return ::fmaf(a, b, 0.0f);
#endif
}
BOOT_HD BOOT_FORCE_INLINE double rounded_product(double a, double b) noexcept {
#if BOOT_DEVICE_CODE
  return __dmul_rn(a, b);
#else
  return ::fma(a, b, 0.0);
#endif
}
BOOT_HD BOOT_FORCE_INLINE float nearest_integer(float x) noexcept { return ::rintf(x); }
BOOT_HD BOOT_FORCE_INLINE double nearest_integer(double x) noexcept { return ::rint(x); }

/// a + b for |a| >= |b|.
template <class C>
BOOT_HD BOOT_FORCE_INLINE long_number<C> long_sum(C a, C b) noexcept {
  const C high = a + b;
  return {high, b - (high - a)};
}
/// a b, within 2^-46 of it for float.
template <class C>
BOOT_HD BOOT_FORCE_INLINE long_number<C> long_product(const long_number<C>& a, const long_number<C>& b) noexcept {
  const C high = rounded_product(a.high, b.high);
  const C rest = exact_fma(a.high, b.low, exact_fma(a.low, b.high, exact_fma(a.high, b.high, -high)));
  return long_sum(high, rest);
}
/// \copydoc long_product
template <class C>
BOOT_HD BOOT_FORCE_INLINE long_number<C> long_product(const long_number<C>& a, C b) noexcept {
  const C high = rounded_product(a.high, b);
  return long_sum(high, exact_fma(a.low, b, exact_fma(a.high, b, -high)));
}

/// sin and cos of pi x: the whole turns are taken off first, so that large angles lose nothing.
template <class C>
BOOT_HD BOOT_FORCE_INLINE void sincospi(const long_number<C>& x, C& s, C& c) noexcept {
  math::sincospi((x.high - 2 * nearest_integer(C(0.5) * x.high)) + x.low, s, c);
}

/// e^(slope i) for whole numbers i, by the squares of e^slope.
template <class C>
struct long_powers {
  static constexpr int bits = 16;
  long_number<C> square[bits];  ///< e^(slope 2^k)

  long_powers() = default;
  /// For i below `count`; on the host.
  long_powers(double slope, std::int64_t count) {
    require(count <= std::int64_t{1} << bits, "boot: {} frequencies, and a table of them ends at {}", count,
            std::int64_t{1} << bits);
    for (int k = 0; k < bits; ++k)
      square[k] = to_long_number<C>(std::exp(static_cast<long double>(slope) * static_cast<long double>(1 << k)));
  }
  /// factor e^(slope i).
  BOOT_HD long_number<C> times(long_number<C> factor, std::int64_t i) const noexcept {
    BOOT_UNROLL
    for (int k = 0; k < bits; ++k)
      if ((i >> k & 1) != 0) factor = long_product(factor, square[k]);
    return factor;
  }
};

/// Natural logarithm of x > 0 within 2^-33 of it, 2^-35 near 1; NaN for what has none and for infinity.
BOOT_HD inline long_number<float> long_log(float x) noexcept {
  if (!(x > 0) || !math::is_finite(x)) return {__builtin_nanf(""), 0};
  const bool tiny = x < 0x1p-100f;
  const std::uint32_t word = as_bits(tiny ? x * 0x1p24f : x);
  const std::int32_t k = static_cast<std::int32_t>(word - 0x3f2aaaabu) >> 23;  // x / 2^k in [2/3, 4/3)
  const float m = as_float(word - (static_cast<std::uint32_t>(k) << 23));
  // log m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| <= 1/5; the first two terms need the digits.
  const float above = m - 1;
  const long_number<float> below = m < 1 ? long_sum(1.0f, m) : long_sum(m, 1.0f);
  const float s0 = math::quotient(above, below.high);
  const float left = exact_fma(-s0, below.low, exact_fma(-s0, below.high, above));
  const long_number<float> s = long_sum(s0, math::quotient(left, below.high)), z = long_product(s, s);
  float p = 1.0f / 15;
  p = math::fma(p, z.high, 1.0f / 13);
  p = math::fma(p, z.high, 1.0f / 11);
  p = math::fma(p, z.high, 1.0f / 9);
  p = math::fma(p, z.high, 1.0f / 7);
  p = math::fma(p, z.high, 1.0f / 5);
  const long_number<float> third = long_product(z, long_number<float>{0x1.555556p-2f, -0x1.555556p-27f});
  const long_number<float> tail = long_sum(third.high, math::fma(z.high * z.high, p, third.low));
  const long_number<float> more = long_sum(1.0f, tail.high), series = long_sum(more.high, more.low + tail.low);
  const long_number<float> part = long_product(series, long_number<float>{2 * s.high, 2 * s.low});
  const float n = static_cast<float>(tiny ? k - 24 : k);
  if (n == 0) return part;
  const long_number<float> whole = long_product(long_number<float>{0x1.62e43p-1f, -0x1.05c61p-29f}, n);
  const long_number<float> sum = long_sum(whole.high, part.high);
  return long_sum(sum.high, sum.low + (whole.low + part.low));
}
/// Natural logarithm, to double's own digits; NaN for what has none and for infinity.
BOOT_HD inline long_number<double> long_log(double x) noexcept {
  const double u = x > 0 ? math::log(x) : static_cast<double>(__builtin_nanf(""));
  return {math::is_finite(u) ? u : static_cast<double>(__builtin_nanf("")), 0};
}

}  // namespace boot::inline v0::detail
