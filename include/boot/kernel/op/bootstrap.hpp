// SPDX-License-Identifier: MIT
/// The bootstrap loss of one element: guidance, clean signal, Signal-ODE step, residual, weight, loss and gradient in one pass.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/op/prediction.hpp>
#include <boot/kernel/pack.hpp>

namespace boot::inline v0 {

/// Squared distance: rho(r) = r^2.
struct l2_distance {
  /// rho(r).
  template <class T>
  [[nodiscard]] BOOT_HD BOOT_FORCE_INLINE constexpr T value(T r) const noexcept {
    return r * r;
  }
  /// rho'(r).
  template <class T>
  [[nodiscard]] BOOT_HD BOOT_FORCE_INLINE constexpr T derivative(T r) const noexcept {
    return T{2} * r;
  }
};

/// Pseudo-Huber distance, element by element: rho(r) = 2 c (sqrt(r^2 + c^2) - c); r^2 for small r, 2 c |r| for large.
struct pseudo_huber_distance {
  double c = 0.03;  ///< where it turns from square to linear, in units of the clean signal

  /// rho(r), written without the cancellation of the difference.
  template <class T>
  [[nodiscard]] BOOT_HD BOOT_FORCE_INLINE T value(T r) const noexcept {
    const T k = static_cast<T>(c);
    return T{2} * k * r * r / (math::sqrt(r * r + k * k) + k);
  }
  /// rho'(r).
  template <class T>
  [[nodiscard]] BOOT_HD BOOT_FORCE_INLINE T derivative(T r) const noexcept {
    const T k = static_cast<T>(c);
    return T{2} * k * r / math::sqrt(r * r + k * k);
  }
};

/// One sample's numbers for the bootstrap and boundary kernels, computed on the host in float64.
template <class T>
struct bootstrap_row {
  T a, b;            ///< clean signal f = a x + b out of the teacher's raw output
  T guidance;        ///< w in out = out_n + w (out_c - out_n)
  T step;            ///< D = 1 - r_s / r_t (1 for a boundary sample)
  T heun;            ///< 1 + D / ln(1 - D), factor of the Heun correction
  T weight;          ///< factor of the sample's loss
  T loss_scale;      ///< 1 / elements: the loss is a mean over the sample's elements
  T gradient_scale;  ///< d loss / d rho, times what the student's own conversion b adds: weight is applied besides
  T low, high;       ///< the clean signal is clipped to [low, high]; infinite where it is not
};

/// Euler target: r = (y_s - y_t) - D (f - y_t). Inputs: y_s, y_t, x^, out with the condition, out without.
template <class T, class Distance = l2_distance>
struct bootstrap_euler_op {
  Distance distance;  ///< rho
  /// The gradient with respect to the student's output and the weighted loss term.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const bootstrap_row<T>& p, T y_s, T y_t, T x, T out_c,
                                                            T out_n) const noexcept {
    const T f = clip(clean_signal(p.a, p.b, x, guided_output(p.guidance, out_c, out_n)), p.low, p.high);
    const T r = (y_s - y_t) - p.step * (f - y_t);  // near convergence y_s ~ y_t: these two are subtracted first
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

/// Heun target: r = (y_s - y_t) - D (f1 - y_t) - h (f2 - f1). Inputs: y_s, y_t, f1, x^_s, out with and without condition.
template <class T, class Distance = l2_distance>
struct bootstrap_heun_op {
  Distance distance;  ///< rho
  /// `second` holds a, b of the second teacher call, at time s.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const bootstrap_row<T>& p, T y_s, T y_t, T f1, T x2,
                                                            T out_c, T out_n) const noexcept {
    const T f2 = clip(clean_signal(p.a, p.b, x2, guided_output(p.guidance, out_c, out_n)), p.low, p.high);
    const T r = (y_s - y_t) - p.step * (f1 - y_t) - p.heun * (f2 - f1);
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

/// Boundary: r = y - f(sigma_T eps, t_max). Inputs: y, x, out with the condition, out without.
template <class T, class Distance = l2_distance>
struct boundary_op {
  Distance distance;  ///< rho
  /// The gradient with respect to the student's output and the weighted loss term.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const bootstrap_row<T>& p, T y, T x, T out_c,
                                                            T out_n) const noexcept {
    const T r = y - clip(clean_signal(p.a, p.b, x, guided_output(p.guidance, out_c, out_n)), p.low, p.high);
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

/// Regression to a given target: r = y - target. Inputs: y, target.
template <class T, class Distance = l2_distance>
struct regression_op {
  Distance distance;  ///< rho
  /// The gradient with respect to the student's output and the weighted loss term.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const bootstrap_row<T>& p, T y, T target) const noexcept {
    const T r = y - target;
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

}  // namespace boot::inline v0
