// SPDX-License-Identifier: MIT
/// Layers as plain structs: parameters, a call that works on any graph, and visit() that names the parameters.
#pragma once

#include <boot/nn/operations.hpp>

#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

/// y = x W^T + b. Names and initial values as torch.nn.Linear: uniform within 1/sqrt(in).
struct linear {
  parameter weight;  ///< [out, in]
  parameter bias;    ///< [out], or not there

  linear() = default;
  /// A layer from `in` to `out` features, without a bias if so asked; throws boot::error unless both are positive.
  linear(std::int64_t in, std::int64_t out, bool with_bias = true) {
    require(in > 0 && out > 0, "boot: a linear layer from {} to {} features; both must be positive", in, out);
    const initializer init{initializer::rule::uniform, 1 / std::sqrt(static_cast<double>(in))};
    weight = {{out, in}, init};
    if (with_bias) bias = {{out}, init};
  }
  /// Starts at zero: a new branch that leaves the network as it is.
  void zero() { weight.init = bias.init = {}; }
  /// [..., in] to [..., out].
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    if (bias.extents.rank() == 0) return g.apply(linear_op<false>{}, x, g(weight));
    return g.apply(linear_op<true>{}, x, g(weight), g(bias));
  }
  /// weight, and bias where it is there.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    if (bias.extents.rank() > 0) v("bias", bias);
  }
};

/// Layer norm over the last dimension, names as torch.nn.LayerNorm.
struct layer_norm {
  parameter weight;       ///< [features], ones
  parameter bias;         ///< [features], zeros
  double epsilon = 1e-5;  ///< added to the variance

  layer_norm() = default;
  /// Over `features` elements.
  explicit layer_norm(std::int64_t features, double eps = 1e-5)
      : weight{{features}, {initializer::rule::constant, 1}}, bias{{features}, {}}, epsilon(eps) {
    require(features > 0, "boot: a layer norm over {} features; needs at least one", features);
  }
  /// Same shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    return g.apply(layer_norm_op{epsilon}, x, g(weight), g(bias));
  }
  /// weight, bias.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

/// How a time becomes sinusoids (diffusers' Timesteps).
struct sinusoid_options {
  std::int64_t features = 128;  ///< numbers per time
  bool flip_sin_to_cos = true;  ///< cosines first
  double freq_shift = 0;        ///< frequency i is exp(-ln(max_period) i / (features / 2 - freq_shift))
  double max_period = 10000;    ///< ratio of the highest to the lowest frequency
  double factor = 1;            ///< what comes in is multiplied by this first
};

/// Sinusoids of a time, linear, SiLU, linear (diffusers' TimestepEmbedding). A uniform time is embedded once.
struct time_embedding {
  sinusoid_options options;   ///< sinusoids
  linear linear_1, linear_2;  ///< to `width`, and on

  time_embedding() = default;
  /// From times to `width` features.
  time_embedding(const sinusoid_options& o, std::int64_t width)
      : options(o), linear_1(o.features, width), linear_2(width, width) {
    require(o.max_period > 1 && o.freq_shift < static_cast<double>(o.features) / 2,
            "boot: sinusoids with max_period {} and freq_shift {}; needs max_period > 1 and freq_shift < features / 2",
            o.max_period, o.freq_shift);
  }
  /// [batch, width], or [1, width] for a uniform time.
  template <class G, Device D, ComputeScalar T>
  [[nodiscard]] typename G::value operator()(G& g, const times<D, T>& t) const {
    const std::int64_t rows = t.uniform ? 1 : t.batch();
    auto h = g.apply(sinusoid_op<D, T>{t.input.data(), rows, options.features, options.flip_sin_to_cos,
                                       options.freq_shift, options.max_period, options.factor});
    h = silu(g, linear_1(g, h));
    return linear_2(g, h);
  }
  /// linear_1, linear_2.
  template <class V>
  void visit(V& v) {
    v("linear_1", linear_1);
    v("linear_2", linear_2);
  }
};

/// A row of numbers per class and one more for the null class, normal as torch.nn.Embedding.
struct class_embedding {
  parameter weight;  ///< [classes + 1, width]; the last row is the null class

  class_embedding() = default;
  /// `classes` rows and the null row.
  class_embedding(std::int64_t classes, std::int64_t width)
      : weight{{classes + 1, width}, {initializer::rule::normal, 1}} {
    require(classes > 0, "boot: a class embedding for {} classes; needs at least one", classes);
  }
  /// [batch, width].
  template <class G, Device D>
  [[nodiscard]] typename G::value operator()(G& g, const class_labels<D>& labels) const {
    return g.apply(embedding_op<D>{labels}, g(weight));
  }
  /// weight.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
  }
};

/// x + f(x), for a layer or block f that keeps the shape.
template <class G, class F>
[[nodiscard]] typename G::value residual(G& g, const typename G::value& x, const F& f) {
  return add(g, x, f(g, x));
}

}  // namespace boot::inline v0
