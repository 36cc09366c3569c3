// SPDX-License-Identifier: MIT
/// Blocks of diffusion U-Nets on images: residual blocks with a time embedding, attention, and changes of resolution.
#pragma once

#include <boot/core/math.hpp>
#include <boot/kernel/pack.hpp>
#include <boot/nn/activations.hpp>
#include <boot/nn/attention.hpp>
#include <boot/nn/convolution.hpp>
#include <boot/nn/group_norm.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/nn/resample.hpp>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace boot::inline v0 {

namespace detail {

// The element loop wants a row of numbers per sample; what has none is given numbers that it does not read.
template <class T>
struct unet_affine_element {
  T a, b;
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const T&, T x) const noexcept {
    return {{a * x + b}, T{0}};
  }
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const T&, T x, T y) const noexcept {
    return {{y + a * x}, T{0}};
  }
};
template <class T>
struct unet_quotient_element {
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const T& row, T x) const noexcept {
    return {{math::quotient(x, row)}, T{0}};
  }
  BOOT_HD BOOT_FORCE_INLINE element_result<1, T> operator()(const T& row, T x, T y) const noexcept {
    return {{y + math::quotient(x, row)}, T{0}};
  }
};
template <class T, class D, class Element>
void unet_map(const D& dev, const Element& element, const T* rows, view<const T, D> x, view<T, D> y, bool accumulate) {
  const std::int64_t batch = y.batch(), n = y.sample_size();
  if (accumulate) {
    for_each_element<T>(dev, element, rows, batch, n, inputs<T, T>(x.data(), y.data()), outputs<T>(y.data()));
  } else {
    for_each_element<T>(dev, element, rows, batch, n, inputs<T>(x.data()), outputs<T>(y.data()));
  }
}

/// y = a x + b for constants a and b.
struct unet_affine_op {
  double a, b;
  static constexpr unsigned saves = 0;
  [[nodiscard]] shape result(const shape& x) const { return x; }
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    run(dev, c.in[0], c.out, b, false);
  }
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    run(dev, c.out_gradient, c.gradient[0], 0, c.accumulate[0]);
  }

 private:
  template <class D, class T>
  void run(const D& dev, view<const T, D> x, view<T, D> y, double constant, bool accumulate) const {
    const unet_affine_element<T> element{static_cast<T>(a), static_cast<T>(constant)};
    unet_map(dev, element, x.data(), x, y, accumulate);
  }
};

/// y[sample] = x[sample] / divisor[sample].
template <Device D, ComputeScalar T>
struct unet_quotient_op {
  const T* divisor;
  static constexpr unsigned saves = 0;
  [[nodiscard]] shape result(const shape& x) const { return x; }
  template <class C>
  void forward(const D& dev, C& c) const {
    unet_map(dev, unet_quotient_element<T>{}, divisor, c.in[0], c.out, false);
  }
  template <class C>
  void backward(const D& dev, C& c) const {
    unet_map(dev, unet_quotient_element<T>{}, divisor, c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

}  // namespace detail

/// What a residual block does to the resolution, on both of its branches before the first convolution.
enum class resnet_resampling {
  none,  ///< keeps it
  down,  ///< halves it by the mean of 2 x 2 elements
  up     ///< doubles it by repeating elements
};

/// Shape of a residual block.
struct resnet_block_options {
  std::int64_t in = 0, out = 0;                            ///< channels
  std::int64_t embedding = 0;                              ///< width of the time embedding, 0: has none
  std::int64_t groups = 32;                                ///< of both norms
  double epsilon = 1e-5;                                   ///< of both norms
  bool scale_shift = false;                                ///< the embedding scales and shifts the second norm
  resnet_resampling resampling = resnet_resampling::none;  ///< change of resolution
  double output_scale = 1;                                 ///< the sum of the branches is divided by this
};

/// norm, SiLU, convolution, time embedding, norm, SiLU, convolution, plus the input (through a 1 x 1 convolution where
/// the channels differ). Names as diffusers' ResnetBlock2D.
struct resnet_block {
  resnet_block_options options;         ///< as given
  group_norm norm1, norm2;              ///< before the convolutions
  conv2d conv1, conv2;                  ///< 3 x 3
  std::optional<linear> time_emb_proj;  ///< from the embedding to the channels, or twice as many for scale_shift
  std::optional<conv2d> conv_shortcut;  ///< of the input

  /// Throws boot::error for sizes that are not positive and channels that the groups do not divide.
  explicit resnet_block(const resnet_block_options& o)
      : options(o),
        norm1(o.groups, o.in, o.epsilon),
        norm2(o.groups, o.out, o.epsilon),
        conv1(conv2d_options{.in = o.in, .out = o.out}),
        conv2(conv2d_options{.in = o.out, .out = o.out}) {
    require(
        o.embedding >= 0 && (o.embedding > 0 || !o.scale_shift) && o.output_scale != 0,
        "boot: a residual block with an embedding of width {}, scale_shift {} and output_scale {}; scale_shift needs "
        "an embedding, and the scale must not be 0",
        o.embedding, o.scale_shift, o.output_scale);
    if (o.embedding > 0) time_emb_proj.emplace(o.embedding, o.scale_shift ? 2 * o.out : o.out);
    if (o.in != o.out) conv_shortcut.emplace(conv2d_options{.in = o.in, .out = o.out, .kernel = 1});
  }
  /// [batch, h, w, in] to [batch, h', w', out]. `embedding` is [batch or 1, width], already through SiLU, since all
  /// blocks of a network read the same; a value without content where the block has no embedding.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, typename G::value x, const typename G::value& embedding) const {
    auto h = norm1.silu(g, x);
    if (options.resampling == resnet_resampling::down) {
      h = average_pool(g, h);
      x = average_pool(g, x);
    } else if (options.resampling == resnet_resampling::up) {
      h = upsample_nearest(g, h);
      x = upsample_nearest(g, x);
    }
    // First of all, so that its gradient comes last: backward holds one image less where memory is tightest.
    if (conv_shortcut) x = (*conv_shortcut)(g, x);
    // Its bias goes into the embedding's rows where these are added, that of conv2 into the sum: no pass of their own.
    const bool adds_rows = time_emb_proj && !options.scale_shift;
    h = adds_rows ? conv1.without_bias(g, h) : conv1(g, h);
    if (options.scale_shift) {
      h = norm2.silu(g, h, (*time_emb_proj)(g, embedding));
    } else {
      if (adds_rows) h = add_channels(g, h, add_bias(g, (*time_emb_proj)(g, embedding), g(conv1.bias)));
      h = norm2.silu(g, h);
    }
    h = conv2.without_bias(g, h);
    h = add_bias(g, h, x, g(conv2.bias));
    if (options.output_scale != 1) h = g.apply(detail::unet_affine_op{1 / options.output_scale, 0}, h);
    return h;
  }
  /// norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut.
  template <class V>
  void visit(V& v) {
    v("norm1", norm1);
    v("conv1", conv1);
    v("time_emb_proj", time_emb_proj);
    v("norm2", norm2);
    v("conv2", conv2);
    v("conv_shortcut", conv_shortcut);
  }
};

/// Shape of an attention block.
struct attention_block_options {
  std::int64_t channels = 0;  ///< of the image
  std::int64_t heads = 1;     ///< must divide the channels
  std::int64_t groups = 32;   ///< of the norm, 0: has none
  double epsilon = 1e-5;      ///< of the norm
  double output_scale = 1;    ///< the sum with the input is divided by this
};

/// Self-attention over all positions of an image, plus the input. Names as diffusers' Attention in U-Net blocks.
struct attention_block {
  attention_block_options options;  ///< as given
  std::optional<group_norm> norm;   ///< before the projections
  attention_layer attend;           ///< to_q, to_k, to_v, to_out

  /// Throws boot::error for sizes that are not positive or do not divide.
  explicit attention_block(const attention_block_options& o)
      : options(o), attend(attention_options{.width = o.channels, .heads = o.heads}) {
    require(o.output_scale != 0, "boot: an attention block with output_scale 0; it divides, so give another number");
    if (o.groups > 0) norm.emplace(o.groups, o.channels, o.epsilon);
  }
  /// Same shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    auto h = add(g, attend(g, norm ? (*norm)(g, x) : x), x);
    if (options.output_scale != 1) h = g.apply(detail::unet_affine_op{1 / options.output_scale, 0}, h);
    return h;
  }
  /// group_norm, to_q, to_k, to_v, to_out.0.
  template <class V>
  void visit(V& v) {
    v("group_norm", norm);
    attend.visit(v);
  }
};

/// Between two resolutions: a 3 x 3 convolution (of stride 2, or after repeating the elements), or a residual block.
struct resolution_change {
  std::optional<conv2d> conv;          ///< "conv"
  std::optional<resnet_block> resnet;  ///< under its own names
  bool up = false;                     ///< the convolution comes after doubling the resolution

  /// A convolution of stride 2.
  [[nodiscard]] static resolution_change down_convolution(std::int64_t channels, conv_padding padding) {
    resolution_change c;
    c.conv.emplace(conv2d_options{.in = channels, .out = channels, .kernel = 3, .stride = 2, .padding = padding});
    return c;
  }
  /// A convolution at twice the resolution.
  [[nodiscard]] static resolution_change up_convolution(std::int64_t channels) {
    resolution_change c;
    c.conv.emplace(conv2d_options{.in = channels, .out = channels});
    c.up = true;
    return c;
  }
  /// A residual block that resamples.
  [[nodiscard]] static resolution_change block(const resnet_block_options& o) {
    resolution_change c;
    c.resnet.emplace(o);
    return c;
  }
  /// [batch, h, w, c] to half or twice h and w.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x,
                                             const typename G::value& embedding) const {
    if (resnet) return (*resnet)(g, x, embedding);
    return (*conv)(g, up ? upsample_nearest(g, x) : x);
  }
  /// conv, or the names of the residual block.
  template <class V>
  void visit(V& v) {
    v("conv", conv);
    if (resnet) resnet->visit(v);
  }
};

/// One level of the way down: residual blocks, each followed by attention where there is some, then half the
/// resolution except on the last level. Names as diffusers' DownBlock2D and its kin.
struct unet_down_block {
  std::vector<resnet_block> resnets;            ///< at least one
  std::vector<attention_block> attentions;      ///< none, or one per residual block
  std::vector<resolution_change> downsamplers;  ///< none or one
  bool recomputes = false;                      ///< keeps a stage's input only, see nn/recompute.hpp

  /// Appends every stage's result to `skips`; returns the last one.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, typename G::value h, const typename G::value& embedding,
                                             std::vector<typename G::value>& skips) const {
    using value = typename G::value;
    for (std::size_t i = 0; i < resnets.size(); ++i) {
      const auto stage = [this, i](G& q, value x, const value& e) {
        x = resnets[i](q, std::move(x), e);
        return attentions.empty() ? x : attentions[i](q, x);
      };
      skips.push_back(h = recompute(g, recomputes, stage, std::move(h), embedding));
    }
    for (const auto& change : downsamplers) skips.push_back(h = change(g, h, embedding));
    return h;
  }
  /// resnets, attentions, downsamplers.
  template <class V>
  void visit(V& v) {
    v("resnets", resnets);
    v("attentions", attentions);
    v("downsamplers", downsamplers);
  }
};

/// The lowest level: residual blocks with attention between them. Names as diffusers' UNetMidBlock2D.
struct unet_mid_block {
  std::vector<resnet_block> resnets;        ///< one more than there are attentions, or two
  std::vector<attention_block> attentions;  ///< after the first residual block, none or one
  bool recomputes = false;                  ///< keeps a stage's input only, see nn/recompute.hpp

  /// Same shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, typename G::value h, const typename G::value& embedding) const {
    using value = typename G::value;
    for (std::size_t i = 0; i < resnets.size(); ++i) {
      const auto stage = [this, i](G& q, value x, const value& e) {
        x = resnets[i](q, std::move(x), e);
        return i < attentions.size() ? attentions[i](q, x) : x;
      };
      h = recompute(g, recomputes, stage, std::move(h), embedding);
    }
    return h;
  }
  /// resnets, attentions.
  template <class V>
  void visit(V& v) {
    v("resnets", resnets);
    v("attentions", attentions);
  }
};

/// One level of the way up: residual blocks that each read one result of the way down beside their input, with
/// attention where there is some, then twice the resolution except on the last level. Names as diffusers' UpBlock2D.
struct unet_up_block {
  std::vector<resnet_block> resnets;          ///< at least one
  std::vector<attention_block> attentions;    ///< none, or one per residual block
  std::vector<resolution_change> upsamplers;  ///< none or one
  bool recomputes = false;                    ///< keeps a stage's inputs only, see nn/recompute.hpp

  /// Takes as many values off the end of `skips` as it has residual blocks.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, typename G::value h, const typename G::value& embedding,
                                             std::vector<typename G::value>& skips) const {
    using value = typename G::value;
    for (std::size_t i = 0; i < resnets.size(); ++i) {
      const auto stage = [this, i](G& q, value below, value skip, const value& e) {
        value x = concat(q, below, skip);
        below = skip = {};
        x = resnets[i](q, std::move(x), e);
        return attentions.empty() ? x : attentions[i](q, x);
      };
      h = recompute(g, recomputes, stage, std::move(h), std::move(skips.back()), embedding);
      skips.pop_back();
    }
    for (const auto& change : upsamplers) h = change(g, h, embedding);
    return h;
  }
  /// resnets, attentions, upsamplers.
  template <class V>
  void visit(V& v) {
    v("resnets", resnets);
    v("attentions", attentions);
    v("upsamplers", upsamplers);
  }
};

}  // namespace boot::inline v0
