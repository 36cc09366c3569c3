// SPDX-License-Identifier: MIT
/// Matrix products of the test device by boot::cpu's functions on the same memory: on boot::cuda they are cuBLASLt's.
#pragma once

#include <boot/nn/cpu/convolution.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/testing/team_device.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace boot::inline v0 {

namespace detail {
// An array for boot::cpu's functions: the memory itself, or for bf16 a copy in float, rounded back at the end if written.
template <class T>
class team_numbers {
 public:
  static constexpr bool copied = std::same_as<std::remove_const_t<T>, bf16>;
  using C = std::conditional_t<copied, std::conditional_t<std::is_const_v<T>, const float, float>, T>;

  explicit team_numbers(const view<T, team_device>& v) : v_(v) {
    if constexpr (copied) {
      copy_.resize(static_cast<std::size_t>(v.size()));
      for (std::size_t i = 0; i < copy_.size(); ++i) copy_[i] = static_cast<float>(v.data()[i]);
    }
  }
  team_numbers(const team_numbers&) = delete;
  team_numbers& operator=(const team_numbers&) = delete;
  ~team_numbers() {
    if constexpr (copied && !std::is_const_v<T>)
      for (std::size_t i = 0; i < copy_.size(); ++i) store(v_.data()[i], copy_[i]);
  }
  [[nodiscard]] view<C, cpu> on_cpu() {
    if constexpr (copied) {
      return {copy_.data(), v_.extents()};
    } else {
      return {v_.data(), v_.extents()};
    }
  }

 private:
  view<T, team_device> v_;
  std::vector<float> copy_;
};
template <class T>
team_numbers(const view<T, team_device>&) -> team_numbers<T>;
}  // namespace detail

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <StorageScalar T>
void linear_forward(const team_device& dev, view<const T, team_device> x, view<const T, team_device> weight,
                    const compute_type<T>* bias, view<T, team_device> y) {
  enqueue(dev, [=] {
    boot::linear_forward(cpu{1}, detail::team_numbers(x).on_cpu(), detail::team_numbers(weight).on_cpu(), bias,
                         detail::team_numbers(y).on_cpu());
  });
}
/// The same with a bias that was rounded before.
inline void linear_forward(const team_device& dev, view<const bf16, team_device> x,
                           view<const bf16, team_device> weight, const bf16* bias, view<bf16, team_device> y) {
  enqueue(dev, [=] {
    const shape columns = bias == nullptr ? shape{0} : shape{weight.extents()[0]};
    detail::team_numbers in_full(view<const bf16, team_device>(bias, columns));
    boot::linear_forward(cpu{1}, detail::team_numbers(x).on_cpu(), detail::team_numbers(weight).on_cpu(),
                         bias == nullptr ? nullptr : in_full.on_cpu().data(), detail::team_numbers(y).on_cpu());
  });
}
/// dx[rows, in] (+)= dy[rows, out] weight[out, in].
template <StorageScalar T>
void linear_input_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> weight,
                           view<T, team_device> dx, bool accumulate) {
  enqueue(dev, [=] {
    boot::linear_input_gradient(cpu{1}, detail::team_numbers(dy).on_cpu(), detail::team_numbers(weight).on_cpu(),
                                detail::team_numbers(dx).on_cpu(), accumulate);
  });
}
/// dweight[out, in] (+)= dy[rows, out]^T x[rows, in].
template <StorageScalar T>
void linear_weight_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> x,
                            view<compute_type<T>, team_device> dweight, bool accumulate) {
  enqueue(dev, [=] {
    boot::linear_weight_gradient(cpu{1}, detail::team_numbers(dy).on_cpu(), detail::team_numbers(x).on_cpu(),
                                 detail::team_numbers(dweight).on_cpu(), accumulate);
  });
}

/// y = convolution of x with weight [out, k, k, in], plus bias[out] (may be null): see boot::cpu's.
template <StorageScalar T>
void conv2d_forward(const team_device& dev, view<const T, team_device> x, view<const T, team_device> weight,
                    const compute_type<T>* bias, std::int64_t stride, std::int64_t before, view<T, team_device> y) {
  enqueue(dev, [=] {
    boot::conv2d_forward(cpu{1}, detail::team_numbers(x).on_cpu(), detail::team_numbers(weight).on_cpu(), bias, stride,
                         before, detail::team_numbers(y).on_cpu());
  });
}
/// dx (+)= the gradient of conv2d_forward() with respect to x.
template <StorageScalar T>
void conv2d_input_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> weight,
                           std::int64_t stride, std::int64_t before, view<T, team_device> dx, bool accumulate) {
  enqueue(dev, [=] {
    boot::conv2d_input_gradient(cpu{1}, detail::team_numbers(dy).on_cpu(), detail::team_numbers(weight).on_cpu(),
                                stride, before, detail::team_numbers(dx).on_cpu(), accumulate);
  });
}
/// dweight (+)= the gradient of conv2d_forward() with respect to weight.
template <StorageScalar T>
void conv2d_weight_gradient(const team_device& dev, view<const T, team_device> dy, view<const T, team_device> x,
                            std::int64_t stride, std::int64_t before, view<compute_type<T>, team_device> dweight,
                            bool accumulate) {
  enqueue(dev, [=] {
    boot::conv2d_weight_gradient(cpu{1}, detail::team_numbers(dy).on_cpu(), detail::team_numbers(x).on_cpu(), stride,
                                 before, detail::team_numbers(dweight).on_cpu(), accumulate);
  });
}

/// C_i = alpha op(A_i) op(B_i) + beta C_i for i < batch: row-major, C is m x n, op(A) m x k, op(B) k x n, op transposes
/// where asked. Rows lie ld... apart, matrices of a batch stride_...; C is not read for beta = 0.
template <StorageScalar T>
void batched_product(const team_device& dev, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k,
                     compute_type<T> alpha, const T* a, std::int64_t lda, std::int64_t stride_a, bool transpose_a,
                     const T* b, std::int64_t ldb, std::int64_t stride_b, bool transpose_b, compute_type<T> beta, T* c,
                     std::int64_t ldc, std::int64_t stride_c) {
  using C = compute_type<T>;
  enqueue(dev, [=] {
    const auto gathered = [](const T* from, std::int64_t rows, std::int64_t columns, std::int64_t ld, bool transposed) {
      std::vector<C> to;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
          to.push_back(static_cast<C>(from[transposed ? j * ld + i : i * ld + j]));
      return to;
    };
    std::vector<C> product(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto x = gathered(a + i * stride_a, m, k, lda, transpose_a);
      const auto y = gathered(b + i * stride_b, k, n, ldb, transpose_b);
      gemm<C>(cpu{1}, m, n, k, matrix<C>{x.data(), k, 1}, matrix<C>{y.data(), n, 1}, product.data(), n);
      for (std::int64_t r = 0; r < m; ++r)
        for (std::int64_t j = 0; j < n; ++j) {
          T& to = c[i * stride_c + r * ldc + j];
          const C value = alpha * product[static_cast<std::size_t>(r * n + j)];
          store(to, beta == C{0} ? value : value + beta * static_cast<C>(to));
        }
    }
  });
}

}  // namespace boot::inline v0
