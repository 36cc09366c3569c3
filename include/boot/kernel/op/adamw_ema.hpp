// SPDX-License-Identifier: MIT
/// One parameter's update: clip scale, AdamW and up to four exponential moving averages in one pass.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>

#include <cstdint>

namespace boot::inline v0 {

/// Averages one pass can keep up with.
inline constexpr int max_averages = 4;

/// What changes from step to step, read through a pointer (never a kernel value, so that a captured step stays valid).
template <class T>
struct adamw_row {
  T gradient_scale;            ///< clip factor, 1 when the norm is within bounds
  T rate;                      ///< learning rate of this step
  T decay;                     ///< weight decay coefficient
  T beta1, beta2;              ///< moment decays
  T correction1, correction2;  ///< 1 / (1 - beta1^k), 1 / sqrt(1 - beta2^k)
  T epsilon;                   ///< added to the root of the second moment
  T average[max_averages];     ///< 1 - decay of each average: e += average (p - e)
  T skip;                      ///< 1: leave everything as it is (a gradient that is not finite)
};

/// The factors of a parameter group.
template <class T>
struct group_row {
  T rate;   ///< multiplies the learning rate; 0 for a frozen group
  T decay;  ///< multiplies the weight decay
};

/// A range of parameters that share a group.
struct parameter_range {
  std::int64_t begin, end;  ///< elements of the flat arrays
  int group;                ///< index into the group rows
};

/// Updated state of one parameter.
template <class T>
struct adamw_state {
  T value, first, second;  ///< weight, first and second moment
};

/// AdamW (Loshchilov and Hutter 2019, decoupled decay, PyTorch's order of operations) on one parameter.
/// Inlined by force: without it the host loop is not vectorised (4 times slower, g++ 12 -O2).
template <class T>
[[nodiscard]] BOOT_HD BOOT_FORCE_INLINE adamw_state<T> adamw_update(const adamw_row<T>& p, const group_row<T>& g,
                                                                    T value, T gradient, T first, T second) noexcept {
  const T d = gradient * p.gradient_scale, rate = p.rate * g.rate;
  value -= rate * p.decay * g.decay * value;
  first += (T{1} - p.beta1) * (d - first);
  second += (T{1} - p.beta2) * (d * d - second);
  value -= math::quotient(rate * p.correction1 * first, math::sqrt(second) * p.correction2 + p.epsilon);
  return {value, first, second};
}

}  // namespace boot::inline v0
