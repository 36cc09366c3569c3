// SPDX-License-Identifier: MIT
/// Images as tokens: square patches, the way back, and the sine-cosine table of the tokens' places.
#pragma once

#include <boot/nn/graph.hpp>

#include <cstdint>

namespace boot::inline v0 {

/// Cuts images [batch, height, width, c] into patches [batch, height / size, width / size, size size c], each row by
/// row with channels last: the order of a convolution's weight [out, size, size, c]. No numbers are computed.
struct to_patches_op {
  std::int64_t size;                         ///< pixels along a patch's edge
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// [batch, height / size, width / size, size size c].
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() == 4 && size > 0 && x.sample_size() > 0 && x[1] % size == 0 && x[2] % size == 0,
            "boot: patches of {} x {} pixels of shape {}; needs images [batch, height, width, channels] of at least "
            "one pixel whose height and width are multiples of {}",
            size, size, to_string(x), size);
    return {x[0], x[1] / size, x[2] / size, size * size * x[3]};
  }
  /// Copies.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    image_to_patches(dev, c.in[0], size, c.out, false);
  }
  /// Copies back.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    patches_to_image(dev, c.out_gradient, size, c.gradient[0], c.accumulate[0]);
  }
};

/// The inverse: patches [batch, rows, columns, size size c] to images [batch, rows size, columns size, c].
struct from_patches_op {
  std::int64_t size;                         ///< pixels along a patch's edge
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// [batch, rows size, columns size, c].
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() == 4 && size > 0 && x.sample_size() > 0 && x[3] % (size * size) == 0,
            "boot: images of {} x {} pixels per patch from shape {}; needs [batch, rows, columns, channels] of at "
            "least one patch whose last dimension is a multiple of {}",
            size, size, to_string(x), size * size);
    return {x[0], x[1] * size, x[2] * size, x[3] / (size * size)};
  }
  /// Copies.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    patches_to_image(dev, c.in[0], size, c.out, false);
  }
  /// Copies back.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    image_to_patches(dev, c.out_gradient, size, c.gradient[0], c.accumulate[0]);
  }
};

/// y = x + table for tokens x [batch, rows, columns, width]. The table has sines, then cosines of the column in its
/// first half, those of the row in its second (diffusers' order, which He et al. 2022 began); frequency i of width / 4
/// is 10000^(-4 i / width), and token (i, j) stands at row i base / rows and column j base / columns.
struct add_positions_op {
  double base;                               ///< length of either axis, in steps
  static constexpr unsigned saves = 0;       ///< nothing
  static constexpr unsigned parameters = 0;  ///< none
  /// x's shape.
  [[nodiscard]] shape result(const shape& x) const {
    require(x.rank() == 4 && x.sample_size() > 0 && x[3] % 4 == 0 && base > 0,
            "boot: positions over a length of {} for shape {}; needs a positive length and tokens [batch, rows, "
            "columns, width] whose width is a multiple of 4",
            base, to_string(x));
    return x;
  }
  /// A sum.
  template <class D, class C>
  void forward(const D& dev, C& c) const {
    add_positions(dev, c.in[0], base, c.out);
  }
  /// The table is no parameter.
  template <class D, class C>
  void backward(const D& dev, C& c) const {
    add_to(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

/// [batch, height, width, c] to [batch, height / size, width / size, size size c].
template <class G>
[[nodiscard]] typename G::value to_patches(G& g, const typename G::value& x, std::int64_t size) {
  return g.apply(to_patches_op{size}, x);
}
/// [batch, rows, columns, size size c] to [batch, rows size, columns size, c].
template <class G>
[[nodiscard]] typename G::value from_patches(G& g, const typename G::value& x, std::int64_t size) {
  return g.apply(from_patches_op{size}, x);
}
/// x [batch, rows, columns, width] plus the sine-cosine table of the places on a grid that is `base` steps long.
template <class G>
[[nodiscard]] typename G::value add_positions(G& g, const typename G::value& x, double base) {
  return g.apply(add_positions_op{base}, x);
}

}  // namespace boot::inline v0
