// SPDX-License-Identifier: MIT
/// The fixed-point loss of one element: guidance, clean signal, upwind difference, residual, weight, loss and gradient.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/op/bootstrap.hpp>

namespace boot::inline v0 {

/// r = (y - f) - c (y_next - y), the Signal-ODE divided by lambda' with its derivative taken from the noise side; the
/// row's `step` holds c = 1/(lambda' h). Inputs: y, y_next = y at t + h, x^, out with the condition, out without.
template <class T, class Distance = l2_distance>
struct fixed_point_op {
  Distance distance;  ///< rho
  /// The gradient with respect to the student's output (y in f and in the difference is a constant) and the loss term.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const bootstrap_row<T>& p, T y, T y_next, T x, T out_c,
                                                            T out_n) const noexcept {
    const T f = clip(clean_signal(p.a, p.b, x, guided_output(p.guidance, out_c, out_n)), p.low, p.high);
    const T r = (y - f) - p.step * (y_next - y);
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

}  // namespace boot::inline v0
