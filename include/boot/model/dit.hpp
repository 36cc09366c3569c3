// SPDX-License-Identifier: MIT
/// The transformer of diffusion models on images: architecture and tensor names of diffusers' DiTTransformer2DModel.
#pragma once

#include <boot/model/network.hpp>
#include <boot/nn/activations.hpp>
#include <boot/nn/attention.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/modulate.hpp>
#include <boot/nn/patches.hpp>

#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Shape of a dit. The defaults are diffusers': DiT-XL/2 on latents of 32 x 32, but for its out_channels of 8.
struct dit_options {
  std::int64_t height = 32, width = 32;  ///< of a sample; multiples of patch_size
  std::int64_t in_channels = 4;          ///< of a sample
  std::int64_t out_channels = 0;         ///< of the last layer; 0: in_channels
  std::int64_t patch_size = 2;           ///< pixels along the edge of what becomes a token
  std::int64_t heads = 16;               ///< of attention
  std::int64_t head_dim = 72;            ///< width of a head; tokens have heads head_dim features, a multiple of 4
  std::int64_t layers = 28;              ///< blocks
  double norm_eps = 1e-5;                ///< of the norm before each feed-forward; the other norms have 1e-6
  bool attention_bias = true;            ///< of q, k and v
  std::int64_t classes = 1000;           ///< class labels it knows, beside the null class; 0: unconditional
  /// Places run from 0 to this along both axes, in steps; 0: height / patch_size. A network used at another resolution
  /// than it was trained at keeps the length of its training.
  std::int64_t base_size = 0;
  sinusoid_options time{.features = 256, .freq_shift = 1};  ///< sinusoids of the times
  double time_scale = 1000;         ///< the network reads time_scale * t; 1 where t is the step index
  bool target_time = false;         ///< has a second embedding, of the target time: a student
  double guidance_scale_input = 0;  ///< > 0: takes a guidance scale w per sample, read as this times w
  bool begins_as_teacher = false;   ///< the embeddings of target time and w start at zero; student_of() sets it
  /// Where the last layer has 2 in_channels channels, the second half is a learnt variance, which no objective and no
  /// sampler reads: the output is the first half. False: the output has all of them.
  bool drop_variance = true;
};

/// Patches to tokens by one linear map, which files have as a convolution with stride = kernel = patch size.
struct patch_embedding {
  parameter weight;       ///< [width, size, size, channels]
  parameter bias;         ///< [width]
  std::int64_t size = 1;  ///< pixels along a patch's edge

  patch_embedding() = default;
  /// Throws boot::error for sizes that are not positive. Initial values as torch.nn.Conv2d.
  patch_embedding(std::int64_t channels, std::int64_t patch, std::int64_t width) : size(patch) {
    require(channels > 0 && patch > 0 && width > 0,
            "boot: patches of {} x {} pixels with {} channels as tokens of width {}; all must be positive", patch,
            patch, channels, width);
    const initializer init{initializer::rule::uniform, 1 / std::sqrt(static_cast<double>(channels * patch * patch))};
    weight = {{width, patch, patch, channels}, init};
    weight.order = file_order::ohwi_as_oihw;
    bias = {{width}, init};
  }
  /// [batch, height, width, channels] to [batch, height / size, width / size, width of a token].
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    parameter matrix = weight;  // the same numbers, seen as the matrix of a linear layer
    matrix.extents = {weight.extents[0], weight.extents.sample_size()};
    return g.apply(linear_op<true>{}, to_patches(g, x, size), g(matrix), g(bias));
  }
  /// proj.weight, proj.bias.
  template <class V>
  void visit(V& v) {
    v("proj.weight", weight);
    v("proj.bias", bias);
  }
};

/// A block with adaLN-zero (Peebles and Xie 2023): layer norm, scale and shift, attention, gate; then the same with a
/// feed-forward of GELU by tanh. Every block has embeddings of time and class of its own, as in files. Names as
/// diffusers' BasicTransformerBlock.
struct dit_block {
  time_embedding timestep_embedder;               ///< of the time
  std::optional<class_embedding> class_embedder;  ///< of the class
  linear modulation;      ///< to shift, scale and gate of attention and of the feed-forward; zero at first
  attention_layer attn1;  ///< among the tokens
  linear ff_in, ff_out;   ///< to four times the width and back
  double norm_eps;        ///< of the norm before the feed-forward

  /// From a network's options, which must fit together.
  explicit dit_block(const dit_options& o)
      : timestep_embedder(o.time, o.heads * o.head_dim),
        modulation(o.heads * o.head_dim, 6 * o.heads * o.head_dim),
        attn1(attention_options{.width = o.heads * o.head_dim, .heads = o.heads, .bias = o.attention_bias}),
        ff_in(o.heads * o.head_dim, 4 * o.heads * o.head_dim),
        ff_out(4 * o.heads * o.head_dim, o.heads * o.head_dim),
        norm_eps(o.norm_eps) {
    modulation.zero();
    if (o.classes > 0) {
      class_embedder.emplace(o.classes, o.heads * o.head_dim);
      class_embedder->weight.init.value = 0.02;  // of the paper; torch.nn.Embedding's 1 would drown the time
    }
  }
  /// Tokens x [batch, ..., width], same shape, under `condition` [batch or 1, width], already through SiLU.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, typename G::value x, const typename G::value& condition) const {
    const std::int64_t width = x.extents()[-1];
    const auto all = modulation(g, condition);
    const auto part = [&](std::int64_t i) { return take_channels(g, all, i * width, width); };
    auto h = modulate(g, normalise(g, x), part(1), part(0));
    h = attn1(g, h);
    x = gate_add(g, x, h, part(2));
    h = modulate(g, normalise(g, x, norm_eps), part(4), part(3));
    h = ff_in(g, h);
    h = gelu_tanh(g, h);
    h = ff_out(g, h);
    return gate_add(g, x, h, part(5));
  }
  /// diffusers' names.
  template <class V>
  void visit(V& v) {
    v("norm1.emb.timestep_embedder", timestep_embedder);
    v("norm1.emb.class_embedder.embedding_table", class_embedder);
    v("norm1.linear", modulation);
    v("attn1", attn1);
    v("ff.net.0.proj", ff_in);
    v("ff.net.2", ff_out);
  }
};

/// A dit; samples are images NHWC, [height, width, channels]. Patches become tokens, blocks follow, and a last layer
/// norm with a modulation and a linear map makes pixels of the tokens. Parameters have diffusers' names and, but for
/// the order of the axes in the patches' weight, its shapes; interop/dit.hpp reads its files. From scratch, blocks
/// start as identities.
///
/// Students: `target_time` adds an embedding of the target time, "target_embedding", to the condition of every block
/// and of the last modulation; `guidance_scale_input` the same for "guidance_embedding". diffusers knows neither.
class dit {
 public:
  /// Throws boot::error for options that do not fit together.
  explicit dit(const dit_options& o) : options_(o) {
    check();
    const std::int64_t width = o.heads * o.head_dim;
    pos_embed_ = patch_embedding(o.in_channels, o.patch_size, width);
    for (std::int64_t i = 0; i < o.layers; ++i) blocks_.emplace_back(o);
    if (o.target_time) {
      target_embedding_.emplace(o.time, width);
      if (o.begins_as_teacher) target_embedding_->linear_2.zero();
    }
    if (o.guidance_scale_input > 0) {
      sinusoid_options scaled = o.time;
      scaled.factor = o.guidance_scale_input;
      guidance_embedding_.emplace(scaled, width);
      if (o.begins_as_teacher) guidance_embedding_->linear_2.zero();
    }
    proj_out_1_ = linear(width, 2 * width);
    proj_out_2_ = linear(width, o.patch_size * o.patch_size * out_channels());
  }

  /// Raw output, [batch, height, width, in_channels], or as many channels as the last layer has (see drop_variance).
  template <class G, class C>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x,
                                             const times<typename G::device_type, typename G::scalar_type>& t_source,
                                             const times<typename G::device_type, typename G::scalar_type>& t_target,
                                             const C& condition) const {
    using value = typename G::value;
    const std::int64_t width = options_.heads * options_.head_dim;
    const double base =
        static_cast<double>(options_.base_size > 0 ? options_.base_size : options_.height / options_.patch_size);
    value h = add_positions(g, pos_embed_(g, x), base);
    const value extra = student_embedding(g, t_source, t_target, condition);
    value last;  // the last modulation reads the first block's embeddings
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const value c = silu(g, embed(g, blocks_[i], t_source, condition, extra));
      if (i == 0) last = c;
      h = blocks_[i](g, std::move(h), c);
    }
    const value scale_shift = proj_out_1_(g, last);
    h = normalise(g, h);
    h = modulate(g, h, take_channels(g, scale_shift, width, width), take_channels(g, scale_shift, 0, width));
    h = from_patches(g, proj_out_2_(g, h), options_.patch_size);
    if (options_.drop_variance && out_channels() == 2 * options_.in_channels)
      h = take_channels(g, h, 0, options_.in_channels);
    return h;
  }
  /// diffusers' names.
  template <class V>
  void visit(V& v) {
    v("pos_embed", pos_embed_);
    v("target_embedding", target_embedding_);
    v("guidance_embedding", guidance_embedding_);
    v("transformer_blocks", blocks_);
    v("proj_out_1", proj_out_1_);
    v("proj_out_2", proj_out_2_);
  }
  /// [height, width, in_channels].
  [[nodiscard]] shape sample_shape() const { return {options_.height, options_.width, options_.in_channels}; }
  /// time_scale * t.
  [[nodiscard]] double time_input(double t) const noexcept { return options_.time_scale * t; }
  /// As given.
  [[nodiscard]] const dit_options& options() const noexcept { return options_; }

 private:
  [[nodiscard]] std::int64_t out_channels() const noexcept {
    return options_.out_channels > 0 ? options_.out_channels : options_.in_channels;
  }
  void check() const {
    const dit_options& o = options_;
    require(o.height > 0 && o.width > 0 && o.in_channels > 0 && o.out_channels >= 0 && o.layers > 0 && o.classes >= 0,
            "boot: a dit for images of {} x {} x {} with {} output channels, {} layers and {} classes; all must be "
            "positive, the output channels and the classes may be 0",
            o.height, o.width, o.in_channels, o.out_channels, o.layers, o.classes);
    require(o.patch_size > 0 && o.height % o.patch_size == 0 && o.width % o.patch_size == 0,
            "boot: a dit with patches of {} x {} pixels for images of {} x {}; height and width must be multiples of a "
            "positive patch_size",
            o.patch_size, o.patch_size, o.height, o.width);
    require(o.heads > 0 && o.head_dim > 0 && o.heads * o.head_dim % 4 == 0,
            "boot: a dit with {} heads of width {}; both must be positive and their product a multiple of 4, for the "
            "sines and cosines of rows and columns",
            o.heads, o.head_dim);
    require(o.norm_eps > 0 && o.base_size >= 0,
            "boot: a dit with norm_eps {} and base_size {}; the first must be positive, the second not negative",
            o.norm_eps, o.base_size);
  }
  // The larger one first: an embedding of a uniform time has one row.
  template <class G>
  [[nodiscard]] static typename G::value sum(G& g, const typename G::value& a, const typename G::value& b) {
    return a.extents().batch() >= b.extents().batch() ? add(g, a, b) : add(g, b, a);
  }
  // What only students have: embeddings of target time and guidance scale, or a value without content.
  template <class G, Device D, ComputeScalar T, class C>
  [[nodiscard]] typename G::value student_embedding(G& g, const times<D, T>& t_source, const times<D, T>& t_target,
                                                    const C& condition) const {
    typename G::value e;
    if (target_embedding_) e = (*target_embedding_)(g, t_target);
    if (guidance_embedding_) {
      if constexpr (has_condition<guidance_scale<D, T>, C>) {
        const view<const T, D> w = condition_part<guidance_scale<D, T>>(condition).scale;
        const auto scale = (*guidance_embedding_)(g, times<D, T>{t_source.time, w, {}, false});
        e = e.has_value() ? sum(g, scale, e) : scale;
      } else {
        fail("boot: a dit that reads a guidance scale was called without one; pass boot::guidance_scale");
      }
    }
    return e;
  }
  template <class G, Device D, ComputeScalar T, class C>
  [[nodiscard]] typename G::value embed(G& g, const dit_block& block, const times<D, T>& t, const C& condition,
                                        const typename G::value& extra) const {
    auto e = block.timestep_embedder(g, t);
    if (block.class_embedder) {
      if constexpr (has_condition<class_labels<D>, C>) {
        e = sum(g, (*block.class_embedder)(g, condition_part<class_labels<D>>(condition)), e);
      } else {
        fail("boot: a dit with {} classes was called without class labels; pass boot::class_labels", options_.classes);
      }
    }
    return extra.has_value() ? sum(g, e, extra) : e;
  }

  dit_options options_;
  patch_embedding pos_embed_;
  std::vector<dit_block> blocks_;
  std::optional<time_embedding> target_embedding_, guidance_embedding_;
  linear proj_out_1_, proj_out_2_;
};

}  // namespace boot::inline v0
