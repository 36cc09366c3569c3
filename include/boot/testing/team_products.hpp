// SPDX-License-Identifier: MIT
/// Matrix products of the test device by boot::cpu's functions on the same memory: on boot::cuda they are cuBLASLt's.
#pragma once

#include <boot/nn/cpu/operations.hpp>
#include <boot/testing/team_device.hpp>

namespace boot::inline v0 {

namespace detail {
template <class T>
[[nodiscard]] view<T, cpu> team_on_cpu(const view<T, team_device>& v) {
  return {v.data(), v.extents()};
}
}  // namespace detail

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <ComputeScalar T>
void linear_forward(const team_device&, view<const T, team_device> x, view<const T, team_device> weight, const T* bias,
                    view<T, team_device> y) {
  boot::linear_forward(cpu{1}, detail::team_on_cpu(x), detail::team_on_cpu(weight), bias, detail::team_on_cpu(y));
}
/// dx[rows, in] (+)= dy[rows, out] weight[out, in].
template <ComputeScalar T>
void linear_input_gradient(const team_device&, view<const T, team_device> dy, view<const T, team_device> weight,
                           view<T, team_device> dx, bool accumulate) {
  boot::linear_input_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(weight), detail::team_on_cpu(dx),
                              accumulate);
}
/// dweight[out, in] (+)= dy[rows, out]^T x[rows, in].
template <ComputeScalar T>
void linear_weight_gradient(const team_device&, view<const T, team_device> dy, view<const T, team_device> x,
                            view<T, team_device> dweight, bool accumulate) {
  boot::linear_weight_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(x), detail::team_on_cpu(dweight),
                               accumulate);
}

}  // namespace boot::inline v0
