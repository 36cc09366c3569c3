// SPDX-License-Identifier: MIT
/// Convolution on the host. A 1 x 1 kernel is a matrix product; others read the image in place, through one pointer per
/// pixel and tap, so that nothing is unfolded. Every sum runs in an order that depends on the shape alone.
#pragma once

#include <boot/config.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace boot::inline v0 {

namespace detail {

// Working space, one per calling thread and purpose, kept: after the first product of a size nothing is allocated.
// `part` 0 belongs to the thread that calls a convolution, 1 to whatever runs inside its parallel loops.
template <int part>
void* conv_space(const cpu& dev, std::int64_t bytes) {
  thread_local buffer<cpu> space;
  if (static_cast<std::int64_t>(space.bytes()) < bytes) {
    space = {};
    space = buffer<cpu>(dev, static_cast<std::size_t>(bytes));
  }
  return space.data();
}

// Threads for a product of so many multiply-adds: a small one is done before a second thread has woken up.
inline cpu conv_team(const cpu& dev, double multiply_adds) noexcept { return multiply_adds < 1e6 ? cpu{1} : dev; }

// Writes a register tile to rows at row(i), adding where asked; `columns` may be fewer than the tile has.
template <class T, int rows_of_tile, int vectors, class Row>
BOOT_FORCE_INLINE void conv_store(const typename gemm_tile<T>::vector (&sum)[rows_of_tile][vectors], const Row& row,
                                  int rows, int columns, bool add, const T* bias) {
  using tile = gemm_tile<T>;
  using vector = typename tile::vector;
  if (columns == vectors * tile::width) {
#pragma GCC unroll 12
    for (int i = 0; i < rows_of_tile; ++i) {
      if (i >= rows) break;
      T* const p = row(i);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        vector s = sum[i][v];
        if (bias != nullptr) s += tile::load(bias + v * tile::width);
        if (add) s += tile::load(p + v * tile::width);
        tile::save(p + v * tile::width, s);
      }
    }
    return;
  }
  T edge[rows_of_tile][vectors * tile::width];
#pragma GCC unroll 12
  for (int i = 0; i < rows_of_tile; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) tile::save(edge[i] + v * tile::width, sum[i][v]);
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      const T s = edge[i][j] + (bias != nullptr ? bias[j] : T{0});
      row(i)[j] = add ? row(i)[j] + s : s;
    }
}

// to[i][0 .. columns) (+)= sum over taps t and channels c of from[t * rows_of_tile + i][c] b[t, c, :]. `b` is packed,
// tile::columns numbers per step.
template <class T, int vectors>
[[gnu::noinline]] void conv_gather_kernel(const T* const* from, std::int64_t taps, std::int64_t depth, const T* b,
                                          T* const* to, int rows, int columns, bool add, const T* bias) {
  using tile = gemm_tile<T>;
  using vector = typename tile::vector;
  vector sum[tile::rows][vectors];
  for (int i = 0; i < tile::rows; ++i)
    for (int v = 0; v < vectors; ++v) sum[i][v] = vector{};
  for (std::int64_t t = 0; t < taps; ++t) {
    const T* x[tile::rows];
#pragma GCC unroll 12
    for (int i = 0; i < tile::rows; ++i) x[i] = from[t * tile::rows + i];
    for (std::int64_t c = 0; c < depth; ++c) {
      vector w[vectors];
      for (int v = 0; v < vectors; ++v) w[v] = tile::load(b + v * tile::width);
#pragma GCC unroll 12
      for (int i = 0; i < tile::rows; ++i) {
        const vector a = x[i][c] - vector{};
        for (int v = 0; v < vectors; ++v) sum[i][v] += a * w[v];
      }
      b += tile::columns;
    }
  }
  conv_store<T>(
      sum, [to](int i) { return to[i]; }, rows, columns, add, bias);
}

// c[i, 0 .. columns) (+)= sum over pixels p of a[p, i] b[offset[p] ..]; `a` is packed, rows_of_tile numbers per pixel.
template <class T, int rows_of_tile, int vectors>
[[gnu::noinline]] void conv_outer_kernel(const T* BOOT_RESTRICT a, const T* BOOT_RESTRICT b, const std::int64_t* offset,
                                         std::int64_t pixels, T* c, std::int64_t stride, int rows, int columns,
                                         bool add) {
  using tile = gemm_tile<T>;
  using vector = typename tile::vector;
  vector sum[rows_of_tile][vectors];
  for (int i = 0; i < rows_of_tile; ++i)
    for (int v = 0; v < vectors; ++v) sum[i][v] = vector{};
  for (std::int64_t p = 0; p < pixels; ++p) {
    const T* const line = b + offset[p];
    vector x[vectors];
    for (int v = 0; v < vectors; ++v) x[v] = tile::load(line + v * tile::width);
#pragma GCC unroll 12
    for (int i = 0; i < rows_of_tile; ++i) {
      const vector y = a[i] - vector{};
      for (int v = 0; v < vectors; ++v) sum[i][v] += y * x[v];
    }
    a += rows_of_tile;
  }
  conv_store<T>(
      sum, [c, stride](int i) { return c + i * stride; }, rows, columns, add, static_cast<const T*>(nullptr));
}

// Which pixels of `from` add up to which pixels of `to`: for every point (i, j) of a grid and every tap (m, n),
// to(at + spread (i, j)) gets from(step (i, j) + first + direction (m, n)), or nothing where that lies outside.
struct conv_sweep {
  std::int64_t batch;
  std::int64_t from_height, from_width, depth;         // image that is read
  std::int64_t to_height, to_width, columns;           // image that is written
  std::int64_t grid_height, grid_width;                // points
  std::int64_t at_row = 0, at_column = 0, spread = 1;  // where they are written
  std::int64_t first_row, first_column, step, direction;
  std::int64_t tap_rows, tap_columns;

  [[nodiscard]] std::int64_t taps() const noexcept { return tap_rows * tap_columns; }
  [[nodiscard]] std::int64_t points() const noexcept { return batch * grid_height * grid_width; }
};

// The pointers of one tile of points, from point `first` on: source[tap * tile rows + i] and target[i].
template <class T>
void conv_pointers(const conv_sweep& s, const T* from, T* to, const T* zeros, std::int64_t first, int rows,
                   const T** source, T** target) {
  constexpr std::int64_t mr = gemm_tile<T>::rows;
  std::int64_t j = first % s.grid_width, i = first / s.grid_width % s.grid_height;
  std::int64_t n = first / (s.grid_width * s.grid_height);
  for (std::int64_t r = 0; r < mr; ++r) {
    if (r >= rows) {
      target[r] = nullptr;
      for (std::int64_t t = 0; t < s.taps(); ++t) source[t * mr + r] = zeros;
      continue;
    }
    target[r] =
        to + ((n * s.to_height + s.at_row + i * s.spread) * s.to_width + s.at_column + j * s.spread) * s.columns;
    const T** tap = source + r;
    for (std::int64_t a = 0; a < s.tap_rows; ++a) {
      const std::int64_t y = i * s.step + s.first_row + a * s.direction;
      const bool inside = y >= 0 && y < s.from_height;
      const std::int64_t line = (n * s.from_height + y) * s.from_width;
      for (std::int64_t b = 0; b < s.tap_columns; ++b) {
        const std::int64_t x = j * s.step + s.first_column + b * s.direction;
        *tap = inside && x >= 0 && x < s.from_width ? from + (line + x) * s.depth : zeros;
        tap += mr;
      }
    }
    if (++j == s.grid_width) {
      j = 0;
      if (++i == s.grid_height) i = 0, ++n;
    }
  }
}

// Runs a sweep. `packed` holds, for every panel of columns, taps x depth steps; `zeros` at least `depth` zeros.
template <class T>
void conv_gather(const cpu& dev, const conv_sweep& s, const T* from, const T* packed, const T* zeros, T* to, bool add,
                 const T* bias) {
  using tile = gemm_tile<T>;
  constexpr std::int64_t mr = tile::rows, nr = tile::columns;
  constexpr std::int64_t resident =
      (std::int64_t{1} << 19) / static_cast<std::int64_t>(sizeof(T));  // of packed weights
  const std::int64_t tiles = (s.points() + mr - 1) / mr, panels = (s.columns + nr - 1) / nr;
  const std::int64_t panel = s.taps() * s.depth * nr;
  // A tile visits as many panels of weights as the second-level cache keeps between two tiles.
  const std::int64_t together = std::clamp<std::int64_t>(resident / std::max<std::int64_t>(panel, 1), 1, panels);
  const std::int64_t groups = (panels + together - 1) / together;
  const std::int64_t run = tiles > 64 ? 8 : 1, runs = (tiles + run - 1) / run;
  parallel_for(dev, runs * groups, [&](std::int64_t item) {
    auto** const source =
        static_cast<const T**>(conv_space<1>(dev, s.taps() * mr * static_cast<std::int64_t>(sizeof(const T*))));
    const std::int64_t first_tile = item % runs * run, last_tile = std::min(tiles, first_tile + run);
    const std::int64_t first_panel = item / runs * together, last_panel = std::min(panels, first_panel + together);
    for (std::int64_t t = first_tile; t < last_tile; ++t) {
      const int rows = static_cast<int>(std::min(mr, s.points() - t * mr));
      T* target[mr];
      conv_pointers(s, from, to + first_panel * nr, zeros, t * mr, rows, source, target);
      for (std::int64_t p = first_panel; p < last_panel; ++p) {
        const int columns = static_cast<int>(std::min(nr, s.columns - p * nr));
        const T* const b = bias == nullptr ? nullptr : bias + p * nr;
        if (columns > tile::width || tile::width == 1) {
          conv_gather_kernel<T, 2>(source, s.taps(), s.depth, packed + p * panel, target, rows, columns, add, b);
        } else {
          conv_gather_kernel<T, 1>(source, s.taps(), s.depth, packed + p * panel, target, rows, columns, add, b);
        }
        for (int i = 0; i < rows; ++i) target[i] += nr;
      }
    }
  });
}

// How the images of a weight gradient are cut: into bands of output rows, some whole samples together where they are
// small, so that a register tile has enough pixels to add up before it is written.
struct conv_bands {
  std::int64_t rows, bands, samples, chunks;  // output rows of a band, bands of a sample, samples and number of chunks

  conv_bands(std::int64_t batch, std::int64_t height, std::int64_t width) noexcept {
    constexpr std::int64_t pixels = 256;
    rows = std::clamp<std::int64_t>(pixels / width, 1, height);
    bands = (height + rows - 1) / rows;
    samples = bands > 1 ? 1 : std::max<std::int64_t>(1, pixels / (height * width));
    chunks = bands > 1 ? batch * bands : (batch + samples - 1) / samples;
  }
};

// Copies `channels` channels of the part of an image that `rows` x `columns` taps see into [rows, columns, width], zero
// outside the image and beyond `channels`.
template <class T>
void conv_pack_image(const T* image, std::int64_t height, std::int64_t width, std::int64_t pixel,
                     std::int64_t first_row, std::int64_t first_column, std::int64_t rows, std::int64_t columns,
                     std::int64_t channels, T* to) {
  constexpr std::int64_t nr = gemm_tile<T>::columns;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t y = first_row + r;
    for (std::int64_t c = 0; c < columns; ++c, to += nr) {
      const std::int64_t x = first_column + c;
      if (y < 0 || y >= height || x < 0 || x >= width) {
        std::memset(to, 0, sizeof(T) * nr);
      } else if (channels == nr) {
        std::memcpy(to, image + (y * width + x) * pixel, sizeof(T) * nr);
      } else {
        std::memset(to, 0, sizeof(T) * nr);
        std::memcpy(to, image + (y * width + x) * pixel, sizeof(T) * static_cast<std::size_t>(channels));
      }
    }
  }
}

// Rows of the next register tile when `left` are left: a short tile where it wastes less.
template <class T>
[[nodiscard]] std::int64_t conv_tile_rows(std::int64_t left) noexcept {
  constexpr std::int64_t mr = gemm_tile<T>::rows, few = 2 * mr / 3;
  return left <= few || (left > mr && left <= 2 * few) ? few : mr;
}

}  // namespace detail

/// y = convolution of x [batch, h, w, in] with weight [out, k, k, in], plus bias[out] (may be null), into
/// y [batch, h', w', out]. `before`: rows of zeros above x and columns of zeros on its left; what is missing below and
/// on the right is zero as well.
template <ComputeScalar T>
void conv2d_forward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> weight, const T* bias, std::int64_t stride,
                    std::int64_t before, view<T, cpu> y) {
  constexpr std::int64_t nr = detail::gemm_tile<T>::columns;
  const std::int64_t out = weight.extents()[0], k = weight.extents()[1], in = weight.extents()[3];
  if (y.size() == 0) return;
  if (k == 1 && stride == 1) {
    gemm<T>(dev, y.size() / out, out, in, {x.data(), in, 1}, {weight.data(), 1, in}, y.data(), out, false, bias);
    return;
  }
  const shape &from = x.extents(), &to = y.extents();
  const std::int64_t depth = k * k * in, panels = (out + nr - 1) / nr;
  const cpu team = detail::conv_team(dev, static_cast<double>(y.size()) * static_cast<double>(depth));
  auto* const packed =
      static_cast<T*>(detail::conv_space<0>(dev, (panels * nr * depth + in) * static_cast<std::int64_t>(sizeof(T))));
  T* const zeros = packed + panels * nr * depth;
  std::fill(zeros, zeros + in, T{0});
  parallel_for(team, panels, [&](std::int64_t p) {
    detail::gemm_pack<static_cast<int>(nr)>(weight.data() + p * nr * depth, depth, std::int64_t{1},
                                            std::min(nr, out - p * nr), depth, packed + p * nr * depth);
  });
  const detail::conv_sweep s{.batch = to[0],
                             .from_height = from[1],
                             .from_width = from[2],
                             .depth = in,
                             .to_height = to[1],
                             .to_width = to[2],
                             .columns = out,
                             .grid_height = to[1],
                             .grid_width = to[2],
                             .first_row = -before,
                             .first_column = -before,
                             .step = stride,
                             .direction = 1,
                             .tap_rows = k,
                             .tap_columns = k};
  detail::conv_gather<T>(team, s, x.data(), packed, zeros, y.data(), false, bias);
}

/// dx (+)= the gradient of conv2d_forward() with respect to x, from dy [batch, h', w', out]. Pixels of dx that see the
/// same taps form one sweep: one for stride 1, stride^2 otherwise.
template <ComputeScalar T>
void conv2d_input_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> weight, std::int64_t stride,
                           std::int64_t before, view<T, cpu> dx, bool accumulate) {
  constexpr std::int64_t nr = detail::gemm_tile<T>::columns;
  const std::int64_t out = weight.extents()[0], k = weight.extents()[1], in = weight.extents()[3];
  if (dx.size() == 0) return;
  if (k == 1 && stride == 1) {
    gemm<T>(dev, dx.size() / in, in, out, {dy.data(), out, 1}, {weight.data(), in, 1}, dx.data(), in, accumulate);
    return;
  }
  const shape &from = dy.extents(), &to = dx.extents();
  const std::int64_t panels = (in + nr - 1) / nr;
  const cpu team = detail::conv_team(dev, static_cast<double>(dy.size()) * static_cast<double>(k * k * in));
  auto* const packed = static_cast<T*>(
      detail::conv_space<0>(dev, (panels * nr * k * k * out + out) * static_cast<std::int64_t>(sizeof(T))));
  T* const zeros = packed + panels * nr * k * k * out;
  std::fill(zeros, zeros + out, T{0});
  for (std::int64_t row = 0; row < stride; ++row)
    for (std::int64_t column = 0; column < stride; ++column) {
      // Tap m is seen where (row + before - m) is a multiple of the stride: m = m0, m0 + stride, ...
      const std::int64_t m0 = (row + before) % stride, n0 = (column + before) % stride;
      const detail::conv_sweep s{.batch = to[0],
                                 .from_height = from[1],
                                 .from_width = from[2],
                                 .depth = out,
                                 .to_height = to[1],
                                 .to_width = to[2],
                                 .columns = in,
                                 .grid_height = (to[1] - row + stride - 1) / stride,
                                 .grid_width = (to[2] - column + stride - 1) / stride,
                                 .at_row = row,
                                 .at_column = column,
                                 .spread = stride,
                                 .first_row = (row + before - m0) / stride,
                                 .first_column = (column + before - n0) / stride,
                                 .step = 1,
                                 .direction = -1,
                                 .tap_rows = (k - m0 + stride - 1) / stride,
                                 .tap_columns = (k - n0 + stride - 1) / stride};
      if (s.grid_height <= 0 || s.grid_width <= 0) continue;
      parallel_for(team, panels * s.taps(), [&](std::int64_t item) {
        const std::int64_t p = item / s.taps(), t = item % s.taps();
        const std::int64_t m = m0 + t / s.tap_columns * stride, n = n0 + t % s.tap_columns * stride;
        detail::gemm_pack<static_cast<int>(nr)>(weight.data() + (m * k + n) * in + p * nr, std::int64_t{1}, k * k * in,
                                                std::min(nr, in - p * nr), out, packed + item * out * nr);
      });
      detail::conv_gather<T>(team, s, dy.data(), packed, zeros, dx.data(), accumulate, static_cast<const T*>(nullptr));
    }
}

/// dweight [out, k, k, in] (+)= the gradient of conv2d_forward() with respect to the weights. Every element adds its
/// pixels in order; where the weights are few, a number of slices of the batch that depends on the shapes alone is
/// summed side by side and added in order.
template <ComputeScalar T>
void conv2d_weight_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> x, std::int64_t stride,
                            std::int64_t before, view<T, cpu> dweight, bool accumulate) {
  using tile = detail::gemm_tile<T>;
  constexpr std::int64_t mr = tile::rows, few = 2 * mr / 3, nr = tile::columns, group_rows = 3 * mr;
  const std::int64_t out = dweight.extents()[0], k = dweight.extents()[1], in = dweight.extents()[3];
  const std::int64_t batch = dy.extents()[0], height = dy.extents()[1], width = dy.extents()[2];
  if (dweight.size() == 0) return;
  if (dy.size() == 0) {
    if (!accumulate) fill_zero(dev, dweight.data(), static_cast<std::size_t>(dweight.size()) * sizeof(T));
    return;
  }
  if (k == 1 && stride == 1) {
    gemm<T>(dev, out, in, dy.size() / out, {dy.data(), 1, out}, {x.data(), in, 1}, dweight.data(), in, accumulate);
    return;
  }
  const detail::conv_bands cut(batch, height, width);
  const std::int64_t seen_rows = (cut.rows - 1) * stride + k, seen_columns = (width - 1) * stride + k;
  const std::int64_t most_pixels = cut.samples * cut.rows * width;
  const std::int64_t image = cut.samples * seen_rows * seen_columns * nr;
  const std::int64_t panels = (in + nr - 1) / nr, groups = (out + group_rows - 1) / group_rows, items = panels * groups;
  const std::int64_t slices = std::clamp<std::int64_t>((16 + items - 1) / items, 1, cut.chunks);
  const cpu team = detail::conv_team(dev, static_cast<double>(dy.size()) * static_cast<double>(k * k * in));
  const std::int64_t n = dweight.size();
  T* const partial =
      slices == 1 ? dweight.data()
                  : static_cast<T*>(detail::conv_space<0>(dev, slices * n * static_cast<std::int64_t>(sizeof(T))));
  parallel_for(team, items * slices, [&](std::int64_t item) {
    const std::int64_t slice = item / items, panel = item % items / groups, o0 = item % groups * group_rows;
    const std::int64_t o1 = std::min(out, o0 + group_rows);
    const std::int64_t c0 = panel * nr, channels = std::min(nr, in - c0);
    T* const to = partial + slice * n + c0;
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto* const packed_image = static_cast<T*>(detail::conv_space<1>(
        dev, (image + most_pixels * mr) * size + most_pixels * static_cast<std::int64_t>(sizeof(std::int64_t))));
    auto* const offset = reinterpret_cast<std::int64_t*>(packed_image + image);
    T* const packed_gradient = reinterpret_cast<T*>(offset + most_pixels);
    for (std::int64_t p = 0; p < most_pixels; ++p) {
      const std::int64_t sample = p / (cut.rows * width), i = p / width % cut.rows, j = p % width;
      offset[p] = ((sample * seen_rows + i * stride) * seen_columns + j * stride) * nr;
    }
    const std::int64_t first = slice * cut.chunks / slices, last = (slice + 1) * cut.chunks / slices;
    for (std::int64_t chunk = first; chunk < last; ++chunk) {
      const std::int64_t sample = cut.bands > 1 ? chunk / cut.bands : chunk * cut.samples;
      const std::int64_t row = cut.bands > 1 ? chunk % cut.bands * cut.rows : 0;
      const std::int64_t samples = std::min(cut.samples, batch - sample);
      const std::int64_t pixels = samples * std::min(cut.rows, height - row) * width;
      for (std::int64_t s = 0; s < samples; ++s)
        detail::conv_pack_image(x.data() + (sample + s) * x.sample_size() + c0, x.extents()[1], x.extents()[2], in,
                                row * stride - before, -before, seen_rows, seen_columns, channels,
                                packed_image + s * seen_rows * seen_columns * nr);
      const T* const gradient = dy.data() + (sample * height + row) * width * out;
      const bool add = chunk > first || (slices == 1 && accumulate);
      for (std::int64_t o = o0; o < o1;) {
        const std::int64_t rows_of_tile = detail::conv_tile_rows<T>(o1 - o), rows = std::min(rows_of_tile, o1 - o);
        const auto over_taps = [&](auto kernel) {
          for (std::int64_t m = 0; m < k; ++m)
            for (std::int64_t l = 0; l < k; ++l)
              kernel(packed_gradient, packed_image + (m * seen_columns + l) * nr, offset, pixels,
                     to + (o * k * k + m * k + l) * in, k * k * in, static_cast<int>(rows), static_cast<int>(channels),
                     add);
        };
        const bool wide = channels > tile::width || tile::width == 1;
        if (rows_of_tile == mr) {
          detail::gemm_pack<static_cast<int>(mr)>(gradient + o, std::int64_t{1}, out, rows, pixels, packed_gradient);
          over_taps(wide ? detail::conv_outer_kernel<T, mr, 2> : detail::conv_outer_kernel<T, mr, 1>);
        } else {
          detail::gemm_pack<static_cast<int>(few)>(gradient + o, std::int64_t{1}, out, rows, pixels, packed_gradient);
          over_taps(wide ? detail::conv_outer_kernel<T, few, 2> : detail::conv_outer_kernel<T, few, 1>);
        }
        o += rows;
      }
    }
  });
  if (slices == 1) return;
  parallel_chunks(team, n, detail::nn_grain, [=](std::int64_t begin, std::int64_t end) {
    T* BOOT_RESTRICT to = dweight.data();
    if (!accumulate) std::memcpy(to + begin, partial + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
    for (std::int64_t s = accumulate ? 0 : 1; s < slices; ++s) {
      const T* BOOT_RESTRICT from = partial + s * n;
      BOOT_SIMD
      for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

}  // namespace boot::inline v0
