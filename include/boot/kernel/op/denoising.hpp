// SPDX-License-Identifier: MIT
/// The denoising loss of one element: a network's raw output against the exact output for known signal and noise.
#pragma once

#include <boot/config.hpp>
#include <boot/kernel/pack.hpp>

namespace boot::inline v0 {

/// One sample's numbers for the denoising kernel, computed on the host in float64.
template <class T>
struct denoising_row {
  T scale;           ///< factor of the network's output in the residual
  T signal, noise;   ///< the wanted value of scale * out is signal x0 + noise eps
  T weight;          ///< factor of the sample's loss
  T loss_scale;      ///< 1 / elements, over samples
  T gradient_scale;  ///< d loss / d rho times `scale`
};

/// r = scale out - (signal x0 + noise eps). Inputs: out, x0, eps.
template <class T, class Distance>
struct denoising_op {
  Distance distance;  ///< rho
  /// The gradient with respect to the network's output and the weighted loss term.
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const denoising_row<T>& p, T out, T x0,
                                                            T eps) const noexcept {
    const T r = p.scale * out - (p.signal * x0 + p.noise * eps);
    return {{p.gradient_scale * p.weight * distance.derivative(r)}, p.loss_scale * p.weight * distance.value(r)};
  }
};

}  // namespace boot::inline v0
