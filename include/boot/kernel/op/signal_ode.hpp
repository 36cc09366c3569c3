// SPDX-License-Identifier: MIT
/// Steps along the deterministic trajectory: re-noising, Signal-ODE Euler and Heun, the DDIM update.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/pack.hpp>

namespace boot::inline v0 {

/// One sample's numbers for a step from t to s < t, computed on the host in float64.
template <class T>
struct ode_row {
  T alpha = 0, sigma = 0;        ///< of the time re-noised to
  T step = 0;                    ///< D = 1 - r_s / r_t
  T heun = 0;                    ///< 1 + D / ln(1 - D)
  T x_factor = 0, f_factor = 0;  ///< x_s = x_factor x_t + f_factor f
};

/// x = alpha y + sigma eps. Inputs: y, eps. Output: x.
template <class T>
struct perturb_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const ode_row<T>& p, T y, T eps) const noexcept {
    return {{p.alpha * y + p.sigma * eps}, T{0}};
  }
};

/// x = sigma eps: the start of every trajectory. Input: eps. Output: x.
template <class T>
struct start_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const ode_row<T>& p, T eps) const noexcept {
    return {{p.sigma * eps}, T{0}};
  }
};

/// Euler in signal space, exact for a constant f: y_s = y_t + D (f - y_t), and x_s behind it.
/// Inputs: y_t, f, eps. Outputs: y_s, x_s = alpha_s y_s + sigma_s eps.
template <class T>
struct signal_euler_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<2, T> operator()(const ode_row<T>& p, T y, T f, T eps) const noexcept {
    const T next = y + p.step * (f - y);
    return {{next, p.alpha * next + p.sigma * eps}, T{0}};
  }
};

/// Heun's second half: y_s = y~_s + h (f2 - f1). Inputs: y~_s, f1, f2, eps. Outputs: y_s, x_s.
template <class T>
struct signal_heun_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<2, T> operator()(const ode_row<T>& p, T y, T f1, T f2,
                                                            T eps) const noexcept {
    const T next = y + p.heun * (f2 - f1);
    return {{next, p.alpha * next + p.sigma * eps}, T{0}};
  }
};

/// x_s = x_factor x_t + f_factor f: DDIM with eta = 0. Inputs: x_t, f. Output: x_s.
template <class T>
struct ddim_op {
  /// One element.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const ode_row<T>& p, T x, T f) const noexcept {
    return {{p.x_factor * x + p.f_factor * f}, T{0}};
  }
};

}  // namespace boot::inline v0
