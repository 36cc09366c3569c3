// SPDX-License-Identifier: MIT
/// Attention: softmax(q k^T / sqrt(depth)) v in several heads, with or without a padding mask, and its layer.
#pragma once

#include <boot/nn/layers.hpp>

#include <cmath>
#include <cstdint>

namespace boot::inline v0 {

/// Attention (Vaswani et al. 2017). Operands: q [batch, ..., width], k and v [batch or 1, ..., width], where the extents
/// between the batch and the width together are the tokens, and every head has width / heads neighbouring features.
/// No matrix of tokens by tokens is kept: backward computes the probabilities again (Dao et al. 2022).
template <Device D>
struct attention_op {
  std::int64_t heads = 1;                                  ///< divides the width
  view<const std::uint8_t, D> mask = {};                   ///< [batch of k, tokens of k], 0 = padding; empty: none
  static constexpr unsigned saves = 0b111 | saves_result;  ///< q, k, v and the result
  static constexpr unsigned parameters = 0;                ///< none
  /// q's shape.
  [[nodiscard]] shape result(const shape& q, const shape& k, const shape& v) const {
    require(q.rank() >= 2 && k.rank() >= 2 && q[-1] > 0 && q.sample_size() > 0 && k.sample_size() > 0,
            "boot: attention got q of shape {} and k of shape {}; each needs a batch, at least one token and at least "
            "one feature",
            to_string(q), to_string(k));
    require(k == v && k[-1] == q[-1] && (k.batch() == q.batch() || k.batch() == 1),
            "boot: attention got q of shape {}, k of shape {} and v of shape {}; k and v must have one shape, with q's "
            "last extent and q's batch, or a batch of one for all samples",
            to_string(q), to_string(k), to_string(v));
    require(heads > 0 && q[-1] % heads == 0,
            "boot: attention with {} heads got {} features; the number of heads must divide the number of features",
            heads, q[-1]);
    require(!masked() || mask.extents() == shape({k.batch(), k.sample_size() / k[-1]}),
            "boot: attention got a mask of shape {} for k of shape {}; the mask must be [{}, {}], one number per token",
            to_string(mask.extents()), to_string(k), k.batch(), k.sample_size() / k[-1]);
    return q;
  }
  /// The logarithm of the softmax's sum, per head and query.
  [[nodiscard]] std::int64_t saved_size(const shape& q, const shape&, const shape&) const {
    return q.size() / q[-1] * heads;
  }
  /// 2 per multiply-add of q k^T and of its product with v, padding included.
  [[nodiscard]] double flop(const shape& q, const shape& k, const shape&) const {
    return 4.0 * static_cast<double>(q.size()) * static_cast<double>(k.sample_size() / k[-1]);
  }
  /// Five products instead of the forward pass's two.
  [[nodiscard]] double backward_flop(const shape& q, const shape& k, const shape& v) const {
    return 2.5 * flop(q, k, v);
  }
  /// Two matrix products per block of scores.
  template <class C>
  void forward(const D& dev, C& c) const {
    attention_forward(dev, c.in[0], c.in[1], c.in[2], mask.data(), heads, c.out, c.saved.data());
  }
  /// Up to five matrix products per block of scores.
  template <class C>
  void backward(const D& dev, C& c) const {
    const auto& out = c.out;
    attention_backward(dev, c.in[0], c.in[1], c.in[2], mask.data(), heads, {out.data(), out.extents()}, c.saved.data(),
                       c.out_gradient, c.gradient[0], c.gradient[1], c.gradient[2], c.accumulate[0], c.accumulate[1],
                       c.accumulate[2]);
  }

 private:
  [[nodiscard]] bool masked() const noexcept { return mask.data() != nullptr || mask.extents().rank() > 1; }
};

/// softmax(q k^T / sqrt(width / heads)) v per head, for q [batch, ..., width] and k, v [batch or 1, ..., width]; q's
/// shape. Throws boot::error for shapes that do not fit.
template <class G>
[[nodiscard]] typename G::value attention(G& g, const typename G::value& q, const typename G::value& k,
                                          const typename G::value& v, std::int64_t heads) {
  return g.apply(attention_op<typename G::device_type>{heads}, q, k, v);
}
/// The same over the tokens of k whose number in `mask` [batch of k, tokens of k] is not 0; a sample without any gets
/// zeros. The mask must live until backward() is through; an empty one lets all tokens count.
template <class G>
[[nodiscard]] typename G::value attention(G& g, const typename G::value& q, const typename G::value& k,
                                          const typename G::value& v, std::int64_t heads,
                                          const view<const std::uint8_t, typename G::device_type>& mask) {
  return g.apply(attention_op<typename G::device_type>{heads, mask}, q, k, v);
}

/// What an attention layer reads and how it is cut.
struct attention_options {
  std::int64_t width;        ///< features of a token, in and out
  std::int64_t heads = 1;    ///< divides the width
  std::int64_t context = 0;  ///< features of the context's tokens; 0: attention of x to itself
  bool bias = true;          ///< of q, k and v; the way out always has one
};

/// Linear maps to q, k and v, attention, and a linear map out. Names as diffusers' Attention.
struct attention_layer {
  linear to_q, to_k, to_v;  ///< to `width` features: q of x, k and v of x or of the context
  linear to_out;            ///< from the heads to the result
  std::int64_t heads = 1;   ///< number of heads

  attention_layer() = default;
  /// Throws boot::error unless the heads divide the width.
  explicit attention_layer(const attention_options& o) : heads(o.heads) {
    require(o.width > 0 && o.heads > 0 && o.width % o.heads == 0 && o.context >= 0,
            "boot: an attention layer of width {} with {} heads and a context of width {}; the number of heads must "
            "divide a positive width, and a context of 0 means attention of x to itself",
            o.width, o.heads, o.context);
    const std::int64_t from = o.context > 0 ? o.context : o.width;
    to_q = linear(o.width, o.width, o.bias);
    to_k = linear(from, o.width, o.bias);
    to_v = linear(from, o.width, o.bias);
    to_out = linear(o.width, o.width);
  }
  /// Attention of x [batch, ..., width] to itself; the same shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    return (*this)(g, x, x);
  }
  /// Attention of x [batch, ..., width] to a context [batch or 1, ..., context width]; x's shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x, const typename G::value& context) const {
    return to_out(g, attention(g, to_q(g, x), to_k(g, context), to_v(g, context), heads));
  }
  /// The same with a mask [batch of the context, its tokens], 0 = padding; it must live until backward() is through.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x, const typename G::value& context,
                                             const view<const std::uint8_t, typename G::device_type>& mask) const {
    return to_out(g, attention(g, to_q(g, x), to_k(g, context), to_v(g, context), heads, mask));
  }
  /// to_q, to_k, to_v, to_out.0.
  template <class V>
  void visit(V& v) {
    v("to_q", to_q);
    v("to_k", to_k);
    v("to_v", to_v);
    v("to_out.0", to_out);
  }
};

}  // namespace boot::inline v0
