// SPDX-License-Identifier: MIT
/// Matrix products on boot::cuda by cuBLASLt: dense layers with their gradients, and the batched ones of attention.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/device/cublas.hpp>
#include <boot/device/recording.hpp>
#include <boot/nn/team/operations.hpp>
#include <boot/tensor/view.hpp>

#include <array>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <type_traits>
#include <utility>

namespace boot::inline v0 {

/// Numbers that cuBLASLt multiplies here: float in full precision (unless cuda::tf32), or bf16 summed in float.
template <class T>
concept ProductScalar = std::same_as<T, float> || std::same_as<T, bf16>;

namespace detail {

/// One matrix of a product as cuBLASLt takes it: column-major, `ld` numbers between columns.
struct cublas_matrix {
  std::int64_t rows = 0, columns = 0, ld = 0;
  std::int64_t stride = 0;  // numbers between the matrices of a batch
  int alignment = 16;       // bytes, of the address and of the stride: at most what a kernel could use
  cudaDataType_t type = CUDA_R_32F;
  bool transposed = false;

  auto operator<=>(const cublas_matrix&) const = default;
};

/// D = alpha op(A) op(B) + beta D for each of a batch, column-major: what decides how it is computed.
struct cublas_product {
  cublas_matrix a, b, d;
  std::int64_t batch = 1;
  bool bias = false;  // one number per row of D is added
  bool tf32 = false;

  auto operator<=>(const cublas_product&) const = default;
  [[nodiscard]] std::int64_t k() const noexcept { return a.transposed ? a.rows : a.columns; }
};

/// Row-major C = op(A) op(B), as the transposed product of the transposed matrices: row-major memory read column by
/// column is the transposed matrix. So A and B change places, and a bias per column of C is one per row of D.
[[nodiscard]] inline cublas_product cublas_from_rows(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t lda,
                                                     bool transpose_a, std::int64_t ldb, bool transpose_b,
                                                     std::int64_t ldc) {
  cublas_product p;
  p.a = {.rows = transpose_b ? k : n, .columns = transpose_b ? n : k, .ld = ldb, .transposed = transpose_b};
  p.b = {.rows = transpose_a ? m : k, .columns = transpose_a ? k : m, .ld = lda, .transposed = transpose_a};
  p.d = {.rows = n, .columns = m, .ld = ldc};
  return p;
}

template <ProductScalar T>
inline constexpr cudaDataType_t cublas_type = std::same_as<T, float> ? CUDA_R_32F : CUDA_R_16BF;

/// The type and alignment of a matrix of `m` that begins at `p`.
template <ProductScalar T>
void set_memory(cublas_matrix& m, const T* p, std::int64_t stride) {
  m.type = cublas_type<T>;
  m.stride = stride;
  const std::uint64_t bits =
      reinterpret_cast<std::uintptr_t>(p) | (static_cast<std::uint64_t>(stride) * sizeof(T)) | 16u;
  m.alignment = static_cast<int>(bits & (~bits + 1));
}

/// How one product is computed, chosen once by the library's heuristics.
class cublas_plan {
 public:
  static constexpr std::size_t most_workspace = std::size_t{32} << 20;  // what the library's guide names for Hopper

  cublas_plan(cublasLtHandle_t handle, const cublas_product& p) {
    const auto check = [&](cublasStatus_t status, const char* call) {
      check_cublas(status, call, "a product [{}, {}] x [{}, {}], batch {}, types {} {} {}", p.d.columns, p.k(), p.k(),
                   p.d.rows, p.batch, static_cast<int>(p.b.type), static_cast<int>(p.a.type),
                   static_cast<int>(p.d.type));
    };
    check(
        cublasLtMatmulDescCreate(&description_, p.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
    const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
      check(cublasLtMatmulDescSetAttribute(description_, name, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
    };
    const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    set(CUBLASLT_MATMUL_DESC_TRANSA, operation(p.a.transposed));
    set(CUBLASLT_MATMUL_DESC_TRANSB, operation(p.b.transposed));
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, p.d.type);
    }
    const cublas_matrix* const matrices[3] = {&p.a, &p.b, &p.d};
    for (std::size_t i = 0; i < 3; ++i) {
      const cublas_matrix& m = *matrices[i];
      check(cublasLtMatrixLayoutCreate(&layouts_[i], m.type, static_cast<std::uint64_t>(m.rows),
                                       static_cast<std::uint64_t>(m.columns), m.ld),
            "cublasLtMatrixLayoutCreate");
      if (p.batch == 1) continue;
      const auto batch = static_cast<std::int32_t>(p.batch);
      check(cublasLtMatrixLayoutSetAttribute(layouts_[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch),
            "cublasLtMatrixLayoutSetAttribute");
      check(cublasLtMatrixLayoutSetAttribute(layouts_[i], CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.stride,
                                             sizeof m.stride),
            "cublasLtMatrixLayoutSetAttribute");
    }
    struct preference {
      cublasLtMatmulPreference_t value = nullptr;
      ~preference() {
        if (value != nullptr) static_cast<void>(cublasLtMatmulPreferenceDestroy(value));
      }
    } wishes;
    check(cublasLtMatmulPreferenceCreate(&wishes.value), "cublasLtMatmulPreferenceCreate");
    const auto wish = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(wishes.value, name, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    wish(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace);
    // Partial sums are added in a fixed order, in float: the other schemes add in the order of arrival or round between.
    wish(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(p.a.alignment));
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(p.b.alignment));
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(p.d.alignment));
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(p.d.alignment));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle, description_, layouts_[0], layouts_[1], layouts_[2], layouts_[2],
                                         wishes.value, 1, &found, &count),
          "cublasLtMatmulAlgoGetHeuristic");
    check(count > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
    algorithm_ = found.algo;
    workspace_ = found.workspaceSize;
  }
  cublas_plan(const cublas_plan&) = delete;
  cublas_plan& operator=(const cublas_plan&) = delete;
  ~cublas_plan() {
    for (const auto layout : layouts_)
      if (layout != nullptr) static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
    if (description_ != nullptr) static_cast<void>(cublasLtMatmulDescDestroy(description_));
  }

  /// Bytes of device memory that run() needs.
  [[nodiscard]] std::size_t workspace() const noexcept { return workspace_; }

  void run(cublasLtHandle_t handle, cudaStream_t stream, float alpha, const void* a, const void* b, float beta, void* d,
           const void* bias, void* memory) {
    if (bias != nullptr)
      check_cublas(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                   "cublasLtMatmulDescSetAttribute", "the bias");
    check_cublas(cublasLtMatmul(handle, description_, &alpha, a, layouts_[0], b, layouts_[1], &beta, d, layouts_[2], d,
                                layouts_[2], &algorithm_, memory, workspace_, stream),
                 "cublasLtMatmul", "alpha {}, beta {}, {} bytes of workspace", alpha, beta, workspace_);
  }

 private:
  cublasLtMatmulDesc_t description_ = nullptr;
  std::array<cublasLtMatrixLayout_t, 3> layouts_{};
  cublasLtMatmulAlgo_t algorithm_{};
  std::size_t workspace_ = 0;
};

/// A stream's handle and plans.
struct cublas_plans {
  cublas_handle handle;
  std::map<cublas_product, cublas_plan> all;

  cublas_plan& get(const cublas_product& p) {
    const auto found = all.find(p);
    return found != all.end() ? found->second : all.try_emplace(p, handle.get(), p).first->second;
  }
};

/// Row-major C = alpha op(A) op(B) + beta C + bias. A and B of type T, C of type C. `bias`: one number per column of C,
/// or null.
template <ProductScalar T, ProductScalar C>
void multiply(const cuda& dev, cublas_product p, float alpha, const T* a, std::int64_t stride_a, const T* b,
              std::int64_t stride_b, float beta, C* c, std::int64_t stride_c, const float* bias = nullptr) {
  static constexpr int workspace_slot = 2;
  if (p.d.rows == 0 || p.d.columns == 0 || p.batch == 0) return;
  if (!enqueues(6, p.d.rows, p.d.columns, p.k(), p.batch)) return;
  require(p.k() > 0, "boot: a product [{}, 0] x [0, {}]; its inner dimension must be positive", p.d.columns, p.d.rows);
  require(p.batch <= INT32_MAX, "boot: a product of {} matrices; at most {}: use a smaller batch", p.batch, INT32_MAX);
  set_memory(p.a, b, p.batch > 1 ? stride_b : 0);
  set_memory(p.b, a, p.batch > 1 ? stride_a : 0);
  set_memory(p.d, c, p.batch > 1 ? stride_c : 0);
  p.bias = bias != nullptr;
  p.tf32 = std::same_as<T, float> && dev.tf32;
  auto& plans = per_stream<cublas_plans>(dev);
  cublas_plan& plan = plans.get(p);
  const std::size_t kept = (plan.workspace() + 255) / 256 * 256;
  const bool narrow = std::same_as<C, bf16> && bias != nullptr;
  auto* const memory = static_cast<std::byte*>(
      device_scratch(dev, kept + (narrow ? static_cast<std::size_t>(p.d.rows) * sizeof(C) : 0), workspace_slot));
  const void* added = bias;
  if constexpr (std::same_as<C, bf16>) {  // the library adds a bias of the result's type only
    if (narrow) {
      auto* const to = reinterpret_cast<bf16*>(memory + kept);
      const recording_scope part_of_this_call(nullptr);  // the stream captures it, rehearsals have left it out
      convert(dev, view<const float, cuda>{bias, {p.d.rows}}, view<bf16, cuda>{to, {p.d.rows}});
      added = to;
    }
  }
  plan.run(plans.handle.get(), dev.stream, alpha, b, a, beta, c, added, memory);
}

}  // namespace detail

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <ProductScalar T>
void linear_forward(const cuda& dev, view<const T, cuda> x, view<const T, cuda> weight, const float* bias,
                    view<T, cuda> y) {
  const std::int64_t out = weight.extents()[0], in = weight.extents()[1], rows = x.size() / (in > 0 ? in : 1);
  detail::multiply(dev, detail::cublas_from_rows(rows, out, in, in, false, in, true, out), 1, x.data(), 0,
                   weight.data(), 0, 0, y.data(), 0, bias);
}
/// dx[rows, in] (+)= dy[rows, out] weight[out, in].
template <ProductScalar T>
void linear_input_gradient(const cuda& dev, view<const T, cuda> dy, view<const T, cuda> weight, view<T, cuda> dx,
                           bool accumulate) {
  const std::int64_t out = weight.extents()[0], in = weight.extents()[1], rows = dy.size() / (out > 0 ? out : 1);
  detail::multiply(dev, detail::cublas_from_rows(rows, in, out, out, false, in, false, in), 1, dy.data(), 0,
                   weight.data(), 0, accumulate ? 1.0f : 0.0f, dx.data(), 0);
}
/// dweight[out, in] (+)= dy[rows, out]^T x[rows, in], in float.
template <ProductScalar T>
void linear_weight_gradient(const cuda& dev, view<const T, cuda> dy, view<const T, cuda> x, view<float, cuda> dweight,
                            bool accumulate) {
  const std::int64_t out = dweight.extents()[0], in = dweight.extents()[1], rows = dy.size() / (out > 0 ? out : 1);
  if (rows == 0) {
    if (!accumulate) fill_zero(dev, dweight.data(), static_cast<std::size_t>(dweight.size()) * sizeof(float));
    return;
  }
  detail::multiply(dev, detail::cublas_from_rows(out, in, rows, out, true, in, false, in), 1, dy.data(), 0, x.data(), 0,
                   accumulate ? 1.0f : 0.0f, dweight.data(), 0);
}

/// C_i = alpha op(A_i) op(B_i) + beta C_i for i < batch: row-major, C is m x n, op(A) m x k, op(B) k x n, op transposes
/// where asked. Rows lie ld... apart, matrices of a batch stride_...; C is not read for beta = 0.
template <ProductScalar T>
void batched_product(const cuda& dev, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                     const T* a, std::int64_t lda, std::int64_t stride_a, bool transpose_a, const T* b,
                     std::int64_t ldb, std::int64_t stride_b, bool transpose_b, float beta, T* c, std::int64_t ldc,
                     std::int64_t stride_c) {
  detail::cublas_product p = detail::cublas_from_rows(m, n, k, lda, transpose_a, ldb, transpose_b, ldc);
  p.batch = batch;
  detail::multiply(dev, p, alpha, a, stride_a, b, stride_b, beta, c, stride_c);
}

}  // namespace boot::inline v0
