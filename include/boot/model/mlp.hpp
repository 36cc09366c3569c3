// SPDX-License-Identifier: MIT
/// A multilayer perceptron on flat samples, with time, class and guidance embeddings, attention to prompts, and a
/// low-resolution image beside its sample; teacher or student.
#pragma once

#include <boot/model/network.hpp>
#include <boot/nn/attention.hpp>
#include <boot/nn/layers.hpp>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

namespace boot::inline v0 {

/// Shape of an mlp.
struct mlp_options {
  std::int64_t features = 2;        ///< numbers per sample
  std::int64_t width = 512;         ///< of the hidden layers
  std::int64_t hidden_layers = 4;   ///< SiLU layers
  std::int64_t classes = 0;         ///< class labels it knows; 0: unconditional
  sinusoid_options time{};          ///< sinusoids of the times
  double time_scale = 1000;         ///< the network reads time_scale * t
  bool target_time = false;         ///< has the second embedding, of the target time: a student
  double guidance_scale_input = 0;  ///< > 0: takes a guidance scale w per sample, read as this times w
  bool begins_as_teacher = false;   ///< the embeddings of target time and w start at zero; student_of() sets it
  bool normalise = false;           ///< layer norm before each SiLU
  std::int64_t context_width = 0;   ///< > 0: attends to prompt embeddings whose tokens have this width
  std::int64_t context_heads = 1;   ///< of that attention; divides `width`
  std::int64_t low_resolution_features = 0;  ///< > 0: refines a low_resolution image of this many numbers per sample
};

/// layer_in plus embeddings, then hidden layers of SiLU and linear. The embeddings are added to the first layer's
/// output, before its SiLU. Those that only a student has start at zero when it takes its teacher's weights, so that it
/// begins as its teacher; from scratch they must not: a student that is the same at all target times at first settles
/// where the trajectories part before it has learnt to tell them apart.
///
/// With `context_width`, each SiLU is followed by h + attention(h to the prompt's tokens): the sample is one token that
/// asks, and the number of tokens that answer is the prompt's own. The way out of each attention starts at zero.
///
/// With `low_resolution_features`, layer_in reads the sample and behind it the image of the condition, and an embedding
/// of the image's noise level, read as a time is, joins the others.
class mlp {
 public:
  /// Throws boot::error for sizes that are not positive and heads that do not divide the width.
  explicit mlp(const mlp_options& o) : options_(o) {
    require(o.features > 0 && o.width > 0 && o.hidden_layers > 0,
            "boot: an mlp with {} features, width {} and {} hidden layers; all must be positive", o.features, o.width,
            o.hidden_layers);
    require(o.low_resolution_features >= 0,
            "boot: an mlp that reads {} numbers of a low-resolution image; must be positive, or 0 for none",
            o.low_resolution_features);
    layer_in_ = linear(o.features + o.low_resolution_features, o.width);
    time_embedding_ = time_embedding(o.time, o.width);
    if (o.target_time) {
      target_embedding_.emplace(o.time, o.width);
      if (o.begins_as_teacher) target_embedding_->linear_2.zero();
    }
    if (o.classes > 0) class_embedding_.emplace(o.classes, o.width);
    if (o.guidance_scale_input > 0) {
      sinusoid_options scaled = o.time;
      scaled.factor = o.guidance_scale_input;
      guidance_embedding_.emplace(scaled, o.width);
      if (o.begins_as_teacher) guidance_embedding_->linear_2.zero();
    }
    if (o.low_resolution_features > 0) {
      sinusoid_options scaled = o.time;
      scaled.factor = o.time_scale;
      level_embedding_.emplace(scaled, o.width);
    }
    for (std::int64_t i = 1; i < o.hidden_layers; ++i) layers_.emplace_back(o.width, o.width);
    if (o.normalise)
      for (std::int64_t i = 0; i < o.hidden_layers; ++i) norms_.emplace_back(o.width);
    require(o.context_width >= 0, "boot: an mlp that attends to tokens of width {}; must be positive, or 0 for none",
            o.context_width);
    for (std::int64_t i = 0; o.context_width > 0 && i < o.hidden_layers; ++i) {
      attentions_.emplace_back(
          attention_options{.width = o.width, .heads = o.context_heads, .context = o.context_width});
      attentions_.back().to_out.zero();
    }
    layer_out_ = linear(o.width, o.features);
  }

  /// Raw output, [batch, features].
  template <class G, class C>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x,
                                             const times<typename G::device_type, typename G::scalar_type>& t_source,
                                             const times<typename G::device_type, typename G::scalar_type>& t_target,
                                             const C& condition) const {
    using D = typename G::device_type;
    using T = typename G::scalar_type;
    auto h = level_embedding_ ? refine(g, x, t_source, condition) : layer_in_(g, x);
    h = add(g, h, time_embedding_(g, t_source));
    if (target_embedding_) h = add(g, h, (*target_embedding_)(g, t_target));
    if (class_embedding_) {
      if constexpr (has_condition<class_labels<D>, C>) {
        h = add(g, h, (*class_embedding_)(g, condition_part<class_labels<D>>(condition)));
      } else {
        fail("boot: an mlp with {} classes was called without class labels; pass boot::class_labels", options_.classes);
      }
    }
    if (guidance_embedding_) {
      if constexpr (has_condition<guidance_scale<D, T>, C>) {
        const view<const T, D> w = condition_part<guidance_scale<D, T>>(condition).scale;
        h = add(g, h, (*guidance_embedding_)(g, times<D, T>{t_source.time, w, {}, false}));
      } else {
        fail("boot: an mlp that reads a guidance scale was called without one; pass boot::guidance_scale");
      }
    }
    const auto context = tokens(g, x, condition);
    for (std::size_t i = 0; i < layers_.size(); ++i) h = layers_[i](g, activate(g, h, i, context, condition));
    return layer_out_(g, activate(g, h, layers_.size(), context, condition));
  }
  /// Names as in the dotted paths of its files.
  template <class V>
  void visit(V& v) {
    v("time_embedding", time_embedding_);
    v("target_embedding", target_embedding_);
    v("class_embedding", class_embedding_);
    v("guidance_embedding", guidance_embedding_);
    v("level_embedding", level_embedding_);
    v("layer_in", layer_in_);
    v("layers", layers_);
    v("norms", norms_);
    v("attentions", attentions_);
    v("layer_out", layer_out_);
  }
  /// [features].
  [[nodiscard]] shape sample_shape() const { return {options_.features}; }
  /// time_scale * t.
  [[nodiscard]] double time_input(double t) const noexcept { return options_.time_scale * t; }
  /// As given.
  [[nodiscard]] const mlp_options& options() const noexcept { return options_; }

 private:
  template <class G>
  using prompt_of = prompt_embeddings<typename G::device_type, typename G::scalar_type>;

  // layer_in on the sample and the low-resolution image, plus the embedding of the image's level.
  template <class G, class Times, class C>
  [[nodiscard]] typename G::value refine(G& g, const typename G::value& x, const Times& t, const C& condition) const {
    using low = low_resolution<typename G::device_type, typename G::scalar_type>;
    if constexpr (has_condition<low, C>) {
      const low& c = condition_part<low>(condition);
      const std::int64_t batch = x.extents().batch(), n = options_.low_resolution_features;
      require(c.image.batch() == batch && c.image.sample_size() == n && c.level.extents() == shape{batch},
              "boot: an mlp got {} samples with low-resolution images of shape {} and levels of shape {}; needs [{}, "
              "...] with {} numbers per image and [{}]; bring the images to the size of the network first",
              batch, boot::to_string(c.image.extents()), boot::to_string(c.level.extents()), batch, n, batch);
      const auto h = layer_in_(g, concat(g, x, g.input(c.image.reshape({batch, n}))));
      return add(g, h, (*level_embedding_)(g, Times{t.time, c.level, {}, false}));
    } else {
      fail(
          "boot: an mlp that reads {} numbers of a low-resolution image was called without one; pass "
          "boot::low_resolution of the network's device and scalar type",
          options_.low_resolution_features);
    }
  }
  // The prompt's tokens, or a value without content for a network that reads none.
  template <class G, class C>
  [[nodiscard]] typename G::value tokens(G& g, const typename G::value& x, const C& condition) const {
    if (attentions_.empty()) return {};
    if constexpr (has_condition<prompt_of<G>, C>) {
      const auto& t = condition_part<prompt_of<G>>(condition).tokens;
      const shape& s = t.extents();
      const std::int64_t batch = x.extents().batch();
      require(s.rank() == 3 && (s[0] == batch || s[0] == 1) && s[1] > 0 && s[2] == options_.context_width,
              "boot: an mlp got {} samples with prompt embeddings of shape {}; needs [{} or 1, tokens, {}] with at "
              "least one token",
              batch, boot::to_string(s), batch, options_.context_width);
      return g.input(t);
    } else {
      fail(
          "boot: an mlp that attends to tokens of width {} was called without prompt embeddings; pass "
          "boot::prompt_embeddings of the network's device and scalar type",
          options_.context_width);
    }
  }
  template <class G, class C>
  [[nodiscard]] typename G::value activate(G& g, const typename G::value& h, std::size_t i,
                                           const typename G::value& context, const C& condition) const {
    const auto a = silu(g, norms_.empty() ? h : norms_[i](g, h));
    if constexpr (has_condition<prompt_of<G>, C>) {
      if (context.has_value())
        return add(g, a, attentions_[i](g, a, context, condition_part<prompt_of<G>>(condition).mask));
    }
    return a;
  }

  mlp_options options_;
  linear layer_in_, layer_out_;
  time_embedding time_embedding_;
  std::optional<time_embedding> target_embedding_, guidance_embedding_, level_embedding_;
  std::optional<class_embedding> class_embedding_;
  std::vector<linear> layers_;
  std::vector<layer_norm> norms_;
  std::vector<attention_layer> attentions_;
};

}  // namespace boot::inline v0
