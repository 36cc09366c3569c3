// SPDX-License-Identifier: MIT
/// Branch-free exp, log, sincospi, sigmoid, silu, tanh and sqrt for host loops that must vectorise and for device code.
#pragma once

#include <boot/config.hpp>

#include <cmath>
#include <cstdint>

/// The float functions are our own polynomials over explicit fused multiply-adds: a loop's vector body and its scalar
/// remainder give the same bits, and so does device code. They need neither libm nor -ffast-math, and their integer
/// steps survive it. Where the target has no fused multiply-add the last bit differs from targets that have it.
/// The double functions serve gradient checks and call the standard library.
namespace boot::inline v0::math {

/// a * b + c, rounded once where the target can do that fast; never fused by accident where it cannot.
BOOT_HD BOOT_FORCE_INLINE float fma(float a, float b, float c) noexcept {
#if defined(FP_FAST_FMAF) || BOOT_DEVICE_CODE
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
/// \copydoc fma(float, float, float)
BOOT_HD BOOT_FORCE_INLINE double fma(double a, double b, double c) noexcept {
#if defined(FP_FAST_FMA) || BOOT_DEVICE_CODE
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// a / b, correctly rounded where a, b, 1 / b and the result are neither zero nor subnormal nor infinite; a = 0 and
/// b = 0 behave as in a division or give NaN. Device code divides inline, where a / b calls a function for rare numbers:
/// these are the steps that nvcc takes for all others, so they round as a / b does.
BOOT_HD BOOT_FORCE_INLINE float quotient(float a, float b) noexcept {
#if BOOT_DEVICE_CODE
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  r = fma(r, fma(-b, r, 1.0f), r);
  const float q = a * r;
  return fma(r, fma(-b, q, a), q);  // the residual settles the last bit
#else
  return a / b;
#endif
}
/// a / b.
BOOT_HD inline double quotient(double a, double b) noexcept { return a / b; }

}  // namespace boot::inline v0::math

namespace boot::inline v0::detail {

BOOT_HD BOOT_FORCE_INLINE float as_float(std::uint32_t bits) noexcept { return __builtin_bit_cast(float, bits); }
BOOT_HD BOOT_FORCE_INLINE std::uint32_t as_bits(float value) noexcept {
  return __builtin_bit_cast(std::uint32_t, value);
}

/// An integer and the float that equals it.
struct rounded {
  static constexpr std::uint32_t offset = 0x4b400000u;  ///< bits of 1.5 * 2^23
  std::uint32_t k;                                      ///< the integer plus the offset, whose low 22 bits are 0
  float n;                                              ///< the integer
};

/// a * b rounded to the nearest integer, for |a * b| < 2^22. Adding 1.5 * 2^23 leaves the integer in the low mantissa
/// bits, and reading it as bits keeps -ffast-math from cancelling the addition.
BOOT_HD BOOT_FORCE_INLINE rounded round_product(float a, float b) noexcept {
  const float shifted = math::fma(a, b, 0x1.8p23f);
#if BOOT_DEVICE_CODE
  return {as_bits(shifted), shifted - 0x1.8p23f};  // nothing cancels it here; a conversion takes twice as long
#else
  return {as_bits(shifted), static_cast<float>(static_cast<std::int32_t>(as_bits(shifted) - rounded::offset))};
#endif
}

/// condition ? a : b on the bits: both are computed, so no arithmetic that may trap ends up in a branch, which would
/// keep a loop from being vectorised. A device has an instruction for it.
BOOT_HD BOOT_FORCE_INLINE float select(bool condition, float a, float b) noexcept {
#if BOOT_DEVICE_CODE
  return condition ? a : b;
#else
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return as_float(as_bits(b) ^ ((as_bits(a) ^ as_bits(b)) & mask));
#endif
}

/// `limit` (not 0) where x lies between `limit` and the infinity of its sign, else x; NaN passes. Bits again, because a
/// floating-point comparison may trap on NaN.
BOOT_HD BOOT_FORCE_INLINE float limited(float x, float limit, [[maybe_unused]] float infinity) noexcept {
#if BOOT_DEVICE_CODE
  float y;
  if (limit < 0.0f) {
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
  } else {
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
  }
  return y;
#else
  const std::uint32_t low = as_bits(limit);
  return select(as_bits(x) - low <= as_bits(infinity) - low, limit, x);
#endif
}

/// The float infinity, without <limits>.
inline constexpr float infinity = __builtin_huge_valf();

/// sqrt(x) from y, 1 / sqrt(x) within 2^-22.9: what nvcc makes of sqrtf for x >= 2^-101 and y from `rsqrt.approx`, so
/// correctly rounded there. Any other such y may leave it one ulp off, for two of the 2^24 mantissas and parities.
BOOT_HD BOOT_FORCE_INLINE float sqrt_from(float x, float y) noexcept {
  const float g = x * y, h = 0.5f * y;
  return math::fma(math::fma(-g, g, x), h, g);  // the exact residual x - g^2 settles the last bit
}

#if BOOT_DEVICE_CODE
/// 1 / sqrt(x) for sqrt_from(); NaN for x < 0, infinite for 0.
BOOT_DEVICE BOOT_FORCE_INLINE float inverse_sqrt(float x) noexcept {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

/// sqrt for x = 0 and x >= 2^-100, correctly rounded. Compilers keep sqrtf scalar because it may set errno.
BOOT_HD BOOT_FORCE_INLINE float sqrt_normal(float x) noexcept {
#if BOOT_DEVICE_CODE
  return sqrt_from(x, inverse_sqrt(x < 0x1p-100f ? 0x1p-100f : x));  // finite for 0, whose root is then 0
#else
  using math::fma;
  const float y0 = as_float(0x5f375a86u - (as_bits(x) >> 1));  // 1/sqrt(x) within 3.5 %
  const float e0 = fma(-(x * y0), y0, 1.0f);
  const float y1 = fma(y0, e0 * fma(e0, 0.375f, 0.5f), y0);  // third order: within 1.1e-4
  const float t = x * y1;
  const float e1 = fma(-t, y1, 1.0f);
  const float p1 = e1 * fma(e1, 0.375f, 0.5f);
  const float g = fma(t, p1, t);
  const float h = 0x1.000002p-1f * fma(y1, p1, y1);  // one ulp up: 1/2 misrounds sqrt(4 - 2^-22)
  return fma(fma(-g, g, x), h, g);                   // the exact residual x - g^2 settles the last bit
#endif
}

/// The logistic function and what it lacks to 1.
struct logistic_parts {
  float sigmoid;     ///< 1 / (1 + exp(-x))
  float complement;  ///< 1 / (1 + exp(x)), without cancellation
};

}  // namespace boot::inline v0::detail

namespace boot::inline v0::math {

/// True unless `value` is an infinity or NaN; tests the bits, so it also holds under -ffast-math.
BOOT_HD constexpr bool is_finite(float value) noexcept {
  return (__builtin_bit_cast(std::uint32_t, value) & 0x7f800000u) != 0x7f800000u;
}
/// \copydoc is_finite(float)
BOOT_HD constexpr bool is_finite(double value) noexcept {
  return (__builtin_bit_cast(std::uint64_t, value) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

/// sqrt(x), correctly rounded for every float (within 1 ulp where fma is not fused); sqrt(x < 0) is NaN. Vectorises,
/// which std::sqrt does not while it may set errno.
BOOT_HD BOOT_FORCE_INLINE float sqrt(float x) noexcept {
#if BOOT_DEVICE_CODE
  const bool tiny = x < 0x1p-100f;  // or negative, whose inverse root is NaN
  const float scaled = tiny ? x * 0x1p96f : x;
  const float root = detail::sqrt_from(scaled, detail::inverse_sqrt(scaled));
  return x == 0.0f || x == detail::infinity ? x : tiny ? root * 0x1p-48f : root;
#else
  const std::uint32_t bits = detail::as_bits(x);
  const bool tiny = (bits & 0x7fffffffu) < 0x0d800000u;             // below 2^-100 the residual would underflow
  const float scaled = x * detail::select(tiny, 0x1p96f, 0x1p-2f);  // and the square of a huge root overflow
  const float root = detail::sqrt_normal(scaled) * detail::select(tiny, 0x1p-48f, 2.0f);
  const float positive = detail::select(bits >= 0x7f800000u, x, root);  // also keeps -0, infinity and NaN
  const float nan = detail::as_float(0x7fc00000u);
  return detail::select(bits - 0x80000001u < 0x7f800000u, nan, positive);
#endif
}
/// \copydoc sqrt(float)
BOOT_HD inline double sqrt(double x) noexcept { return ::sqrt(x); }

}  // namespace boot::inline v0::math

namespace boot::inline v0::detail {

/// e^x for x <= 89.
BOOT_HD BOOT_FORCE_INLINE float exp_below(float x) noexcept {
  using math::fma;
  const float v = limited(x, -104.0f, -infinity);
  const auto [place, n] = round_product(v, 0x1.715476p+0f);
  float r = fma(n, -0x1.62e4p-1f, v);  // ln 2 in two parts; n times the first is exact
  r = fma(n, -0x1.7f7d1cp-20f, r);
  // Minimax for (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2: relative error of e^r 2^-28.2.
  float p = 0x1.6ad14p-10f;
  p = fma(p, r, 0x1.123f3p-7f);
  p = fma(p, r, 0x1.55584ep-5f);
  p = fma(p, r, 0x1.55548ap-3f);
  p = fma(p, r, 0x1.fffffcp-2f);
  p = fma(p * r, r, r) + 1.0f;
  const std::int32_t k = static_cast<std::int32_t>(place - rounded::offset);
  const std::int32_t half = k >> 1;  // 2^k in two factors: k = 128 and k = -150 are no float exponents
  return p * as_float(static_cast<std::uint32_t>(half + 127) << 23) *
         as_float(static_cast<std::uint32_t>(k - half + 127) << 23);
}

}  // namespace boot::inline v0::detail

namespace boot::inline v0::math {

/// e^x within 1 ulp; 0 (through the subnormals) below -104, infinity above 88.73, NaN for NaN.
BOOT_HD BOOT_FORCE_INLINE float exp(float x) noexcept {
  return detail::exp_below(detail::limited(x, 89.0f, detail::infinity));
}
/// \copydoc exp(float)
BOOT_HD inline double exp(double x) noexcept { return ::exp(x); }

/// Natural logarithm of a positive, finite, normal x, within 2 ulp. Other inputs give unspecified values.
BOOT_HD BOOT_FORCE_INLINE float log(float x) noexcept {
  const std::uint32_t bits = detail::as_bits(x);
  const std::uint32_t k = (bits - 0x3f2aaaabu) & 0xff800000u;  // 2^23 times the k that puts x / 2^k into [2/3, 4/3)
  const float f = detail::as_float(bits - k) - 1.0f;
  const float n = static_cast<float>(static_cast<std::int32_t>(k));
  // Minimax for (log(1 + f) - f) / f^2 on |f| <= 1/3.
  float p = -0x1.08b7f2p-3f;
  p = fma(p, f, 0x1.1e6974p-3f);
  p = fma(p, f, -0x1.f2980cp-4f);
  p = fma(p, f, 0x1.1ecf9p-3f);
  p = fma(p, f, -0x1.55a192p-3f);
  p = fma(p, f, 0x1.99d088p-3f);
  p = fma(p, f, -0x1.fffedep-3f);
  p = fma(p, f, 0x1.555506p-2f);
  p = fma(p, f, -0.5f);
  const float tail = fma(p * f, f, n * 0x1.7f7d1cp-43f);
  return fma(n, 0x1.62e4p-24f, f + tail);
}
/// \copydoc log(float)
BOOT_HD inline double log(double x) noexcept { return ::log(x); }

/// s = sin(pi x), c = cos(pi x), within 2 ulp, for |x| <= 2^20; exact at multiples of 1/2.
BOOT_HD BOOT_FORCE_INLINE void sincospi(float x, float& s, float& c) noexcept {
  const auto [k, n] = detail::round_product(x, 2.0f);
  const float r = fma(n, -0.5f, x);  // exact, |r| <= 1/4
  const float z = r * r;
  // Minimax in z for (sin(pi r) / r - pi) / z and (cos(pi r) - 1) / z: relative errors 2^-27.9 and 2^-31.
  float a = -0x1.2db5d6p-1f;
  a = fma(a, z, 0x1.465facp+1f);
  a = fma(a, z, -0x1.4abbbep+2f);
  a = fma(a, z, -0x1.777a5cp-24f);  // pi minus its float
  const float sine = fma(r, 0x1.921fb6p+1f, r * a);
  float b = 0x1.d4f7eep-3f;
  b = fma(b, z, -0x1.55b2b6p+0f);
  b = fma(b, z, 0x1.03c1bp+2f);
  b = fma(b, z, -0x1.3bd3ccp+2f);
  const float cosine = fma(b, z, 1.0f);
  const std::uint32_t quarter = k << 30;  // of a turn, in the two highest bits
  const bool swapped = (k & 1u) != 0u;
  const float first = detail::select(swapped, cosine, sine);
  const float second = detail::select(swapped, sine, cosine);
  s = detail::as_float(detail::as_bits(first) ^ (quarter & 0x80000000u));
  c = detail::as_float(detail::as_bits(second) ^ ((quarter + 0x40000000u) & 0x80000000u));
}
/// s = sin(pi x), c = cos(pi x) for |x| <= 2^50.
BOOT_HD inline void sincospi(double x, double& s, double& c) noexcept {
  const double k = ::rint(2.0 * x);
  const double r = 3.14159265358979323846 * (x - 0.5 * k);
  const double sine = ::sin(r);
  const double cosine = ::cos(r);
  const std::uint64_t quarter = static_cast<std::uint64_t>(static_cast<std::int64_t>(k));
  const bool swapped = (quarter & 1u) != 0u;
  s = ((quarter & 2u) != 0u ? -1.0 : 1.0) * (swapped ? cosine : sine);
  c = (((quarter + 1u) & 2u) != 0u ? -1.0 : 1.0) * (swapped ? sine : cosine);
}

}  // namespace boot::inline v0::math

namespace boot::inline v0::detail {

/// Both halves of the logistic function from one exp and one division.
BOOT_HD BOOT_FORCE_INLINE logistic_parts logistic(float x) noexcept {
  const float e = exp_below(as_float(as_bits(x) | 0x80000000u));  // exp(-|x|) <= 1
  const float large = math::quotient(1.0f, 1.0f + e);
  const float small_ = e * large;
  const bool positive = as_bits(x) < 0x80000000u;
  return {select(positive, large, small_), select(positive, small_, large)};
}

}  // namespace boot::inline v0::detail

namespace boot::inline v0::math {

/// 1 / (1 + e^-x) within 3 ulp; small values keep their relative accuracy, the ends are 0 and 1.
BOOT_HD BOOT_FORCE_INLINE float sigmoid(float x) noexcept { return detail::logistic(x).sigmoid; }
/// \copydoc sigmoid(float)
BOOT_HD inline double sigmoid(double x) noexcept {
  const double e = ::exp(-::fabs(x));
  return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

/// x sigmoid(x) within 4 ulp for x >= -87, below that (|silu| < 2e-36) within 1e-43; 0 at minus infinity.
BOOT_HD BOOT_FORCE_INLINE float silu(float x) noexcept {
  const float v = detail::limited(x, -1000.0f, -detail::infinity);  // 0 times infinity would be NaN
  return v * sigmoid(x);
}
/// \copydoc silu(float)
BOOT_HD inline double silu(double x) noexcept { return (x < -1000.0 ? -1000.0 : x) * sigmoid(x); }

/// d silu(x) / dx = sigmoid(x) (1 + x sigmoid(-x)), within 2.5e-7; 0 and 1 at the ends.
BOOT_HD BOOT_FORCE_INLINE float silu_derivative(float x) noexcept {
  const detail::logistic_parts p = detail::logistic(x);
  const float v = detail::limited(detail::limited(x, 1000.0f, detail::infinity), -1000.0f, -detail::infinity);
  return p.sigmoid * fma(v, p.complement, 1.0f);
}
/// \copydoc silu_derivative(float)
BOOT_HD inline double silu_derivative(double x) noexcept {
  const double low = x < -1000.0 ? -1000.0 : x;
  const double v = low > 1000.0 ? 1000.0 : low;
  return sigmoid(x) * (1.0 + v * sigmoid(-x));
}

/// Hyperbolic tangent within 3 ulp.
BOOT_HD BOOT_FORCE_INLINE float tanh(float x) noexcept {
  const float u = detail::as_float(detail::as_bits(x) & 0x7fffffffu);
  const float e = detail::exp_below(-2.0f * u);
  const float far = math::quotient(1.0f - e, 1.0f + e);
  const float z = x * x;
  // Minimax for (tanh(x) / x - 1) / x^2 on |x| <= 0.625: relative error of tanh 2^-27.7.
  float p = -0x1.750ce2p-8f;
  p = fma(p, z, 0x1.51f8cep-6f);
  p = fma(p, z, -0x1.b835a4p-5f);
  p = fma(p, z, 0x1.1106f6p-3f);
  p = fma(p, z, -0x1.555532p-2f);
  const float near_ = fma(p * z, u, u);
  const float magnitude = detail::select(detail::as_bits(u) < 0x3f200000u, near_, far);
  return detail::as_float(detail::as_bits(magnitude) | (detail::as_bits(x) & 0x80000000u));
}
/// \copydoc tanh(float)
BOOT_HD inline double tanh(double x) noexcept { return ::tanh(x); }

}  // namespace boot::inline v0::math
