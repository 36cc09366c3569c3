// SPDX-License-Identifier: MIT
/// Patches of images on any TeamDevice.
#pragma once

#include <boot/nn/team/operations.hpp>

#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Copies or adds runs of numbers between an image [samples, rows size, columns, run] and patches
/// [samples, rows, columns, size, run]. Grid: cut.blocks() x samples; the cut's rows are the runs of one sample.
template <bool to_patches, bool accumulate, class T>
struct patch_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T* from;
  T* to;
  std::uint32_t columns, size;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const std::int64_t run = cut.columns, sample = team.sample() * cut.rows * run;
    const bool whole = p.count == width && rows_aligned<width>(from, run) && rows_aligned<width>(to, run);
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const auto at = static_cast<std::uint32_t>(r);  // a sample has below 2^32 runs
      const std::uint32_t y = at / columns, x = at - y * columns, band = y / size;
      const std::int64_t moved = (static_cast<std::int64_t>(band) * columns + x) * size + (y - band * size);
      const std::int64_t in_image = sample + r * run + p.column, in_patches = sample + moved * run + p.column;
      const auto v = load_part<width>(from + (to_patches ? in_image : in_patches), whole, p.count);
      T* const target = to + (to_patches ? in_patches : in_image);
      element_group<T, width> q = v;
      if constexpr (accumulate) {
        q = load_part<width>(static_cast<const T*>(target), whole, p.count);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) store(q.v[k], static_cast<C>(q.v[k]) + static_cast<C>(v.v[k]));
      }
      store_part<width>(target, q, whole, p.count);
    }
  }
};

template <bool to_patches, TeamDevice D, class T>
void move_patches(const D& dev, const shape& image, std::int64_t size, const T* from, T* to, bool accumulate) {
  const std::int64_t columns = image[2] / size;
  const row_tiles<group_size<T>()> cut(image[1] * columns, size * image[3], 4, 65536);
  const auto c = static_cast<std::uint32_t>(columns), s = static_cast<std::uint32_t>(size);
  if (accumulate) {
    launch(dev, patch_body<to_patches, true, T>{cut, from, to, c, s}, cut.blocks(), image[0]);
  } else {
    launch(dev, patch_body<to_patches, false, T>{cut, from, to, c, s}, cut.blocks(), image[0]);
  }
}

}  // namespace detail

/// patches (+)= image [batch, height, width, c], cut into patches of size x size pixels.
template <TeamDevice D, StorageScalar T>
void image_to_patches(const D& dev, view<const T, D> image, std::int64_t size, view<T, D> patches, bool accumulate) {
  detail::move_patches<true>(dev, image.extents(), size, image.data(), patches.data(), accumulate);
}
/// image [batch, height, width, c] (+)= patches of size x size pixels.
template <TeamDevice D, StorageScalar T>
void patches_to_image(const D& dev, view<const T, D> patches, std::int64_t size, view<T, D> image, bool accumulate) {
  detail::move_patches<false>(dev, image.extents(), size, patches.data(), image.data(), accumulate);
}

}  // namespace boot::inline v0
