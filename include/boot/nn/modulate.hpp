// SPDX-License-Identifier: MIT
/// What a condition does to a transformer's channels: scale and shift, gate, and the layer norm before them.
#pragma once

#include <boot/nn/operations.hpp>

#include <cstdint>

namespace boot::inline v0 {

namespace detail {
/// Throws boot::error unless e is [batch of x or 1, channels of x].
inline void require_modulation(const char* what, const char* name, const shape& x, const shape& e) {
  require(x.rank() >= 2 && x.sample_size() > 0,
          "boot: {} of shape {}; it needs a batch, channels last, and nothing of size zero between", what,
          to_string(x));
  require(e.rank() == 2 && e[-1] == x[-1] && (e.batch() == x.batch() || e.batch() == 1),
          "boot: {} of shape {} got a {} of shape {}; it must be [{} or 1, {}], one row per sample or one for all",
          what, to_string(x), name, to_string(e), x.batch(), x[-1]);
}
}  // namespace detail

/// y = x (1 + scale) + shift (Perez et al. 2018; the form of DiT, Peebles and Xie 2023). Operands: x [batch, ..., c],
/// scale and shift [batch or 1, c].
struct modulate_op {
  static constexpr unsigned saves = 0b011;   ///< x and scale
  static constexpr unsigned parameters = 0;  ///< none
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& scale, const shape& shift) const {
    detail::require_modulation("modulation", "scale", x, scale);
    require(shift == scale,
            "boot: modulation of shape {} got a scale of shape {} and a shift of shape {}; they must be "
            "equal",
            to_string(x), to_string(scale), to_string(shift));
    return x;
  }
  /// One pass.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    modulate_forward(dev, c.in[0], c.in[1], c.in[2], c.out);
  }
  /// A pass per wanted gradient.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0)) modulate_input_gradient(dev, c.out_gradient, c.in[1], {1}, c.gradient[0], c.accumulate[0]);
    if (c.wants(1)) modulate_factor_gradient(dev, c.out_gradient, c.in[0], c.gradient[1], c.accumulate[1]);
    if (c.wants(2)) modulate_factor_gradient(dev, c.out_gradient, {}, c.gradient[2], c.accumulate[2]);
  }
};

/// y = x + gate h: a branch whose share each channel of each sample decides, none at first where the gate starts at
/// zero. Operands: x and h [batch, ..., c], gate [batch or 1, c].
struct gate_add_op {
  static constexpr unsigned saves = 0b110;   ///< h and gate
  static constexpr unsigned parameters = 0;  ///< none
  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& h, const shape& gate) const {
    require(x == h, "boot: a gate cannot add shape {} to shape {}; they must be equal", to_string(h), to_string(x));
    detail::require_modulation("a gated sum", "gate", x, gate);
    return x;
  }
  /// One pass.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    gate_add_forward(dev, c.in[0], c.in[1], c.in[2], c.out);
  }
  /// A pass per wanted gradient.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    if (c.wants(0)) add_to(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
    if (c.wants(1)) modulate_input_gradient(dev, c.out_gradient, c.in[2], {0}, c.gradient[1], c.accumulate[1]);
    if (c.wants(2)) modulate_factor_gradient(dev, c.out_gradient, c.in[1], c.gradient[2], c.accumulate[2]);
  }
};

/// Layer norm over the last dimension without weight and bias. Operand: x.
struct normalise_op {
  double epsilon = 1e-6;                           ///< added to the variance
  static constexpr unsigned saves = saves_result;  ///< the result, which a modulation after it keeps anyway
  static constexpr unsigned parameters = 0;        ///< none
  /// x's shape.
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() >= 1 && x[-1] > 0,
            "boot: a layer norm of shape {}; its last dimension must have at least one element", to_string(x));
    require(epsilon > 0, "boot: a layer norm with epsilon {}; it must be positive, 1e-6 is usual", epsilon);
    return x;
  }
  /// The reciprocal deviation of every row.
  [[nodiscard]] std::int64_t saved_size(const shape& x) const { return x.size() / x[-1]; }
  /// Two passes over a row.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    normalise_forward(dev, c.in[0], epsilon, c.out, c.saved.data());
  }
  /// Two passes over a row.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    const auto& y = c.out;
    normalise_backward(dev, {y.data(), y.extents()}, c.saved.data(), c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// Channels [first, first + count) of x [..., n].
struct take_channels_op {
  std::int64_t first, count;                 ///< which
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// [..., count].
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() >= 1 && first >= 0 && count > 0 && first + count <= x[-1],
            "boot: channels {} .. {} of shape {}; ask for at least one, within its last dimension", first,
            first + count - 1, to_string(x));
    shape s;
    for (int i = 0; i + 1 < x.rank(); ++i) s.push_back(x[i]);
    s.push_back(count);
    return s;
  }
  /// Copies.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    const std::int64_t n = c.in[0].extents()[-1];
    copy_columns(dev, c.in[0].data() + first, n, c.out.data(), count, c.out.size() / count, count, false);
  }
  /// Adds to the channels taken; the others get nothing.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    const std::int64_t n = c.gradient[0].extents()[-1];
    if (!c.accumulate[0]) fill_zero(dev, c.gradient[0]);
    copy_columns(dev, c.out_gradient.data(), count, c.gradient[0].data() + first, n, c.out_gradient.size() / count,
                 count, true);
  }
};

/// x (1 + scale) + shift for x [batch, ..., c], scale and shift [batch or 1, c].
template <class G>
[[nodiscard]] typename G::value modulate(G& g, const typename G::value& x, const typename G::value& scale,
                                         const typename G::value& shift) {
  return g.apply(modulate_op{}, x, scale, shift);
}
/// x + gate h for x and h [batch, ..., c], gate [batch or 1, c].
template <class G>
[[nodiscard]] typename G::value gate_add(G& g, const typename G::value& x, const typename G::value& h,
                                         const typename G::value& gate) {
  return g.apply(gate_add_op{}, x, h, gate);
}
/// (x - mean) / sqrt(variance + epsilon) over the last dimension.
template <class G>
[[nodiscard]] typename G::value normalise(G& g, const typename G::value& x, double epsilon = 1e-6) {
  return g.apply(normalise_op{epsilon}, x);
}
/// Channels [first, first + count) of x [..., n], such as one of the six parts of an adaLN-zero.
template <class G>
[[nodiscard]] typename G::value take_channels(G& g, const typename G::value& x, std::int64_t first,
                                              std::int64_t count) {
  return g.apply(take_channels_op{first, count}, x);
}

}  // namespace boot::inline v0
