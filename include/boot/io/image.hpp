// SPDX-License-Identifier: MIT
/// PNG files of 8-bit images [H, W, C], and grids of samples. Needs libpng.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/io/file.hpp>
#include <boot/tensor/tensor.hpp>

#include <png.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace boot::inline v0 {

namespace detail {
inline constexpr std::int64_t image_bytes_limit = std::int64_t{1} << 30;

/// libpng's own description of an image; freed on every way out.
struct png_control {
  png_image image{};
  png_control() noexcept { image.version = PNG_IMAGE_VERSION; }
  png_control(const png_control&) = delete;
  png_control& operator=(const png_control&) = delete;
  ~png_control() { png_image_free(&image); }
};
}  // namespace detail

/// Writes an image [H, W, C], C = 1 grey, 3 RGB, 4 RGBA, as a PNG file, at once or not at all. Throws boot::error for
/// other shapes and for what the disk refuses.
inline void write_png(const std::string& path, view<const std::uint8_t, cpu> image) {
  const shape& s = image.extents();
  require(
      s.rank() == 3 && (s[2] == 1 || s[2] == 3 || s[2] == 4) && s[0] > 0 && s[1] > 0,
      "boot: cannot write '{}': an image is [height, width, channels] with 1, 3 or 4 channels and at least one pixel, "
      "shape {} was given; split or join the channels, or draw samples with sample_grid()",
      path, to_string(s));
  require(s[0] <= detail::image_bytes_limit / s[2] / s[1],
          "boot: cannot write '{}': shape {} has more than {} bytes; write several images", path, to_string(s),
          detail::image_bytes_limit);
  detail::png_control png;
  png.image.height = static_cast<png_uint_32>(s[0]);
  png.image.width = static_cast<png_uint_32>(s[1]);
  png.image.format = s[2] == 1 ? PNG_FORMAT_GRAY : s[2] == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png.image);
  std::string file(bytes, '\0');
  const int good = png_image_write_to_memory(&png.image, file.data(), &bytes, 0, image.data(), 0, nullptr);
  require(good != 0, "boot: cannot write '{}': libpng says '{}' for shape {}", path, png.image.message, to_string(s));
  file.resize(bytes);
  atomic_write_file(path, std::string_view(file));
}

/// Reads a PNG file as [H, W, C]: C = 1 for grey, 3 for colour, 4 where there is transparency. Palettes and other
/// depths become 8-bit. Throws boot::error for files that are no PNG, damaged, or larger than 1 GiB of pixels.
[[nodiscard]] inline tensor<std::uint8_t, cpu> read_png(const std::string& path) {
  const std::string file = read_file(path);
  detail::png_control png;
  require(png_image_begin_read_from_memory(&png.image, file.data(), file.size()) != 0,
          "boot: cannot read '{}' as PNG: libpng says '{}'; convert or fetch the file again", path, png.image.message);
  const bool colour = (png.image.format & PNG_FORMAT_FLAG_COLOR) != 0,
             alpha = (png.image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  const std::int64_t channels = alpha ? 4 : colour ? 3 : 1;
  const std::int64_t height = png.image.height, width = png.image.width;
  require(height <= detail::image_bytes_limit / channels / width,
          "boot: '{}' announces {} x {} pixels, more than {} bytes; make the image smaller", path, height, width,
          detail::image_bytes_limit);
  png.image.format = alpha ? PNG_FORMAT_RGBA : colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  tensor<std::uint8_t, cpu> image(cpu{}, {height, width, channels});
  require(png_image_finish_read(&png.image, nullptr, image.data(), 0, nullptr) != 0,
          "boot: cannot read '{}' as PNG: libpng says '{}'; the file is damaged, fetch it again", path,
          png.image.message);
  return image;
}

/// How samples are laid out in one picture.
struct grid_options {
  std::int64_t columns = 8;      ///< samples side by side
  double lo = -1;                ///< drawn black
  double hi = 1;                 ///< drawn white
  std::int64_t scale = 1;        ///< every pixel becomes scale x scale
  std::int64_t gap = 2;          ///< pixels between samples
  std::uint8_t gap_value = 255;  ///< colour of the gaps and of empty places
};

/// Draws samples [N, H, W, C], C = 1 or 3, row by row into one picture [rows, columns, C] for write_png(). Values map
/// linearly from [lo, hi] to 0..255, rounded, clipped beyond; a NaN is drawn white in the first channel, black in the
/// others.
[[nodiscard]] inline tensor<std::uint8_t, cpu> sample_grid(view<const float, cpu> samples,
                                                           const grid_options& options = {}) {
  const shape& s = samples.extents();
  require(s.rank() == 4 && (s[3] == 1 || s[3] == 3) && s.size() > 0,
          "boot: sample_grid() needs samples [N, height, width, channels] with 1 or 3 channels, shape {} was given",
          to_string(s));
  require(options.columns > 0 && options.scale > 0 && options.gap >= 0 && options.hi > options.lo,
          "boot: sample_grid() got columns {}, scale {}, gap {}, lo {}, hi {}; needs columns and scale of at least 1, "
          "a gap "
          "of at least 0, lo < hi; 8 columns at scale 1 from -1 to 1 is the default",
          options.columns, options.scale, options.gap, options.lo, options.hi);
  const std::int64_t n = s[0], h = s[1], w = s[2], c = s[3], k = options.scale;
  const std::int64_t columns = options.columns < n ? options.columns : n, rows = (n + columns - 1) / columns;
  require(k <= 4096 && options.gap <= 4096 && h <= (1 << 20) && w <= (1 << 20) && n <= (1 << 20),
          "boot: sample_grid() of {} at scale {} and gap {} would be too large a picture; draw fewer samples or a "
          "smaller scale",
          to_string(s), k, options.gap);
  const std::int64_t height = rows * h * k + (rows - 1) * options.gap,
                     width = columns * w * k + (columns - 1) * options.gap;
  require(height <= detail::image_bytes_limit / c / width,
          "boot: sample_grid() of {} at scale {} would be {} x {} pixels; draw fewer samples or a smaller scale",
          to_string(s), k, height, width);
  tensor<std::uint8_t, cpu> picture(cpu{}, {height, width, c});
  std::memset(picture.data(), options.gap_value, static_cast<std::size_t>(picture.size()));
  const double factor = 255 / (options.hi - options.lo);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t y = 0; y < h * k; ++y)
      for (std::int64_t x = 0; x < w * k; ++x) {
        const std::int64_t row = i / columns * (h * k + options.gap) + y,
                           column = i % columns * (w * k + options.gap) + x;
        for (std::int64_t j = 0; j < c; ++j) {
          const float value = samples[((i * h + y / k) * w + x / k) * c + j];
          std::uint8_t& pixel = picture.data()[(row * width + column) * c + j];
          if ((std::bit_cast<std::uint32_t>(value) & 0x7fffffffu) > 0x7f800000u) {  // NaN
            pixel = j == 0 ? 255 : 0;
            continue;
          }
          const double grey = (static_cast<double>(value) - options.lo) * factor + 0.5;
          pixel = grey >= 255 ? 255 : grey >= 1 ? static_cast<std::uint8_t>(grey) : 0;
        }
      }
  return picture;
}

}  // namespace boot::inline v0
