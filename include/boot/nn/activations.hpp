// SPDX-License-Identifier: MIT
/// Activations and small operations of convolutional networks and transformers: GELU, GEGLU, a sum per channel, Fourier
/// features of a time.
#pragma once

#include <boot/nn/graph.hpp>
#include <boot/nn/times.hpp>

#include <cstdint>

namespace boot::inline v0 {

/// y = x Phi(x) with the normal distribution function Phi (Hendrycks and Gimpel 2016), exact.
struct gelu_op {
  static constexpr unsigned saves = 1;       ///< x
  static constexpr unsigned parameters = 0;  ///< none
  /// The operand's.
  [[nodiscard]] shape result(const shape& x) const { return x; }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    gelu_forward(dev, c.in[0], c.out);
  }
  /// Element by element.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    gelu_backward(dev, c.in[0], c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the usual approximation of GELU.
struct gelu_tanh_op {
  static constexpr unsigned saves = 1;       ///< x
  static constexpr unsigned parameters = 0;  ///< none
  /// The operand's.
  [[nodiscard]] shape result(const shape& x) const { return x; }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    gelu_tanh_forward(dev, c.in[0], c.out);
  }
  /// Element by element.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    gelu_tanh_backward(dev, c.in[0], c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// y = a gelu(b) for x = (a, b) along the last dimension (Shazeer 2020; the order of diffusers).
struct geglu_op {
  static constexpr unsigned saves = 1;       ///< x
  static constexpr unsigned parameters = 0;  ///< none
  /// Half the last dimension.
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() >= 1 && x[-1] > 0 && x[-1] % 2 == 0,
            "boot: geglu got shape {}; its last dimension holds values and gates side by side and must be even and "
            "positive",
            to_string(x));
    shape s;
    for (int i = 0; i + 1 < x.rank(); ++i) s.push_back(x[i]);
    s.push_back(x[-1] / 2);
    return s;
  }
  /// Row by row.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    geglu_forward(dev, c.in[0], c.out);
  }
  /// Row by row.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    geglu_backward(dev, c.in[0], c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// y[sample, .., channel] = x[sample, .., channel] + e[sample, channel]; e may have a batch of one.
struct add_channels_op {
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  static constexpr unsigned passes = 1;      ///< x
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& e) const {
    require(x.rank() >= 2 && x.size() > 0,
            "boot: add_channels got an activation of shape {}; needs [batch, .., channels] without zero extents",
            to_string(x));
    require(e.rank() == 2 && (e[0] == x[0] || e[0] == 1) && e[1] == x[-1],
            "boot: add_channels got shape {} to add to shape {}; needs [{}, {}], or a batch of one", to_string(e),
            to_string(x), x[0], x[-1]);
    return x;
  }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    add_channels_forward(dev, c.in[0], c.in[1], c.out);
  }
  /// Sums over the positions for e.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0)) add_to(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
    if (c.wants(1)) channel_sums(dev, c.out_gradient, c.gradient[1], c.accumulate[1]);
  }
};

/// sin and cos of 2 pi w u for the network inputs u of the times, or their logarithms. Operand: w [features / 2].
template <Device D, ComputeScalar T>
struct fourier_op {
  const T* input;                       ///< network inputs, one per row
  std::int64_t rows;                    ///< rows of the result
  bool logarithm;                       ///< u is the input's natural logarithm
  bool cosine_first;                    ///< cosines, then sines
  static constexpr unsigned saves = 0;  ///< nothing
  /// [rows, features].
  [[nodiscard]] shape result(const shape& weight) const { return {rows, 2 * weight.size()}; }
  /// Fills the rows.
  template <class C>
  void forward(const D& dev, C& c) const {
    fourier_features(dev, input, rows, c.in[0], logarithm, cosine_first, c.out);
  }
  /// The frequencies are constants: they get zeros.
  template <class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0) && !c.accumulate[0]) fill_zero(dev, c.gradient[0]);
  }
};

/// x Phi(x), exact; any shape.
template <class G>
[[nodiscard]] typename G::value gelu(G& g, const typename G::value& x) {
  return g.apply(gelu_op{}, x);
}
/// GELU by tanh; any shape.
template <class G>
[[nodiscard]] typename G::value gelu_tanh(G& g, const typename G::value& x) {
  return g.apply(gelu_tanh_op{}, x);
}
/// [.., 2 n] to [.., n]: the first half times gelu of the second.
template <class G>
[[nodiscard]] typename G::value geglu(G& g, const typename G::value& x) {
  return g.apply(geglu_op{}, x);
}
/// x [batch, .., channels] plus e [batch or 1, channels] at every position.
template <class G>
[[nodiscard]] typename G::value add_channels(G& g, const typename G::value& x, const typename G::value& e) {
  return g.apply(add_channels_op{}, x, e);
}

/// How a time becomes Fourier features (diffusers' GaussianFourierProjection).
struct fourier_options {
  std::int64_t features = 256;   ///< numbers per time, even
  double scale = 16;             ///< standard deviation of the frequencies
  bool logarithm = true;         ///< of the time's network input, which must then be positive
  bool flip_sin_to_cos = false;  ///< cosines first
};

/// Random Fourier features of a time (Tancik et al. 2020). The frequencies are stored with the network but fixed: they
/// get no gradient. Put them into a group with trainable = false, so that no weight decay shrinks them either.
struct fourier_embedding {
  parameter weight;         ///< [features / 2], normal with standard deviation `scale`
  fourier_options options;  ///< features

  fourier_embedding() = default;
  /// Throws boot::error unless the number of features is even and positive.
  explicit fourier_embedding(const fourier_options& o) : options(o) {
    require(o.features > 0 && o.features % 2 == 0,
            "boot: {} Fourier features; needs a positive even number, a sine and a cosine per frequency", o.features);
    weight = {{o.features / 2}, {initializer::rule::normal, o.scale}};
  }
  /// [batch, features], or [1, features] for a uniform time.
  template <class G, Device D, ComputeScalar T>
  [[nodiscard]] typename G::value operator()(G& g, const times<D, T>& t) const {
    const auto frequencies = g.input(g.data(g(weight)));  // the numbers without the parameter: no gradient is recorded
    return g.apply(
        fourier_op<D, T>{t.input.data(), t.uniform ? 1 : t.batch(), options.logarithm, options.flip_sin_to_cos},
        frequencies);
  }
  /// weight.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
  }
};

}  // namespace boot::inline v0
