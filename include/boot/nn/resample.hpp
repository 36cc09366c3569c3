// SPDX-License-Identifier: MIT
/// Images at twice or half the size: nearest neighbours up, averages of 2 x 2 pixels down. Images are NHWC.
#pragma once

#include <boot/nn/graph.hpp>

namespace boot::inline v0 {

/// Every pixel becomes 2 x 2. Operand: x [batch, height, width, channels].
struct upsample_nearest_op {
  static constexpr unsigned saves = 1;       ///< x, a quarter of the result
  static constexpr unsigned parameters = 0;  ///< none
  static constexpr bool remade = true;       ///< the convolution behind it needs it
  /// [batch, 2 height, 2 width, channels].
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() == 4 && x[1] > 0 && x[2] > 0 && x[3] > 0,
            "boot: upsample_nearest() got shape {}; needs an image [batch, height, width, channels] with at least one "
            "pixel and channel",
            to_string(x));
    return {x[0], 2 * x[1], 2 * x[2], x[3]};
  }
  /// Copies.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    upsample_forward(dev, c.in[0], c.out);
  }
  /// Sums of 2 x 2 pixels.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    upsample_backward(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// Averages of 2 x 2 pixels. Operand: x [batch, height, width, channels], height and width even.
struct average_pool_op {
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// [batch, height / 2, width / 2, channels].
  [[nodiscard]] shape result(const shape& x) const {
    require(
        x.rank() == 4 && x[1] > 0 && x[2] > 0 && x[3] > 0 && x[1] % 2 == 0 && x[2] % 2 == 0,
        "boot: average_pool() got shape {}; needs an image [batch, height, width, channels] with an even height and "
        "width and at least one channel",
        to_string(x));
    return {x[0], x[1] / 2, x[2] / 2, x[3]};
  }
  /// Averages.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    average_pool_forward(dev, c.in[0], c.out);
  }
  /// A quarter to each of the four.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    average_pool_backward(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// [batch, height, width, channels] to [batch, 2 height, 2 width, channels], every pixel four times.
template <class G>
[[nodiscard]] typename G::value upsample_nearest(G& g, const typename G::value& x) {
  return g.apply(upsample_nearest_op{}, x);
}
/// [batch, height, width, channels] to [batch, height / 2, width / 2, channels]; throws boot::error for odd sizes.
template <class G>
[[nodiscard]] typename G::value average_pool(G& g, const typename G::value& x) {
  return g.apply(average_pool_op{}, x);
}

}  // namespace boot::inline v0
