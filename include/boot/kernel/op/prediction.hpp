// SPDX-License-Identifier: MIT
/// From a network's raw output to the clean signal: guidance, the affine map f = a x + b out, clipping.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/kernel/pack.hpp>

namespace boot::inline v0 {

/// Classifier-free guidance: out_n + w (out_c - out_n). With out_c = out_n it is exactly out_n, whatever w.
template <class T>
[[nodiscard]] BOOT_HD BOOT_FORCE_INLINE constexpr T guided_output(T w, T out_c, T out_n) noexcept {
  return out_n + w * (out_c - out_n);
}

/// f = a x + b out, the clean signal behind any kind of prediction.
template <class T>
[[nodiscard]] BOOT_HD BOOT_FORCE_INLINE constexpr T clean_signal(T a, T b, T x, T out) noexcept {
  return a * x + b * out;
}

/// `f` held within [low, high]; NaN stays NaN.
template <class T>
[[nodiscard]] BOOT_HD BOOT_FORCE_INLINE constexpr T clip(T f, T low, T high) noexcept {
  f = f < low ? low : f;
  return f > high ? high : f;
}

/// One sample's affine map.
template <class T>
struct affine_row {
  T a, b;       ///< f = a x + b out
  T guidance;   ///< w of guided_output
  T low, high;  ///< clip range
};

/// f = clip(a x + b (out_n + w (out_c - out_n))). Inputs: x, out with condition, out without. Output: f.
template <class T>
struct clean_signal_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const affine_row<T>& p, T x, T out_c,
                                                            T out_n) const noexcept {
    return {{clip(clean_signal(p.a, p.b, x, guided_output(p.guidance, out_c, out_n)), p.low, p.high)}, T{0}};
  }
};

/// y = a x + b out. Inputs: x, out. Output: y.
template <class T>
struct affine_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const affine_row<T>& p, T x, T out) const noexcept {
    return {{clean_signal(p.a, p.b, x, out)}, T{0}};
  }
};

/// Dynamic thresholding, second half: clip to [-q, q] and divide by q, where q is the sample's quantile of |f|, at least 1.
/// Row: q. Input and output: f.
template <class T>
struct threshold_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const T& q, T f) const noexcept {
    return {{math::quotient(clip(f, -q, q), q)}, T{0}};
  }
};

}  // namespace boot::inline v0
