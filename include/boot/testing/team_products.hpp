// SPDX-License-Identifier: MIT
/// Matrix products of the test device by boot::cpu's functions on the same memory: on boot::cuda they are cuBLASLt's.
#pragma once

#include <boot/nn/cpu/convolution.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/testing/team_device.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

namespace detail {
template <class T>
[[nodiscard]] view<T, cpu> team_on_cpu(const view<T, team_device>& v) {
  return {v.data(), v.extents()};
}
}  // namespace detail

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <ComputeScalar T>
void linear_forward(const team_device& dev, view<const T, team_device> x, view<const T, team_device> weight,
                    const T* bias, view<T, team_device> y) {
  enqueue(dev, [=] {
    boot::linear_forward(cpu{1}, detail::team_on_cpu(x), detail::team_on_cpu(weight), bias, detail::team_on_cpu(y));
  });
}
/// dx[rows, in] (+)= dy[rows, out] weight[out, in].
template <ComputeScalar T>
void linear_input_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> weight,
                           view<T, team_device> dx, bool accumulate) {
  enqueue(dev, [=] {
    boot::linear_input_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(weight), detail::team_on_cpu(dx),
                                accumulate);
  });
}
/// dweight[out, in] (+)= dy[rows, out]^T x[rows, in].
template <ComputeScalar T>
void linear_weight_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> x,
                            view<T, team_device> dweight, bool accumulate) {
  enqueue(dev, [=] {
    boot::linear_weight_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(x), detail::team_on_cpu(dweight),
                                 accumulate);
  });
}

/// y = convolution of x with weight [out, k, k, in], plus bias[out] (may be null): see boot::cpu's.
template <ComputeScalar T>
void conv2d_forward(const team_device& dev, view<const T, team_device> x, view<const T, team_device> weight,
                    const T* bias, std::int64_t stride, std::int64_t before, view<T, team_device> y) {
  enqueue(dev, [=] {
    boot::conv2d_forward(cpu{1}, detail::team_on_cpu(x), detail::team_on_cpu(weight), bias, stride, before,
                         detail::team_on_cpu(y));
  });
}
/// dx (+)= the gradient of conv2d_forward() with respect to x.
template <ComputeScalar T>
void conv2d_input_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> weight,
                           std::int64_t stride, std::int64_t before, view<T, team_device> dx, bool accumulate) {
  enqueue(dev, [=] {
    boot::conv2d_input_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(weight), stride, before,
                                detail::team_on_cpu(dx), accumulate);
  });
}
/// dweight (+)= the gradient of conv2d_forward() with respect to weight.
template <ComputeScalar T>
void conv2d_weight_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> x,
                            std::int64_t stride, std::int64_t before, view<T, team_device> dweight, bool accumulate) {
  enqueue(dev, [=] {
    boot::conv2d_weight_gradient(cpu{1}, detail::team_on_cpu(dy), detail::team_on_cpu(x), stride, before,
                                 detail::team_on_cpu(dweight), accumulate);
  });
}

/// C_i = alpha op(A_i) op(B_i) + beta C_i for i < batch: row-major, C is m x n, op(A) m x k, op(B) k x n, op transposes
/// where asked. Rows lie ld... apart, matrices of a batch stride_...; C is not read for beta = 0.
template <ComputeScalar T>
void batched_product(const team_device& dev, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k,
                     T alpha, const T* a, std::int64_t lda, std::int64_t stride_a, bool transpose_a, const T* b,
                     std::int64_t ldb, std::int64_t stride_b, bool transpose_b, T beta, T* c, std::int64_t ldc,
                     std::int64_t stride_c) {
  enqueue(dev, [=] {
    std::vector<T> product(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < batch; ++i) {
      const T *const x = a + i * stride_a, *const y = b + i * stride_b;
      gemm<T>(cpu{1}, m, n, k, transpose_a ? matrix<T>{x, 1, lda} : matrix<T>{x, lda, 1},
              transpose_b ? matrix<T>{y, 1, ldb} : matrix<T>{y, ldb, 1}, product.data(), n);
      for (std::int64_t r = 0; r < m; ++r)
        for (std::int64_t j = 0; j < n; ++j) {
          T& to = c[i * stride_c + r * ldc + j];
          const T value = alpha * product[static_cast<std::size_t>(r * n + j)];
          to = beta == T{0} ? value : value + beta * to;
        }
    }
  });
}

}  // namespace boot::inline v0
