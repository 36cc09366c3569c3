// SPDX-License-Identifier: MIT
/// The differentiable operations of a graph: linear, SiLU, addition, concatenation, layer norm, embeddings.
#pragma once

#include <boot/nn/condition.hpp>
#include <boot/nn/graph.hpp>
#include <boot/nn/times.hpp>

#include <cstdint>

namespace boot::inline v0 {

/// Bit of `saves` that keeps an operation's result for backward.
inline constexpr unsigned saves_result = 1u << 31;

/// y = x weight^T + bias over the last dimension. Operands: x [..., in], weight [out, in], bias [out] (optional).
template <bool with_bias>
struct linear_op {
  static constexpr unsigned saves = 0b011;                           ///< x and weight
  static constexpr unsigned parameters = with_bias ? 0b110 : 0b010;  ///< weight and bias
  /// [..., out].
  [[nodiscard]] shape result(const shape& x, const shape& weight, const shape& = {}) const {
    require(x.rank() >= 1 && x[-1] == weight[1],
            "boot: a linear layer for {} inputs got an activation of shape {}; its last dimension must be {}",
            weight[1], to_string(x), weight[1]);
    shape s;
    for (int i = 0; i + 1 < x.rank(); ++i) s.push_back(x[i]);
    s.push_back(weight[0]);
    return s;
  }
  /// 2 per multiply-add.
  [[nodiscard]] double flop(const shape& x, const shape& weight, const shape& = {}) const {
    return 2.0 * static_cast<double>(x.size()) * static_cast<double>(weight[0]);
  }
  /// One matrix product.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    linear_forward(dev, c.in[0], c.in[1], with_bias ? c.in[2].data() : nullptr, c.out);
  }
  /// Up to two matrix products and a column sum.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0)) linear_input_gradient(dev, c.out_gradient, c.in[1], c.gradient[0], c.accumulate[0]);
    if (c.wants(1)) linear_weight_gradient(dev, c.out_gradient, c.in[0], c.parameter_gradient(1), c.accumulate[1]);
    if constexpr (with_bias)
      if (const auto& to = c.parameter_gradient(2); c.wants(2))
        column_sums(dev, c.out_gradient, to.size(), to.data(), c.accumulate[2]);
  }
};

/// y = x sigmoid(x).
struct silu_op {
  static constexpr unsigned saves = 1;       ///< x
  static constexpr unsigned parameters = 0;  ///< none
  /// The operand's.
  [[nodiscard]] shape result(const shape& x) const { return x; }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    silu_forward(dev, c.in[0], c.out);
  }
  /// Element by element.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    silu_backward(dev, c.in[0], c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// y = a + b. b has a's shape, or a batch of one that is added to every sample.
struct add_op {
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  static constexpr unsigned passes = 0b11;   ///< either, b unless it is broadcast
  /// a's shape.
  [[nodiscard]] shape result(const shape& a, const shape& b) const {
    require(a == b || (b.batch() == 1 && a == b.with_batch(a.batch())),
            "boot: cannot add shapes {} and {}; the second must equal the first or have a batch of one", to_string(a),
            to_string(b));
    return a;
  }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    add_forward(dev, c.in[0], c.in[1], c.out);
  }
  /// A broadcast operand gets the sum over the batch.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0)) add_to(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
    if (!c.wants(1)) return;
    if (c.gradient[1].size() == c.out_gradient.size()) {
      add_to(dev, c.out_gradient, c.gradient[1], c.accumulate[1]);
    } else {
      column_sums(dev, c.out_gradient, c.gradient[1].size(), c.gradient[1].data(), c.accumulate[1]);
    }
  }
};

/// y = x + bias, or x + b + bias with an x and a b of one shape, over the last dimension: the bias of a product that was
/// made without, in a pass that is needed anyway. Operands: x [..., n], b (optional), bias [n].
template <bool of_two>
struct add_bias_op {
  static constexpr unsigned saves = 0;                           ///< nothing
  static constexpr unsigned parameters = of_two ? 0b100 : 0b10;  ///< bias
  static constexpr unsigned passes = of_two ? 0b11 : 0b1;        ///< x and b
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& bias) const {
    require(x.rank() >= 1 && bias.rank() == 1 && x[-1] == bias[0],
            "boot: cannot add a bias of shape {} to shape {}; needs [{}]", to_string(bias), to_string(x),
            x.rank() > 0 ? x[-1] : 1);
    return x;
  }
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& b, const shape& bias) const {
    require(x == b, "boot: cannot add shapes {} and {} and a bias; the two must be equal", to_string(x), to_string(b));
    return result(x, bias);
  }
  /// Element by element.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    if constexpr (of_two) {
      add_bias_forward(dev, c.in[0], c.in[1], c.parameter(2).data(), c.out);
    } else {
      add_bias_forward(dev, c.in[0], c.parameter(1).data(), c.out);
    }
  }
  /// A sum over the rows for the bias.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    constexpr int last = of_two ? 2 : 1;
    for (int i = 0; i < last; ++i) {
      const auto k = static_cast<std::size_t>(i);
      if (c.wants(i)) add_to(dev, c.out_gradient, c.gradient[k], c.accumulate[k]);
    }
    if (const auto& to = c.parameter_gradient(last); c.wants(last))
      column_sums(dev, c.out_gradient, to.size(), to.data(), c.accumulate[last]);
  }
};

/// Joins a and b along the last dimension; all others must agree.
struct concat_op {
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// The last dimension is the sum.
  [[nodiscard]] shape result(const shape& a, const shape& b) const {
    bool fits = a.rank() == b.rank() && a.rank() > 0;
    for (int i = 0; fits && i + 1 < a.rank(); ++i) fits = a[i] == b[i];
    require(fits, "boot: cannot join shapes {} and {} along the last dimension; all others must be equal", to_string(a),
            to_string(b));
    shape s;
    for (int i = 0; i + 1 < a.rank(); ++i) s.push_back(a[i]);
    s.push_back(a[-1] + b[-1]);
    return s;
  }
  /// Copies.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    const std::int64_t na = c.in[0].extents()[-1], nb = c.in[1].extents()[-1], n = na + nb, rows = c.out.size() / n;
    copy_columns(dev, c.in[0].data(), na, c.out.data(), n, rows, na, false);
    copy_columns(dev, c.in[1].data(), nb, c.out.data() + na, n, rows, nb, false);
  }
  /// Copies back.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    const std::int64_t na = c.in[0].extents()[-1], nb = c.in[1].extents()[-1], n = na + nb;
    const std::int64_t rows = c.out_gradient.size() / n;
    if (c.wants(0)) copy_columns(dev, c.out_gradient.data(), n, c.gradient[0].data(), na, rows, na, c.accumulate[0]);
    if (c.wants(1))
      copy_columns(dev, c.out_gradient.data() + na, n, c.gradient[1].data(), nb, rows, nb, c.accumulate[1]);
  }
};

/// Layer norm over the last dimension (Ba et al. 2016). Operands: x, weight, bias.
struct layer_norm_op {
  double epsilon = 1e-5;                         ///< added to the variance
  static constexpr unsigned saves = 0b011;       ///< x and weight
  static constexpr unsigned parameters = 0b110;  ///< weight and bias
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& weight, const shape&) const {
    require(x.rank() >= 1 && x[-1] == weight.size(),
            "boot: a layer norm over {} elements got shape {}; its last dimension must be {}", weight.size(),
            to_string(x), weight.size());
    return x;
  }
  /// Mean and reciprocal deviation of every row.
  [[nodiscard]] std::int64_t saved_size(const shape& x, const shape& weight, const shape&) const {
    return 2 * x.size() / weight.size();
  }
  /// Two passes over a row.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    layer_norm_forward(dev, c.in[0], c.parameter(1).data(), c.parameter(2).data(), epsilon, c.out, c.saved.data(),
                       c.parameter(1).size());
  }
  /// Two passes over a row.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    for (const int i : {1, 2})
      if (c.wants(i) && !c.accumulate[static_cast<std::size_t>(i)]) fill_zero(dev, c.parameter_gradient(i));
    layer_norm_backward(dev, c.in[0], c.parameter(1).data(), c.saved.data(), c.out_gradient, c.gradient[0],
                        c.accumulate[0], c.parameter_gradient(1).data(), c.parameter_gradient(2).data(),
                        c.parameter(1).size());
  }
};

/// Sinusoids of the times' network inputs: [batch, features], or [1, features] where all times are equal. No operands.
template <Device D, ComputeScalar T>
struct sinusoid_op {
  const T* input;                       ///< network inputs
  std::int64_t rows, features;          ///< shape of the result
  bool cosine_first;                    ///< diffusers' flip_sin_to_cos
  double shift, max_period;             ///< diffusers' freq_shift and max_period
  double factor;                        ///< multiplies every input
  static constexpr unsigned saves = 0;  ///< nothing
  /// [rows, features].
  [[nodiscard]] shape result() const { return {rows, features}; }
  /// Fills the rows.
  template <class C>
  void forward(const D& dev, C& c) const {
    sinusoids(dev, input, rows, features, cosine_first, shift, max_period, factor, c.out.data());
  }
  /// Times have no gradient.
  template <class C>
  void backward(const D&, C&) const {}
};

/// Rows of a table by class. Operand: table [classes + 1, width], its last row the null class.
template <Device D>
struct embedding_op {
  class_labels<D> labels;               ///< one id per row of the result
  static constexpr unsigned saves = 0;  ///< nothing
  /// [batch, width].
  [[nodiscard]] shape result(const shape& table) const { return {labels.ids.batch(), table[1]}; }
  /// Copies rows.
  template <class C>
  void forward(const D& dev, C& c) const {
    embedding_forward(dev, c.in[0], labels, c.out);
  }
  /// Adds rows, in order.
  template <class C>
  void backward(const D& dev, C& c) const {
    if (!c.accumulate[0]) fill_zero(dev, c.gradient[0]);
    embedding_backward(dev, c.out_gradient, labels, c.gradient[0]);
  }
};

/// y[sample] = x[sample] scale[sample], for a model's input scaling.
template <Device D, ComputeScalar T>
struct scale_rows_op {
  const T* scale;                       ///< one factor per sample
  static constexpr unsigned saves = 0;  ///< nothing
  /// x's shape.
  [[nodiscard]] shape result(const shape& x) const { return x; }
  /// Element by element.
  template <class C>
  void forward(const D& dev, C& c) const {
    scale_rows(dev, c.in[0], scale, c.out, false);
  }
  /// Element by element.
  template <class C>
  void backward(const D& dev, C& c) const {
    scale_rows(dev, c.out_gradient, scale, c.gradient[0], c.accumulate[0]);
  }
};

/// x sigmoid(x).
template <class G>
[[nodiscard]] typename G::value silu(G& g, const typename G::value& x) {
  return g.apply(silu_op{}, x);
}
/// a + b; b may have a batch of one.
template <class G>
[[nodiscard]] typename G::value add(G& g, const typename G::value& a, const typename G::value& b) {
  return g.apply(add_op{}, a, b);
}
/// x + bias over the last dimension; `bias` is a parameter.
template <class G>
[[nodiscard]] typename G::value add_bias(G& g, const typename G::value& x, const typename G::value& bias) {
  return g.apply(add_bias_op<false>{}, x, bias);
}
/// a + b + bias; a and b have one shape.
template <class G>
[[nodiscard]] typename G::value add_bias(G& g, const typename G::value& a, const typename G::value& b,
                                         const typename G::value& bias) {
  return g.apply(add_bias_op<true>{}, a, b, bias);
}
/// a and b side by side along the last dimension.
template <class G>
[[nodiscard]] typename G::value concat(G& g, const typename G::value& a, const typename G::value& b) {
  return g.apply(concat_op{}, a, b);
}
/// x times the model's own input scaling, or x where it has none.
template <class G, Device D, ComputeScalar T>
[[nodiscard]] typename G::value scale_input(G& g, const typename G::value& x, const times<D, T>& t) {
  if (t.scale.empty()) return x;
  return g.apply(scale_rows_op<D, T>{t.scale.data()}, x);
}

}  // namespace boot::inline v0
