// SPDX-License-Identifier: MIT
/// Group norm (Wu and He 2018) of channels-last activations, alone or in one pass with SiLU and a scale and shift.
#pragma once

#include <boot/nn/graph.hpp>

#include <cstdint>

namespace boot::inline v0 {

/// y = f(z), z = norm(x) weight + bias, statistics per sample and group of channels over all positions; f is SiLU or the
/// identity. With a scale and shift z (1 + scale) + shift takes the place of z. Operands: x [batch, .., channels],
/// weight [channels], bias [channels], scale and shift side by side [batch or 1, 2 channels] (optional).
template <bool with_silu, bool with_scale_shift>
struct group_norm_op {
  std::int64_t groups = 1;  ///< of equally many channels
  double epsilon = 1e-5;    ///< added to the variance
  /// x and weight, and what else SiLU's input depends on: it is computed again.
  static constexpr unsigned saves = with_scale_shift ? 0b1111 : with_silu ? 0b0111 : 0b0011;
  static constexpr unsigned parameters = 0b0110;  ///< weight and bias
  static constexpr bool remade = true;  ///< the convolution behind it needs it; it takes a third of a U-Net's memory

  /// x's shape.
  [[nodiscard]] shape result(const shape& x, const shape& weight, const shape& bias,
                             const shape& scale_shift = {}) const {
    const std::int64_t channels = weight.size();
    require(weight.rank() == 1 && bias == weight && groups > 0 && channels > 0 && channels % groups == 0,
            "boot: a group norm with weight {}, bias {} and {} groups; needs [channels] twice and a number of groups "
            "that divides the channels",
            to_string(weight), to_string(bias), groups);
    require(x.rank() >= 2 && x[-1] == channels && x.size() > 0,
            "boot: a group norm over {} channels got shape {}; needs [batch, .., {}] without zero extents", channels,
            to_string(x), channels);
    if constexpr (with_scale_shift)
      require(
          scale_shift.rank() == 2 && (scale_shift[0] == x[0] || scale_shift[0] == 1) && scale_shift[1] == 2 * channels,
          "boot: a group norm of shape {} got scale and shift of shape {}; needs [{}, {}], or a batch of one",
          to_string(x), to_string(scale_shift), x[0], 2 * channels);
    return x;
  }
  /// Mean and reciprocal deviation of every sample and group.
  [[nodiscard]] std::int64_t saved_size(const shape& x, const shape&, const shape&, const shape& = {}) const {
    return 2 * x.batch() * groups;
  }
  /// One pass for the statistics, one for the result.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    group_norm_forward(dev, c.in[0], c.parameter(1).data(), c.parameter(2).data(), scale_shift(c), groups, epsilon,
                       with_silu, c.out, c.saved.data());
  }
  /// One pass for the sums per channel, one for x's gradient.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    group_norm_backward(dev, c.in[0], c.parameter(1).data(), c.parameter(2).data(), scale_shift(c), groups, with_silu,
                        c.saved.data(), c.out_gradient, c.gradient[0], c.parameter_gradient(1).data(),
                        c.parameter_gradient(2).data(), c.gradient[3], c.accumulate);
  }

 private:
  template <class C>
  static auto scale_shift(const C& c) {
    return with_scale_shift ? c.in[3] : decltype(c.in[3]){};
  }
};

/// Group norm, names and initial values as torch.nn.GroupNorm.
struct group_norm {
  parameter weight;         ///< [channels], ones
  parameter bias;           ///< [channels], zeros
  std::int64_t groups = 1;  ///< of equally many channels
  double epsilon = 1e-5;    ///< added to the variance

  group_norm() = default;
  /// Over `channels` channels; throws boot::error unless `count` groups divide them.
  group_norm(std::int64_t count, std::int64_t channels, double eps = 1e-5)
      : weight{{channels}, {initializer::rule::constant, 1}}, bias{{channels}, {}}, groups(count), epsilon(eps) {
    require(count > 0 && channels > 0 && channels % count == 0,
            "boot: a group norm with {} groups over {} channels; needs positive numbers and channels that the groups "
            "divide",
            count, channels);
    require(eps > 0, "boot: a group norm with epsilon {}; needs a positive number, 1e-5 is usual", eps);
  }
  /// norm(x), same shape.
  template <class G>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x) const {
    return g.apply(group_norm_op<false, false>{groups, epsilon}, x, g(weight), g(bias));
  }
  /// silu(norm(x)), in one pass.
  template <class G>
  [[nodiscard]] typename G::value silu(G& g, const typename G::value& x) const {
    return g.apply(group_norm_op<true, false>{groups, epsilon}, x, g(weight), g(bias));
  }
  /// silu(norm(x) (1 + scale) + shift), in one pass; `scale_shift` is [batch or 1, 2 channels], scale first.
  template <class G>
  [[nodiscard]] typename G::value silu(G& g, const typename G::value& x, const typename G::value& scale_shift) const {
    return g.apply(group_norm_op<true, true>{groups, epsilon}, x, g(weight), g(bias), scale_shift);
  }
  /// weight, bias.
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

}  // namespace boot::inline v0
