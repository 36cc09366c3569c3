// SPDX-License-Identifier: MIT
/// Convolution over images: the operation and the layer. Images are NHWC, weights lie [out, k, k, in] in memory.
#pragma once

#include <boot/nn/graph.hpp>

#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

/// Where a convolution puts its zeros around an image.
enum class conv_padding {
  same,  ///< kernel / 2 on every side: stride 1 keeps the size
  end    ///< kernel - 2 below and on the right, none above and on the left: diffusers' downsample_padding 0
};

namespace detail {
/// Zeros above and on the left.
[[nodiscard]] constexpr std::int64_t conv_before(std::int64_t kernel, conv_padding p) noexcept {
  return p == conv_padding::same ? kernel / 2 : 0;
}
/// Zeros on both sides of one axis together.
[[nodiscard]] constexpr std::int64_t conv_zeros(std::int64_t kernel, conv_padding p) noexcept {
  return p == conv_padding::same ? kernel - 1 : kernel > 2 ? kernel - 2 : 0;
}
}  // namespace detail

/// y[b, i, j, o] = bias[o] + sum weight[o, m, n, c] x[b, i stride - before + m, j stride - before + n, c], where x is
/// zero outside the image. Operands: x [batch, height, width, in], weight [out, k, k, in], bias [out] (optional).
template <bool with_bias>
struct conv2d_op {
  std::int64_t stride = 1;                                           ///< pixels between two outputs, along both axes
  conv_padding padding = conv_padding::same;                         ///< zeros around x
  static constexpr unsigned saves = 0b011;                           ///< x and weight
  static constexpr unsigned parameters = with_bias ? 0b110 : 0b010;  ///< weight and bias

  /// [batch, height', width', out] with height' = (height + zeros - k) / stride + 1.
  [[nodiscard]] shape result(const shape& x, const shape& weight, const shape& = {}) const {
    require(weight.rank() == 4 && weight[1] == weight[2] && weight[1] % 2 == 1 && weight.size() > 0 && stride > 0,
            "boot: a convolution with weights of shape {} and stride {}; needs weights [out, k, k, in] with an odd k, "
            "no extent of zero, and a positive stride",
            to_string(weight), stride);
    const std::int64_t k = weight[1], zeros = detail::conv_zeros(k, padding);
    require(x.rank() == 4 && x[3] == weight[3],
            "boot: a convolution of {} channels got an activation of shape {}; needs an image [batch, height, width, "
            "{}]",
            weight[3], to_string(x), weight[3]);
    require(x[1] > 0 && x[2] > 0 && x[1] + zeros >= k && x[2] + zeros >= k,
            "boot: a convolution with a {} x {} kernel and {} rows of padding got an image of shape {}; its height and "
            "width must be at least {}",
            k, k, zeros, to_string(x), k > zeros ? k - zeros : 1);
    return {x[0], (x[1] + zeros - k) / stride + 1, (x[2] + zeros - k) / stride + 1, weight[0]};
  }
  /// 2 per multiply-add, those with zeros of the padding included.
  [[nodiscard]] double flop(const shape& x, const shape& weight, const shape& = {}) const {
    return 2.0 * static_cast<double>(result(x, weight).size()) * static_cast<double>(weight.sample_size());
  }
  /// One product.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    conv2d_forward(dev, c.in[0], c.in[1], with_bias ? c.parameter(2).data() : nullptr, stride, before(c), c.out);
  }
  /// Up to two products and a column sum.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0))
      conv2d_input_gradient(dev, c.out_gradient, c.in[1], stride, before(c), c.gradient[0], c.accumulate[0]);
    if (c.wants(1))
      conv2d_weight_gradient(dev, c.out_gradient, c.in[0], stride, before(c), c.parameter_gradient(1), c.accumulate[1]);
    if constexpr (with_bias)
      if (const auto& to = c.parameter_gradient(2); c.wants(2))
        column_sums(dev, c.out_gradient, to.size(), to.data(), c.accumulate[2]);
  }

 private:
  template <class C>
  [[nodiscard]] std::int64_t before(const C& c) const {
    return detail::conv_before(c.in[1].extents()[1], padding);
  }
};

/// What a convolution layer is made of.
struct conv2d_options {
  std::int64_t in = 0, out = 0;               ///< channels
  std::int64_t kernel = 3;                    ///< height and width of the kernel, odd
  std::int64_t stride = 1;                    ///< pixels between two outputs
  conv_padding padding = conv_padding::same;  ///< zeros around the image
};

/// Convolution with bias. Names and initial values as torch.nn.Conv2d: uniform within 1/sqrt(in k k). In files the
/// weight is [out, in, k, k], as PyTorch has it.
struct conv2d {
  parameter weight;                           ///< [out, k, k, in]
  parameter bias;                             ///< [out]
  std::int64_t stride = 1;                    ///< pixels between two outputs
  conv_padding padding = conv_padding::same;  ///< zeros around the image

  conv2d() = default;
  /// Throws boot::error unless channels, kernel and stride are positive and the kernel is odd.
  explicit conv2d(const conv2d_options& o) : stride(o.stride), padding(o.padding) {
    require(o.in > 0 && o.out > 0 && o.kernel > 0 && o.kernel % 2 == 1 && o.stride > 0,
            "boot: a convolution from {} to {} channels, kernel {}, stride {}; channels and stride must be positive, "
            "the kernel odd",
            o.in, o.out, o.kernel, o.stride);
    const auto terms = static_cast<double>(o.in * o.kernel * o.kernel);
    const initializer init{initializer::rule::uniform, 1 / std::sqrt(terms)};
    weight = {{o.out, o.kernel, o.kernel, o.in}, init};
    weight.order = file_order::ohwi_as_oihw;
    bias = {{o.out}, init};
  }
  /// Starts at zero: a new branch that leaves the network as it is.
  void zero() { weight.init = bias.init = {}; }
  /// [batch, height, width, in] to [batch, height', width', out].
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    return g.apply(conv2d_op<true>{stride, padding}, x, g(weight), g(bias));
  }
  /// The same less the bias, for a network that adds it in another pass, see add_bias().
  template <class G>
  [[nodiscard]] typename G::value without_bias(G& g, const typename G::value& x) const {
    return g.apply(conv2d_op<false>{stride, padding}, x, g(weight));
  }
  /// weight, bias.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

}  // namespace boot::inline v0
