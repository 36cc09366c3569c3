// SPDX-License-Identifier: MIT
/// The convolutional U-Net of diffusion models on images: architecture and tensor names of diffusers' UNet2DModel.
#pragma once

#include <boot/model/network.hpp>
#include <boot/model/unet2d_blocks.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// A level of a unet2d.
enum class unet2d_level {
  plain,      ///< DownBlock2D, UpBlock2D
  attention,  ///< AttnDownBlock2D, AttnUpBlock2D
  resnet      ///< ResnetDownsampleBlock2D, ResnetUpsampleBlock2D: a residual block changes the resolution
};

/// What a change of resolution on an attention level is made of.
enum class unet2d_resampling {
  convolution,  ///< "conv"
  resnet        ///< "resnet"
};

/// How a unet2d reads its time.
enum class unet2d_time {
  positional,  ///< sinusoids of fixed frequencies
  fourier      ///< sinusoids of log(t) with random frequencies that are not trained; the output is divided by t
};

/// Shape of a unet2d. The defaults are diffusers', but for the size of the images, which has none there.
struct unet2d_options {
  std::int64_t height = 32, width = 32;  ///< of a sample; multiples of 2^(levels - 1)
  std::int64_t in_channels = 3;          ///< of a sample
  std::int64_t out_channels = 3;         ///< of the output; a Teacher or Student needs as many as in_channels
  std::vector<unet2d_level> down{unet2d_level::plain, unet2d_level::attention, unet2d_level::attention,
                                 unet2d_level::attention};  ///< from the highest resolution down
  std::vector<unet2d_level> up{unet2d_level::attention, unet2d_level::attention, unet2d_level::attention,
                               unet2d_level::plain};             ///< from the lowest resolution up
  std::vector<std::int64_t> block_channels{224, 448, 672, 896};  ///< of each level, from the highest resolution down
  std::int64_t layers_per_block = 2;                             ///< residual blocks of a level; one more on the way up
  bool mid_block = true;                                         ///< has a block at the lowest resolution
  bool add_attention = true;                                     ///< the mid block has attention
  double mid_block_scale_factor = 1;                             ///< divides what the mid block's parts put out
  std::int64_t attention_head_dim = 8;                           ///< width of one head, 0: one head of all channels
  std::int64_t norm_num_groups = 32;                             ///< of every norm
  double norm_eps = 1e-5;                                        ///< of every norm
  /// Groups of the norm in the mid block's attention. 0: norm_num_groups, or no norm when time_scale_shift is set.
  std::int64_t attn_norm_num_groups = 0;
  bool time_scale_shift = false;   ///< the time scales and shifts the second norm instead of being added before it
  bool downsample_padding = true;  ///< zeros on all sides of a stride 2 convolution; false: right and below only
  unet2d_resampling downsample = unet2d_resampling::convolution;  ///< of attention levels
  unet2d_resampling upsample = unet2d_resampling::convolution;    ///< of attention levels
  bool center_input_sample = false;                               ///< reads 2 x - 1
  unet2d_time time = unet2d_time::positional;                     ///< how the times are read
  bool flip_sin_to_cos = true;                                    ///< positional: cosines first
  double freq_shift = 0;                                          ///< positional: see sinusoid_options
  std::int64_t time_embedding_dim = 0;                            ///< width of the embeddings, 0: 4 block_channels[0]
  double time_scale = 1000;  ///< the network reads time_scale * t; 1 where t is the step index or the noise level
  bool target_time = false;  ///< has the second embedding, of the target time: a student
  std::int64_t classes = 0;  ///< class labels it knows; 0: unconditional
  bool null_class = true;    ///< has one more class, the null class, in the table's last row
  double guidance_scale_input = 0;  ///< > 0: takes a guidance scale w per sample, read as this times w
  bool begins_as_teacher = false;   ///< the embeddings of target time and w start at zero; student_of() sets it
  bool recompute = false;           ///< training keeps the inputs of its blocks only and computes the rest twice
  std::int64_t low_resolution_channels = 0;  ///< > 0: refines a low_resolution image of as many channels
};

namespace detail {

// Class ids for a table without a null class. The host loop takes the last row for the null class, whose id is
// negative, so the last class is renamed to it.
template <Device D>
struct unet2d_ids {
  class_labels<D> labels;
  std::int32_t classes;
  [[nodiscard]] std::int32_t operator[](std::int64_t i) const {
    const std::int32_t id = labels[i];
    require(id >= 0 && id < classes,
            "boot: sample {} has class {}, but the network knows classes 0 .. {} and no null class; for guidance use a "
            "network with unet2d_options::null_class",
            i, id, classes - 1);
    return id == classes - 1 ? -1 : id;
  }
};
template <Device D>
struct unet2d_classes_op {
  unet2d_ids<D> ids;
  static constexpr unsigned saves = 0;
  [[nodiscard]] shape result(const shape& table) const { return {ids.labels.ids.batch(), table[1]}; }
  template <class C>
  void forward(const D& dev, C& c) const {
    embedding_forward(dev, c.in[0], ids, c.out);
  }
  template <class C>
  void backward(const D& dev, C& c) const {
    if (!c.accumulate[0]) fill_zero(dev, c.gradient[0]);
    embedding_backward(dev, c.out_gradient, ids, c.gradient[0]);
  }
};

/// "class_embedding": a table of class labels and the embedding of the target time; diffusers has one or the other.
struct unet2d_extra_embedding {
  std::optional<class_embedding> table;
  std::optional<time_embedding> target;
  template <class V>
  void visit(V& v) {
    if (table) table->visit(v);
    if (target) target->visit(v);
  }
};

}  // namespace detail

/// UNet2DModel on images [batch, height, width, channels]. Parameters have diffusers' names and, but for the order of
/// the axes in convolution weights, its shapes; interop/diffusers.hpp reads its files.
///
/// Students: `target_time` adds a second embedding of the target time. In files it is "class_embedding.linear_1" and "class_embedding.linear_2", so that a student is a diffusers model with
/// "class_embed_type": "timestep" that is given the target time in place of class labels. "guidance_embedding" is our own.
///
/// Cascades: `low_resolution_channels` joins the image of the condition to the sample's channels in front of conv_in,
/// behind them, as diffusers' pipelines do with a model whose in_channels count both. "level_embedding", of the image's
/// noise level, is our own; it has sinusoids of time_scale * level.
///
/// Class labels: "class_embedding.weight" has classes + 1 rows with `null_class`, its last row being the null class
/// (any negative id), and exactly `classes` rows without. diffusers' num_class_embeds = n counts rows and knows no null
/// class: such a file is {.classes = n, .null_class = false}, where a negative id throws boot::error; if its last class
/// was trained as the null class it is {.classes = n - 1, .null_class = true}, of the same shape.
class unet2d {
 public:
  /// Throws boot::error for options that do not fit together.
  explicit unet2d(const unet2d_options& o) : options_(o) {
    check();
    const std::size_t levels = o.block_channels.size();
    const std::int64_t first = o.block_channels.front(), last = o.block_channels.back();
    const std::int64_t width = o.time_embedding_dim > 0 ? o.time_embedding_dim : 4 * first;
    conv_in_ = conv2d(conv2d_options{.in = o.in_channels + o.low_resolution_channels, .out = first});
    const bool fourier = o.time == unet2d_time::fourier;
    if (fourier) time_proj_.emplace(fourier_options{.features = 2 * first});
    const sinusoid_options sinusoids{.features = fourier ? 2 * first : first,
                                     .flip_sin_to_cos = o.flip_sin_to_cos,
                                     .freq_shift = fourier ? 0 : o.freq_shift};
    time_embedding_ = time_embedding(sinusoids, width);
    if (o.classes > 0) {
      extra_embedding_.table.emplace(o.classes, width);
      if (!o.null_class) extra_embedding_.table->weight.extents = {o.classes, width};
    }
    if (o.target_time) {
      extra_embedding_.target.emplace(sinusoids, width);
      if (o.begins_as_teacher) extra_embedding_.target->linear_2.zero();
    }
    if (o.guidance_scale_input > 0) {
      guidance_embedding_.emplace(sinusoid_options{.features = first, .factor = o.guidance_scale_input}, width);
      if (o.begins_as_teacher) guidance_embedding_->linear_2.zero();
    }
    if (o.low_resolution_channels > 0)
      level_embedding_.emplace(sinusoid_options{.features = first, .factor = o.time_scale}, width);
    const auto resnet = [&](std::int64_t in, std::int64_t out, resnet_resampling r = resnet_resampling::none) {
      return resnet_block_options{.in = in,
                                  .out = out,
                                  .embedding = width,
                                  .groups = o.norm_num_groups,
                                  .epsilon = o.norm_eps,
                                  .scale_shift = o.time_scale_shift,
                                  .resampling = r};
    };
    const auto attention_of = [&](std::int64_t channels, std::int64_t groups) {
      return attention_block_options{.channels = channels,
                                     .heads = o.attention_head_dim > 0 ? channels / o.attention_head_dim : 1,
                                     .groups = groups,
                                     .epsilon = o.norm_eps};
    };
    const auto by_resnet = [](unet2d_level level, unet2d_resampling resampling) {
      return level == unet2d_level::resnet ||
             (level == unet2d_level::attention && resampling == unet2d_resampling::resnet);
    };
    std::int64_t channels = first;
    for (std::size_t i = 0; i < levels; ++i) {
      const std::int64_t own = o.block_channels[i];
      unet_down_block block;
      block.recomputes = o.recompute;
      for (std::int64_t j = 0; j < o.layers_per_block; ++j) {
        block.resnets.emplace_back(resnet(std::exchange(channels, own), own));
        if (o.down[i] == unet2d_level::attention) block.attentions.emplace_back(attention_of(own, o.norm_num_groups));
      }
      if (i + 1 < levels)
        block.downsamplers.push_back(by_resnet(o.down[i], o.downsample)
                                         ? resolution_change::block(resnet(own, own, resnet_resampling::down))
                                         : resolution_change::down_convolution(
                                               own, o.downsample_padding ? conv_padding::same : conv_padding::end));
      down_blocks_.push_back(std::move(block));
    }
    if (o.mid_block) {
      auto middle = resnet(last, last);
      middle.output_scale = o.mid_block_scale_factor;
      mid_block_.emplace();
      mid_block_->recomputes = o.recompute;
      for (int j = 0; j < 2; ++j) mid_block_->resnets.emplace_back(middle);
      if (o.add_attention) {
        const std::int64_t groups =
            o.attn_norm_num_groups > 0 || o.time_scale_shift ? o.attn_norm_num_groups : o.norm_num_groups;
        auto attend = attention_of(last, groups);
        attend.output_scale = o.mid_block_scale_factor;
        mid_block_->attentions.emplace_back(attend);
      }
    }
    channels = last;
    for (std::size_t i = 0; i < levels; ++i) {
      const std::int64_t own = o.block_channels[levels - 1 - i];
      const std::int64_t below = o.block_channels[i + 1 < levels ? levels - 2 - i : 0];
      unet_up_block block;
      block.recomputes = o.recompute;
      for (std::int64_t j = 0; j <= o.layers_per_block; ++j) {
        const std::int64_t skip = j == o.layers_per_block ? below : own;
        block.resnets.emplace_back(resnet(std::exchange(channels, own) + skip, own));
        if (o.up[i] == unet2d_level::attention) block.attentions.emplace_back(attention_of(own, o.norm_num_groups));
      }
      if (i + 1 < levels)
        block.upsamplers.push_back(by_resnet(o.up[i], o.upsample)
                                       ? resolution_change::block(resnet(own, own, resnet_resampling::up))
                                       : resolution_change::up_convolution(own));
      up_blocks_.push_back(std::move(block));
    }
    conv_norm_out_ = group_norm(o.norm_num_groups, first, o.norm_eps);
    conv_out_ = conv2d(conv2d_options{.in = first, .out = o.out_channels});
  }

  /// Raw output, [batch, height, width, out_channels].
  template <class G, class C>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x,
                                             const times<typename G::device_type, typename G::scalar_type>& t_source,
                                             const times<typename G::device_type, typename G::scalar_type>& t_target,
                                             const C& condition) const {
    using D = typename G::device_type;
    using T = typename G::scalar_type;
    using value = typename G::value;
    value h = level_embedding_ ? concat(g, x, low_image(g, x, condition)) : x;
    // Every block reads the embedding through a SiLU: it is applied once.
    const value embedding = silu(g, embed(g, t_source, t_target, condition));
    std::vector<value> skips;
    h = conv_in_(g, options_.center_input_sample ? g.apply(detail::unet_affine_op{2, -1}, h) : h);
    skips.push_back(h);
    for (const auto& block : down_blocks_) h = block(g, std::move(h), embedding, skips);
    if (mid_block_) h = (*mid_block_)(g, std::move(h), embedding);
    for (const auto& block : up_blocks_) h = block(g, std::move(h), embedding, skips);
    h = conv_norm_out_.silu(g, h);
    h = conv_out_(g, h);
    if (time_proj_) h = g.apply(detail::unet_quotient_op<D, T>{t_source.input.data()}, h);
    return h;
  }
  /// diffusers' names.
  template <class V>
  void visit(V& v) {
    v("conv_in", conv_in_);
    v("time_proj", time_proj_);
    v("time_embedding", time_embedding_);
    v("class_embedding", extra_embedding_);
    v("guidance_embedding", guidance_embedding_);
    v("level_embedding", level_embedding_);
    v("down_blocks", down_blocks_);
    v("mid_block", mid_block_);
    v("up_blocks", up_blocks_);
    v("conv_norm_out", conv_norm_out_);
    v("conv_out", conv_out_);
  }
  /// [height, width, in_channels].
  [[nodiscard]] shape sample_shape() const { return {options_.height, options_.width, options_.in_channels}; }
  /// time_scale * t.
  [[nodiscard]] double time_input(double t) const noexcept { return options_.time_scale * t; }
  /// As given.
  [[nodiscard]] const unet2d_options& options() const noexcept { return options_; }

 private:
  void check() const {
    const unet2d_options& o = options_;
    const std::size_t levels = o.block_channels.size();
    require(levels > 0 && o.down.size() == levels && o.up.size() == levels,
            "boot: a unet2d with {} levels down, {} up and {} widths; needs as many of each, at least one",
            o.down.size(), o.up.size(), levels);
    require(o.height > 0 && o.width > 0 && o.in_channels > 0 && o.out_channels > 0 && o.layers_per_block > 0 &&
                o.classes >= 0 && o.low_resolution_channels >= 0 &&
                *std::min_element(o.block_channels.begin(), o.block_channels.end()) > 0,
            "boot: a unet2d for images of {} x {} x {} with {} output channels, {} layers per block, {} classes and a "
            "narrowest level of {} channels, and {} low-resolution channels; all must be positive, the classes and the "
            "low-resolution channels may be 0",
            o.height, o.width, o.in_channels, o.out_channels, o.layers_per_block, o.classes,
            *std::min_element(o.block_channels.begin(), o.block_channels.end()), o.low_resolution_channels);
    const std::int64_t least = std::int64_t{1} << std::min<std::size_t>(levels - 1, 62);
    require(
        o.height % least == 0 && o.width % least == 0,
        "boot: a unet2d of {} levels halves its images {} times, which {} x {} does not allow; both must be multiples "
        "of {}",
        levels, levels - 1, o.height, o.width, least);
    require(
        o.norm_num_groups > 0 && o.attn_norm_num_groups >= 0 && o.attention_head_dim >= 0 &&
            o.time_embedding_dim >= 0 && o.norm_eps > 0 && o.mid_block_scale_factor != 0,
        "boot: a unet2d with norm_num_groups {}, attn_norm_num_groups {}, attention_head_dim {}, time_embedding_dim "
        "{}, norm_eps {} and mid_block_scale_factor {}; needs at least one group, a positive epsilon, a factor other "
        "than 0, and nothing negative",
        o.norm_num_groups, o.attn_norm_num_groups, o.attention_head_dim, o.time_embedding_dim, o.norm_eps,
        o.mid_block_scale_factor);
    for (const std::int64_t c : o.block_channels)
      require(c % o.norm_num_groups == 0,
              "boot: a unet2d with a level of {} channels and {} groups per norm; the groups must divide the channels",
              c, o.norm_num_groups);
    for (std::size_t i = 0; i < levels; ++i) {
      const bool attends = o.down[i] == unet2d_level::attention || o.up[levels - 1 - i] == unet2d_level::attention ||
                           (i + 1 == levels && o.mid_block && o.add_attention);
      const std::int64_t c = o.block_channels[i];
      require(!attends || o.attention_head_dim == 0 || c % o.attention_head_dim == 0,
              "boot: a unet2d with attention on a level of {} channels and heads of width {}; the head's width must "
              "divide the channels, or be 0 for one head",
              c, o.attention_head_dim);
    }
  }
  // The larger one first: an embedding of a uniform time has one row.
  template <class G>
  [[nodiscard]] static typename G::value sum(G& g, const typename G::value& a, const typename G::value& b) {
    return a.extents().batch() >= b.extents().batch() ? add(g, a, b) : add(g, b, a);
  }
  template <class G, Device D, ComputeScalar T>
  [[nodiscard]] typename G::value embed_time(G& g, const time_embedding& layers, const times<D, T>& t) const {
    if (!time_proj_) return layers(g, t);
    return layers.linear_2(g, silu(g, layers.linear_1(g, (*time_proj_)(g, t))));
  }
  template <class G, Device D, ComputeScalar T, class C>
  [[nodiscard]] typename G::value embed(G& g, const times<D, T>& t_source, const times<D, T>& t_target,
                                        const C& condition) const {
    auto e = embed_time(g, time_embedding_, t_source);
    if (extra_embedding_.target) e = sum(g, e, embed_time(g, *extra_embedding_.target, t_target));
    if (extra_embedding_.table) {
      if constexpr (has_condition<class_labels<D>, C>) {
        const auto& labels = condition_part<class_labels<D>>(condition);
        const auto& table = *extra_embedding_.table;
        if (options_.null_class) {
          e = sum(g, table(g, labels), e);
        } else {
          const detail::unet2d_ids<D> ids{labels, static_cast<std::int32_t>(options_.classes)};
          e = sum(g, g.apply(detail::unet2d_classes_op<D>{ids}, g(table.weight)), e);
        }
      } else {
        fail("boot: a unet2d with {} classes was called without class labels; pass boot::class_labels",
             options_.classes);
      }
    }
    if (guidance_embedding_) {
      if constexpr (has_condition<guidance_scale<D, T>, C>) {
        const view<const T, D> w = condition_part<guidance_scale<D, T>>(condition).scale;
        e = sum(g, (*guidance_embedding_)(g, times<D, T>{t_source.time, w, {}, false}), e);
      } else {
        fail("boot: a unet2d that reads a guidance scale was called without one; pass boot::guidance_scale");
      }
    }
    if constexpr (has_condition<low_resolution<D, T>, C>) {  // low_image() says when there is none
      if (level_embedding_) {
        const view<const T, D> level = condition_part<low_resolution<D, T>>(condition).level;
        e = sum(g, (*level_embedding_)(g, times<D, T>{t_source.time, level, {}, false}), e);
      }
    }
    return e;
  }
  // The image that is refined.
  template <class G, class C>
  [[nodiscard]] typename G::value low_image(G& g, const typename G::value& x, const C& condition) const {
    using low = low_resolution<typename G::device_type, typename G::scalar_type>;
    if constexpr (has_condition<low, C>) {
      const low& c = condition_part<low>(condition);
      const std::int64_t batch = x.extents().batch();
      const shape wanted{batch, options_.height, options_.width, options_.low_resolution_channels};
      require(
          c.image.extents() == wanted && c.level.extents() == shape{batch},
          "boot: a unet2d got {} samples with low-resolution images of shape {} and levels of shape {}; needs {} and "
          "[{}]; bring the images to the size of the network first",
          batch, boot::to_string(c.image.extents()), boot::to_string(c.level.extents()), boot::to_string(wanted),
          batch);
      return g.input(c.image);
    } else {
      fail(
          "boot: a unet2d with {} low-resolution channels was called without an image for them; pass "
          "boot::low_resolution of the network's device and scalar type",
          options_.low_resolution_channels);
    }
  }

  unet2d_options options_;
  conv2d conv_in_, conv_out_;
  std::optional<fourier_embedding> time_proj_;
  time_embedding time_embedding_;
  detail::unet2d_extra_embedding extra_embedding_;
  std::optional<time_embedding> guidance_embedding_, level_embedding_;
  std::vector<unet_down_block> down_blocks_;
  std::optional<unet_mid_block> mid_block_;
  std::vector<unet_up_block> up_blocks_;
  group_norm conv_norm_out_;
};

/// Keeps what is not trained as it is: puts the random frequencies of a unet2d's Fourier times, if it has them, into a
/// frozen group, out of reach of weight decay. Call it once for every unet2d that is to be trained; student_of() does.
template <Device D, ComputeScalar T, StorageScalar A>
void freeze_constants(network_model<unet2d, D, T, A>& model) {
  if (model.network().options().time == unet2d_time::fourier)
    model.parameters().layout().assign_group({.name = "constants", .trainable = false},
                                             [](std::string_view name) { return name == "time_proj.weight"; });
}

}  // namespace boot::inline v0
