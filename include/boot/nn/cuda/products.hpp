// SPDX-License-Identifier: MIT
/// Matrix products on boot::cuda by cuBLASLt: dense layers with their gradients, and the batched ones of attention.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/device/autotune.hpp>
#include <boot/device/cublas.hpp>
#include <boot/device/recording.hpp>
#include <boot/nn/team/operations.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

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
  int bias = 0;  // one number per row of D is added: the alignment of their address in bytes; 0: none
  bool tf32 = false;
  int tuned = 0;  // ways that were timed

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

/// The alignment of an address in bytes, at most 16.
[[nodiscard]] inline int alignment_of(std::uintptr_t address) noexcept {
  address |= 16u;
  return static_cast<int>(address & (~address + 1));
}

/// The type and alignment of a matrix of `m` that begins at `p`.
template <ProductScalar T>
void set_memory(cublas_matrix& m, const T* p, std::int64_t stride) {
  m.type = cublas_type<T>;
  m.stride = stride;
  m.alignment = alignment_of(reinterpret_cast<std::uintptr_t>(p) | (static_cast<std::uintptr_t>(stride) * sizeof(T)));
}

/// What a product reads and writes.
struct cublas_operands {
  float alpha = 1;
  const void *a = nullptr, *b = nullptr;
  float beta = 0;
  void* d = nullptr;
  const void* bias = nullptr;
};

/// How one product is computed: ways that the library offers, the one it expects to be fastest first.
class cublas_plan {
 public:
  static constexpr std::size_t most_workspace = std::size_t{32} << 20;  // what the library's guide names for Hopper
  static constexpr int fewest_ways = 8, most_ways = 32;  // asked for: what was offered may be refused when it is run

  /// `bias`: an address as aligned as those of later calls.
  cublas_plan(cublasLtHandle_t handle, const cublas_product& p, const void* bias) : handle_(handle) {
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
    if (p.bias != 0) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, p.d.type);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);  // the heuristics look at its alignment
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
    std::array<cublasLtMatmulHeuristicResult_t, most_ways> found{};
    int count = 0;
    check(
        cublasLtMatmulAlgoGetHeuristic(handle, description_, layouts_[0], layouts_[1], layouts_[2], layouts_[2],
                                       wishes.value, std::clamp(p.tuned, fewest_ways, most_ways), found.data(), &count),
        "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < count; ++i) {
      const auto& f = found[static_cast<std::size_t>(i)];
      if (f.state == CUBLAS_STATUS_SUCCESS) ways_.push_back({f.algo, f.workspaceSize});
    }
    check(ways_.empty() ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS, "cublasLtMatmulAlgoGetHeuristic");
  }
  cublas_plan(const cublas_plan&) = delete;
  cublas_plan& operator=(const cublas_plan&) = delete;
  ~cublas_plan() {
    for (const auto layout : layouts_)
      if (layout != nullptr) static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
    if (description_ != nullptr) static_cast<void>(cublasLtMatmulDescDestroy(description_));
  }

  /// Goes on with the fastest way only, by timing `operands`, whose result is lost.
  void tune(const cuda& dev, const cublas_operands& operands) {
    std::size_t most = 0;
    for (const way& w : ways_) most = std::max(most, w.workspace);
    const buffer<cuda> workspace(dev, most);  // given back: a trial's need not stay
    keep(fastest_way(dev, ways_.size(), [&](std::size_t i) {
      check_cublas(attempt(ways_[i], dev.stream, operands, workspace.data()), "cublasLtMatmul", "choice {} of {}", i,
                   ways_.size());
    }));
  }
  /// Enqueues the product, the first time in the first way that the library does not refuse.
  void run(const cuda& dev, const cublas_operands& operands) {
    static constexpr int workspace_slot = 2;
    cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
    for (std::size_t i = 0; i < ways_.size(); ++i) {
      status = attempt(ways_[i], dev.stream, operands, device_scratch(dev, ways_[i].workspace, workspace_slot));
      if (status == CUBLAS_STATUS_SUCCESS) {
        if (ways_.size() > 1) keep(i);
        return;
      }
      if (status != CUBLAS_STATUS_NOT_SUPPORTED) break;
    }
    check_cublas(status, "cublasLtMatmul", "alpha {}, beta {}, {} ways", operands.alpha, operands.beta, ways_.size());
  }

 private:
  struct way {  // the library's own struct has no name, which nvcc 13.0 does not survive in a vector
    cublasLtMatmulAlgo_t algorithm;
    std::size_t workspace;  // bytes
  };
  void keep(std::size_t i) {
    ways_[0] = ways_[i];
    ways_.erase(ways_.begin() + 1, ways_.end());
  }
  [[nodiscard]] cublasStatus_t attempt(const way& chosen, cudaStream_t stream, const cublas_operands& o, void* memory) {
    if (o.bias != nullptr)
      check_cublas(
          cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o.bias, sizeof o.bias),
          "cublasLtMatmulDescSetAttribute", "the bias");
    return cublasLtMatmul(handle_, description_, &o.alpha, o.a, layouts_[0], o.b, layouts_[1], &o.beta, o.d,
                          layouts_[2], o.d, layouts_[2], &chosen.algorithm, memory, chosen.workspace, stream);
  }

  cublasLtHandle_t handle_;
  cublasLtMatmulDesc_t description_ = nullptr;
  std::array<cublasLtMatrixLayout_t, 3> layouts_{};
  std::vector<way> ways_;
};

/// A stream's handle and plans.
struct cublas_plans {
  cublas_handle handle;
  std::map<cublas_product, cublas_plan> all;

  /// The plan of a product and whether it is new.
  std::pair<cublas_plan&, bool> get(const cublas_product& p, const void* bias) {
    const auto [at, is_new] = all.try_emplace(p, handle.get(), p, bias);
    return {at->second, is_new};
  }
};

/// Row-major C = alpha op(A) op(B) + beta C + bias. A and B of type T, C of type C. `bias`: one number per column of C,
/// or null; float, or as C.
template <ProductScalar T, ProductScalar C, ProductScalar B = float>
void multiply(const cuda& dev, cublas_product p, float alpha, const T* a, std::int64_t stride_a, const T* b,
              std::int64_t stride_b, float beta, C* c, std::int64_t stride_c, const B* bias = nullptr) {
  static_assert(std::same_as<B, C> || std::same_as<B, float>);
  static constexpr int bias_slot = 0;
  if (p.d.rows == 0 || p.d.columns == 0 || p.batch == 0) return;
  if (!enqueues(6, p.d.rows, p.d.columns, p.k(), p.batch)) return;
  require(p.k() > 0, "boot: a product [{}, 0] x [0, {}]; its inner dimension must be positive", p.d.columns, p.d.rows);
  require(p.batch <= INT32_MAX, "boot: a product of {} matrices; at most {}: use a smaller batch", p.batch, INT32_MAX);
  set_memory(p.a, b, p.batch > 1 ? stride_b : 0);
  set_memory(p.b, a, p.batch > 1 ? stride_a : 0);
  set_memory(p.d, c, p.batch > 1 ? stride_c : 0);
  p.tf32 = std::same_as<T, float> && dev.tf32;
  p.tuned = dev.autotune;
  // The library adds a bias of the result's type only.
  const bool converts = !std::same_as<B, C> && bias != nullptr;
  if (bias != nullptr) p.bias = converts ? 16 : alignment_of(reinterpret_cast<std::uintptr_t>(bias));
  const std::size_t bias_bytes = converts ? (static_cast<std::size_t>(p.d.rows) * sizeof(C) + 255) / 256 * 256 : 0;
  auto* const added = static_cast<std::byte*>(device_scratch(dev, bias_bytes, bias_slot));
  cublas_operands operands{alpha, b, a, beta, c, bias};
  if constexpr (!std::same_as<B, C>) {
    if (converts) {
      operands.bias = added;
      const recording_scope part_of_this_call(nullptr);  // the stream captures it, rehearsals have left it out
      convert(dev, view<const B, cuda>{bias, {p.d.rows}}, view<C, cuda>{reinterpret_cast<C*>(added), {p.d.rows}});
    }
  }
  auto [plan, is_new] = per_stream<cublas_plans>(dev).get(p, operands.bias);
  if (is_new && dev.autotune > 1 && !is_captured(dev.stream)) {
    const std::int64_t numbers = (p.batch - 1) * p.d.stride + (p.d.columns - 1) * p.d.ld + p.d.rows;
    const buffer<cuda> lost(dev, static_cast<std::size_t>(numbers) * sizeof(C));
    fill_zero(dev, lost.data(), lost.bytes());
    cublas_operands trial = operands;
    trial.d = lost.data();
    plan.tune(dev, trial);
  }
  plan.run(dev, operands);
}

}  // namespace detail

namespace detail {
template <ProductScalar T, ProductScalar B>
void linear(const cuda& dev, view<const T, cuda> x, view<const T, cuda> weight, const B* bias, view<T, cuda> y) {
  const std::int64_t out = weight.extents()[0], in = weight.extents()[1], rows = x.size() / (in > 0 ? in : 1);
  multiply(dev, cublas_from_rows(rows, out, in, in, false, in, true, out), 1, x.data(), 0, weight.data(), 0, 0,
           y.data(), 0, bias);
}
}  // namespace detail

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <ProductScalar T>
void linear_forward(const cuda& dev, view<const T, cuda> x, view<const T, cuda> weight, const float* bias,
                    view<T, cuda> y) {
  detail::linear(dev, x, weight, bias, y);
}
/// The same with a bias that was rounded before: the library adds one of the result's type only.
inline void linear_forward(const cuda& dev, view<const bf16, cuda> x, view<const bf16, cuda> weight, const bf16* bias,
                           view<bf16, cuda> y) {
  detail::linear(dev, x, weight, bias, y);
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
