// SPDX-License-Identifier: MIT
/// Convolutions on boot::cuda by cuDNN 9, and by cuBLASLt where the kernel is a single pixel.
#pragma once

#include <boot/device/autotune.hpp>
#include <boot/device/cudnn.hpp>
#include <boot/nn/cuda/products.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace boot::inline v0 {

namespace detail {

/// What a convolution computes.
enum class conv_pass { forward, input_gradient, weight_gradient };

/// A convolution of NHWC images with weights [out, k, k, in]: what decides how it is computed.
struct cudnn_convolution {
  conv_pass pass = conv_pass::forward;
  std::int64_t batch = 0, height = 0, width = 0, in = 0;  // of x
  std::int64_t out = 0, kernel = 0, stride = 1, before = 0;
  std::int64_t out_height = 0, out_width = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int alignment = 16;  // bytes, of all addresses: at most what a kernel could use
  bool tf32 = false;
  int tuned = 0;  // plans that were timed

  auto operator<=>(const cudnn_convolution&) const = default;
  /// Numbers of the largest of the three tensors.
  [[nodiscard]] std::int64_t largest() const noexcept {
    return std::max({batch * height * width * in, out * kernel * kernel * in, batch * out_height * out_width * out});
  }

  /// Zeros behind the image along an axis of `size` pixels and `results` outputs: as many as the last output needs.
  [[nodiscard]] std::int64_t after(std::int64_t size, std::int64_t results) const noexcept {
    const std::int64_t zeros = (results - 1) * stride + kernel - size - before;
    return zeros > 0 ? zeros : 0;
  }
  [[nodiscard]] std::string text() const {
    const char* const names[] = {"forward", "input gradient", "weight gradient"};
    return fmt::format(
        "the {} of a convolution of [{}, {}, {}, {}] to {} channels, kernel {}, stride {}, {} zeros before",
        names[static_cast<int>(pass)], batch, height, width, in, out, kernel, stride, before);
  }
};

/// Numbers of the tensors of a convolution's graph.
inline constexpr std::array<std::int64_t, 3> conv_tensors{1, 2, 3};  // x, weight, y

/// A tensor that cuDNN names [n, c, h, w] and that lies [n, h, w, c].
[[nodiscard]] inline cudnn_descriptor cudnn_image(std::int64_t id, const cudnn_convolution& p, std::int64_t n,
                                                  std::int64_t c, std::int64_t h, std::int64_t w) {
  const std::array<std::int64_t, 4> extents{n, c, h, w}, strides{h * w * c, 1, w * c, c};
  cudnn_descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, p.type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(extents));
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const std::int64_t>(strides));
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{p.alignment});
  d.finalize("a tensor of a convolution");
  return d;
}

/// Up to `most` plans of a convolution.
[[nodiscard]] inline std::vector<cudnn_plan> plan_convolution(const cudnn_target& target, const cudnn_convolution& p,
                                                              std::size_t most) {
  const cudnn_descriptor x = cudnn_image(conv_tensors[0], p, p.batch, p.in, p.height, p.width),
                         weight = cudnn_image(conv_tensors[1], p, p.out, p.in, p.kernel, p.kernel),
                         y = cudnn_image(conv_tensors[2], p, p.batch, p.out, p.out_height, p.out_width);
  const std::array<std::int64_t, 2> ones{1, 1}, strides{p.stride, p.stride}, before{p.before, p.before},
      after{p.after(p.height, p.out_height), p.after(p.width, p.out_width)};
  cudnn_descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2});
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(ones));
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, std::span<const std::int64_t>(strides));
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(before));
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(after));
  c.finalize("the geometry of a convolution");

  struct names {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t geometry, x, weight, y, alpha, beta;
  };
  static constexpr names all[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
  const names& n = all[static_cast<int>(p.pass)];
  cudnn_descriptor operation(n.operation);
  operation.set(n.geometry, c).set(n.x, x).set(n.weight, weight).set(n.y, y);
  operation.set(n.alpha, CUDNN_TYPE_FLOAT, 1.0f).set(n.beta, CUDNN_TYPE_FLOAT, 0.0f);
  operation.finalize(p.text());
  const std::array<const cudnn_descriptor*, 1> operations{&operation};
  return cudnn_plans(target, operations, {.full_precision = p.type == CUDNN_DATA_FLOAT && !p.tf32}, most, p.text());
}

/// A stream's handle and plans.
class cudnn_convolutions {
 public:
  /// Enqueues a convolution by the plan of its shape, which is chosen at the first call; `memory`: x, weight and y.
  void run(const cuda& dev, const cudnn_convolution& p, std::span<void* const> memory) {
    static constexpr int workspace_slot = 3;
    check_cudnn(cudnnSetStream(handle_.get(), dev.stream), "cudnnSetStream", "the stream of a convolution");
    auto found = all_.find(p);
    if (found == all_.end()) {
      if (is_captured(dev.stream)) {  // nothing can be tried now; the captured graph needs the plan as long as it lives
        const cudnn_plan& plan = captured_.emplace_back(std::move(plans(p, 1).front()));
        return plan.run(handle_.get(), conv_tensors, memory, device_scratch(dev, plan.workspace(), workspace_slot));
      }
      found = all_.emplace(p, choose(dev, p, memory)).first;
    }
    const cudnn_plan& plan = found->second;
    plan.run(handle_.get(), conv_tensors, memory, device_scratch(dev, plan.workspace(), workspace_slot));
  }

 private:
  [[nodiscard]] std::vector<cudnn_plan> plans(const cudnn_convolution& p, std::size_t most) const {
    return plan_convolution({.handle = handle_.get()}, p, most);
  }
  // Runs plans with the call's own operands: the result is written and not read, so running it again changes nothing.
  cudnn_plan choose(const cuda& dev, const cudnn_convolution& p, std::span<void* const> memory) const {
    const auto attempt = [&](const cudnn_plan& plan) {
      const buffer<cuda> workspace(dev, plan.workspace());  // given back: a trial's need not stay
      plan.run(handle_.get(), conv_tensors, memory, workspace.data());
    };
    auto found = plans(p, static_cast<std::size_t>(std::max(1, dev.autotune)));
    if (dev.autotune > 1) {
      const std::size_t bytes = static_cast<std::size_t>(p.largest()) * (p.type == CUDNN_DATA_FLOAT ? 4 : 2);
      const std::size_t room = std::max({std::size_t{64} << 20, 2 * bytes, found.front().workspace()});
      std::erase_if(found, [&](const cudnn_plan& plan) { return plan.workspace() > room; });
      return std::move(found[fastest_way(dev, found.size(), [&](std::size_t i) { attempt(found[i]); })]);
    }
    try {
      attempt(found.front());
      return std::move(found.front());
    } catch (const error&) {  // a plan that was made may still be refused when it is run
    }
    static constexpr std::size_t more = 8;
    found = plans(p, more);
    for (std::size_t i = 1; i < found.size(); ++i) {
      try {
        attempt(found[i]);
        return std::move(found[i]);
      } catch (const error&) {
      }
    }
    attempt(found.front());  // says what is wrong
    return std::move(found.front());
  }

  cudnn_handle handle_;
  std::map<cudnn_convolution, cudnn_plan> all_;
  std::deque<cudnn_plan> captured_;
};

/// Enqueues one pass; the pointers are those of x, weight and y, one of which is written.
template <ProductScalar T>
void convolve(const cuda& dev, cudnn_convolution p, const T* x, const T* weight, const T* y) {
  if (!enqueues(7, static_cast<int>(p.pass), p.batch, p.height, p.width, p.in, p.out)) return;
  const auto bits = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(weight) |
                    reinterpret_cast<std::uintptr_t>(y) | std::uintptr_t{16};
  p.alignment = static_cast<int>(bits & (~bits + 1));
  p.type = std::same_as<T, float> ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
  p.tf32 = std::same_as<T, float> && dev.tf32;
  p.tuned = std::max(1, dev.autotune);
  // The library takes addresses of inputs and results alike.
  const std::array<void*, 3> addresses{const_cast<T*>(x), const_cast<T*>(weight), const_cast<T*>(y)};
  per_stream<cudnn_convolutions>(dev).run(dev, p, addresses);
}

[[nodiscard]] inline cudnn_convolution cudnn_geometry(conv_pass pass, const shape& x, const shape& weight,
                                                      const shape& y, std::int64_t stride, std::int64_t before) {
  return {.pass = pass,
          .batch = x[0],
          .height = x[1],
          .width = x[2],
          .in = x[3],
          .out = weight[0],
          .kernel = weight[1],
          .stride = stride,
          .before = before,
          .out_height = y[1],
          .out_width = y[2]};
}

/// The weights of a single pixel as a matrix.
template <class T>
[[nodiscard]] view<T, cuda> pixel_matrix(const view<T, cuda>& weight) {
  return {weight.data(), {weight.extents()[0], weight.extents()[3]}};
}

// What is added to another gradient is computed beside it first.
inline constexpr int conv_result_slot = 2;

}  // namespace detail

/// y = convolution of x [batch, h, w, in] with weight [out, k, k, in], plus bias[out] (may be null), into
/// y [batch, h', w', out]. `before`: rows of zeros above x and columns of zeros on its left; what is missing below and
/// on the right is zero as well.
template <ProductScalar T>
void conv2d_forward(const cuda& dev, view<const T, cuda> x, view<const T, cuda> weight, const float* bias,
                    std::int64_t stride, std::int64_t before, view<T, cuda> y) {
  if (y.size() == 0) return;
  if (weight.extents()[1] == 1 && stride == 1) return linear_forward(dev, x, detail::pixel_matrix(weight), bias, y);
  detail::convolve<T>(
      dev,
      detail::cudnn_geometry(detail::conv_pass::forward, x.extents(), weight.extents(), y.extents(), stride, before),
      x.data(), weight.data(), y.data());
  const std::int64_t channels = weight.extents()[0];
  if (bias != nullptr)
    detail::launch_rows<cuda, T>(dev, 1, y.size() / channels, channels, y.data(), channels, y.data(), channels, nullptr,
                                 bias, 0, false);
}

/// dx (+)= the gradient of conv2d_forward() with respect to x, from dy [batch, h', w', out].
template <ProductScalar T>
void conv2d_input_gradient(const cuda& dev, view<const T, cuda> dy, view<const T, cuda> weight, std::int64_t stride,
                           std::int64_t before, view<T, cuda> dx, bool accumulate) {
  if (dx.size() == 0) return;
  if (weight.extents()[1] == 1 && stride == 1)
    return linear_input_gradient(dev, dy, detail::pixel_matrix(weight), dx, accumulate);
  const view<T, cuda> to =
      accumulate ? view<T, cuda>{static_cast<T*>(device_scratch(dev, static_cast<std::size_t>(dx.size()) * sizeof(T),
                                                                detail::conv_result_slot)),
                                 dx.extents()}
                 : dx;
  detail::convolve<T>(dev,
                      detail::cudnn_geometry(detail::conv_pass::input_gradient, dx.extents(), weight.extents(),
                                             dy.extents(), stride, before),
                      to.data(), weight.data(), dy.data());
  if (accumulate) add_to(dev, view<const T, cuda>(to), dx, true);
}

/// dweight [out, k, k, in] (+)= the gradient of conv2d_forward() with respect to the weights, in float. For bf16 each
/// sum is taken in float and rounded to bf16 once: cuDNN has no engine that keeps it.
template <ProductScalar T>
void conv2d_weight_gradient(const cuda& dev, view<const T, cuda> dy, view<const T, cuda> x, std::int64_t stride,
                            std::int64_t before, view<float, cuda> dweight, bool accumulate) {
  if (dweight.size() == 0) return;
  if (dy.size() == 0) {
    if (!accumulate) fill_zero(dev, dweight.data(), static_cast<std::size_t>(dweight.size()) * sizeof(float));
    return;
  }
  if (dweight.extents()[1] == 1 && stride == 1)
    return linear_weight_gradient(dev, dy, x, detail::pixel_matrix(dweight), accumulate);
  const auto geometry = detail::cudnn_geometry(detail::conv_pass::weight_gradient, x.extents(), dweight.extents(),
                                               dy.extents(), stride, before);
  if constexpr (std::same_as<T, float>) {
    if (!accumulate) return detail::convolve<T>(dev, geometry, x.data(), dweight.data(), dy.data());
  }
  T* const to = static_cast<T*>(
      device_scratch(dev, static_cast<std::size_t>(dweight.size()) * sizeof(T), detail::conv_result_slot));
  detail::convolve<T>(dev, geometry, x.data(), to, dy.data());
  map_elements(dev, dweight.size(), detail::team_same{}, accumulate, dweight.data(), static_cast<const T*>(to));
}

}  // namespace boot::inline v0
