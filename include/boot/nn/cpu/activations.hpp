// SPDX-License-Identifier: MIT
/// Host loops of nn/activations.hpp, and the cut of an activation into slices of positions that sums per channel use.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/cpu.hpp>
#include <boot/device/memory.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace boot::inline v0 {

namespace detail {

/// Distribution function and density of the normal distribution.
template <class T>
struct normal_parts {
  T cdf;      ///< Phi(x), small values with their relative accuracy
  T density;  ///< exp(-x^2 / 2) / sqrt(2 pi)
};

BOOT_FORCE_INLINE normal_parts<float> normal_distribution(float x) noexcept {
  const float t = limited(as_float(as_bits(x) & 0x7fffffffu), 15.0f, infinity);  // exp(-15^2 / 2) is 0
  const float square = t * t;
  // What t * t lost, as an exponent needs its absolute accuracy: t^2 = high^2 + (high + t) (t - high), high^2 is exact.
  const float high = as_float(as_bits(t) & 0xfffff000u);
  const float rest = math::fma(high + t, t - high, high * high - square);
  float e = math::exp(-0.5f * square);
  e = math::fma(e, -0.5f * rest, e);
  // Minimax in w for (1 - Phi(t)) exp(t^2 / 2) on [0, 14.5]: relative error 2^-29.4.
  const float w = (t - 3.5f) / (t + 3.5f);
  float p = -0x1.49939ap-16f;
  p = math::fma(p, w, -0x1.a31306p-15f);
  p = math::fma(p, w, 0x1.18306p-13f);
  p = math::fma(p, w, 0x1.9731b2p-12f);
  p = math::fma(p, w, -0x1.6a386cp-10f);
  p = math::fma(p, w, -0x1.992d96p-10f);
  p = math::fma(p, w, 0x1.385f58p-6f);
  p = math::fma(p, w, -0x1.f8f36p-5f);
  p = math::fma(p, w, 0x1.01c066p-3f);
  p = math::fma(p, w, -0x1.7f4318p-3f);
  p = math::fma(p, w, 0x1.b396fap-4f);
  const float upper = e * p;
  return {select(as_bits(x) >= 0x80000000u, upper, 1.0f - upper), e * 0x1.988454p-2f};
}
inline normal_parts<double> normal_distribution(double x) noexcept {
  return {0.5 * std::erfc(x * -0.70710678118654752440), std::exp(-0.5 * x * x) * 0.39894228040143267794};
}

// Infinities would meet a factor 0: the bounds lie where the functions have reached their limits.
BOOT_FORCE_INLINE float above(float x, float low) noexcept { return limited(x, low, -infinity); }
BOOT_FORCE_INLINE double above(double x, double low) noexcept { return x < low ? low : x; }
BOOT_FORCE_INLINE float within(float x, float bound) noexcept {
  return limited(limited(x, bound, infinity), -bound, -infinity);
}
BOOT_FORCE_INLINE double within(double x, double bound) noexcept {
  const double low = x < -bound ? -bound : x;
  return low > bound ? bound : low;
}

/// x Phi(x): within a few ulp for x > -13, below that within 1e-43.
template <class T>
BOOT_FORCE_INLINE T gelu_value(T x) noexcept {
  return above(x, T{-1000}) * normal_distribution(x).cdf;
}
template <class T>
BOOT_FORCE_INLINE T gelu_derivative(T x) noexcept {
  const normal_parts<T> p = normal_distribution(x);
  return math::fma(within(x, T{1000}), p.density, p.cdf);
}

// (1 + tanh(u)) / 2 is the logistic function of 2 u, which keeps the relative accuracy of small values.
template <class T>
BOOT_FORCE_INLINE T gelu_tanh_exponent(T x) noexcept {
  return x * math::fma(x * x, T(0.0713548162726002487), T(1.5957691216057307117));  // sqrt(8 / pi) (x + 0.044715 x^3)
}
template <class T>
BOOT_FORCE_INLINE T gelu_tanh_value(T x) noexcept {
  return above(x, T{-1000}) * math::sigmoid(gelu_tanh_exponent(within(x, T{30})));
}
template <class T>
BOOT_FORCE_INLINE T gelu_tanh_derivative(T x) noexcept {
  const T v = within(x, T{30}), u = gelu_tanh_exponent(v);
  const T slope = math::fma(v * v, T(0.2140644488178007463), T(1.5957691216057307117));
  return math::sigmoid(u) * math::fma(v * slope, math::sigmoid(-u), T{1});
}

struct nn_gelu {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T, T x) const noexcept {
    return gelu_value(x);
  }
};
template <bool accumulate>
struct nn_gelu_slope {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T y, T x, T dy) const noexcept {
    const T slope = dy * gelu_derivative(x);
    return accumulate ? y + slope : slope;
  }
};
struct nn_gelu_tanh {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T, T x) const noexcept {
    return gelu_tanh_value(x);
  }
};
template <bool accumulate>
struct nn_gelu_tanh_slope {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T y, T x, T dy) const noexcept {
    const T slope = dy * gelu_tanh_derivative(x);
    return accumulate ? y + slope : slope;
  }
};

template <class T>
void geglu_row(const T* BOOT_RESTRICT x, const T* BOOT_RESTRICT gate, T* BOOT_RESTRICT y, std::int64_t n) {
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * gelu_value(gate[i]);
}
template <bool accumulate, class T>
void geglu_row_gradient(const T* BOOT_RESTRICT x, const T* BOOT_RESTRICT gate, const T* BOOT_RESTRICT dy,
                        T* BOOT_RESTRICT dx, T* BOOT_RESTRICT dgate, std::int64_t n) {
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) {
    const normal_parts<T> p = normal_distribution(gate[i]);
    const T value = dy[i] * above(gate[i], T{-1000}) * p.cdf;
    const T slope = dy[i] * x[i] * math::fma(within(gate[i], T{1000}), p.density, p.cdf);
    dx[i] = accumulate ? dx[i] + value : value;
    dgate[i] = accumulate ? dgate[i] + slope : slope;
  }
}

/// An activation [batch, .., channels] cut into slices of whole positions, by its shape alone. Loops run over lines:
/// one position, or several side by side where there are few channels, so that a line is long enough to vectorise.
struct channel_slices {
  static constexpr std::int64_t block = 256;  // numbers of a line that a loop holds on the stack at a time

  std::int64_t batch, positions, channels;
  std::int64_t repeat, line;      // positions and numbers in a line; line <= block unless it is one position
  std::int64_t per_slice, count;  // positions in a slice, slices in a sample

  explicit channel_slices(const shape& x) : batch(x.batch()), channels(x[-1]) {
    positions = x.sample_size() / channels;
    repeat = std::max<std::int64_t>(1, block / channels);
    // Lines of 16 numbers, or of several times 16, where that can be: no vector is left half full at their ends.
    const std::int64_t step = 16 / std::gcd<std::int64_t>(16, channels);
    if (repeat > step) repeat -= repeat % step;
    line = repeat * channels;
    // At least 64 positions, so that what is kept per slice and channel is little beside the slice.
    per_slice = std::max<std::int64_t>(64, nn_grain / channels);
    per_slice = (per_slice + repeat - 1) / repeat * repeat;
    count = (positions + per_slice - 1) / per_slice;
  }
  [[nodiscard]] std::int64_t units() const noexcept { return batch * count; }
  /// First number of unit u = sample * count + slice.
  [[nodiscard]] std::int64_t begin(std::int64_t u) const noexcept {
    return (u / count * positions + u % count * per_slice) * channels;
  }
  /// How many numbers unit u has.
  [[nodiscard]] std::int64_t size(std::int64_t u) const noexcept {
    return std::min(per_slice, positions - u % count * per_slice) * channels;
  }
  /// The team for work on the whole activation: one thread where others would wake up too late.
  [[nodiscard]] cpu team(const cpu& dev) const noexcept {
    return batch * positions * channels < nn_grain ? cpu{1} : dev;
  }
};

// Memory of the calling thread, kept: after the first call of a size nothing is allocated.
inline std::byte* channel_space(const cpu& dev, std::int64_t bytes) {
  thread_local buffer<cpu> space;
  if (static_cast<std::int64_t>(space.bytes()) < bytes) {
    space = {};
    space = buffer<cpu>(dev, static_cast<std::size_t>(bytes));
  }
  return static_cast<std::byte*>(space.data());
}

}  // namespace detail

/// y = x Phi(x).
template <ComputeScalar T>
void gelu_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  detail::map_elements(dev, y.size(), detail::nn_gelu{}, y.data(), x.data());
}
/// dx (+)= dy gelu'(x).
template <ComputeScalar T>
void gelu_backward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  detail::map_slope<detail::nn_gelu_slope>(dev, x, dy, dx, accumulate);
}

/// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
template <ComputeScalar T>
void gelu_tanh_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  detail::map_elements(dev, y.size(), detail::nn_gelu_tanh{}, y.data(), x.data());
}
/// dx (+)= dy times the derivative.
template <ComputeScalar T>
void gelu_tanh_backward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  detail::map_slope<detail::nn_gelu_tanh_slope>(dev, x, dy, dx, accumulate);
}

/// y[.., n] = a gelu(b) for x[.., 2 n] = (a, b).
template <ComputeScalar T>
void geglu_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  const std::int64_t n = y.extents()[-1], rows = y.size() / n;
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* const from = x.data() + 2 * r * n;
      detail::geglu_row(from, from + n, y.data() + r * n, n);
    }
  });
}
/// dx[.., 2 n] (+)= dy[.., n] times the derivatives by a and b.
template <ComputeScalar T>
void geglu_backward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  const std::int64_t n = dy.extents()[-1], rows = dy.size() / n;
  parallel_chunks(dev, rows, detail::row_grain(2 * n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* const from = x.data() + 2 * r * n;
      T* const to = dx.data() + 2 * r * n;
      if (accumulate) {
        detail::geglu_row_gradient<true>(from, from + n, dy.data() + r * n, to, to + n, n);
      } else {
        detail::geglu_row_gradient<false>(from, from + n, dy.data() + r * n, to, to + n, n);
      }
    }
  });
}

/// y[sample, .., channel] = x[sample, .., channel] + e[sample, channel]; e has x's batch or a batch of one.
template <ComputeScalar T>
void add_channels_forward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> e, view<T, cpu> y) {
  const detail::channel_slices cut(x.extents());
  const bool shared = e.batch() == 1;
  parallel_for(cut.team(dev), cut.units(), [&](std::int64_t u) {
    const T* row = e.data() + (shared ? 0 : u / cut.count * cut.channels);
    T repeated[detail::channel_slices::block];
    if (cut.repeat > 1) {
      for (std::int64_t i = 0; i < cut.line; ++i) repeated[i] = row[i % cut.channels];
      row = repeated;
    }
    const T* from = x.data() + cut.begin(u);
    T* to = y.data() + cut.begin(u);
    for (std::int64_t left = cut.size(u); left > 0; left -= cut.line, from += cut.line, to += cut.line) {
      [row, n = std::min(left, cut.line)](const T* BOOT_RESTRICT p, T* BOOT_RESTRICT q) {
        BOOT_SIMD
        for (std::int64_t i = 0; i < n; ++i) q[i] = p[i] + row[i];
      }(from, to);
    }
  });
}

/// sums[sample, channel] (+)= the sum of x over the positions, and over the batch where `sums` has a batch of one.
/// Slices of positions are added in order.
template <ComputeScalar T>
void channel_sums(const cpu& dev, view<const T, cpu> x, view<T, cpu> sums, bool accumulate) {
  const detail::channel_slices cut(x.extents());
  const std::int64_t channels = cut.channels;
  T* const partial =
      reinterpret_cast<T*>(detail::channel_space(dev, cut.units() * channels * static_cast<std::int64_t>(sizeof(T))));
  parallel_for(cut.team(dev), cut.units(), [&](std::int64_t u) {
    const T* const from = x.data() + cut.begin(u);
    const std::int64_t n = cut.size(u);
    T* const to = partial + u * channels;
    std::fill(to, to + channels, T{0});
    for (std::int64_t j = 0; j < cut.line; j += detail::channel_slices::block) {
      const std::int64_t width = std::min(detail::channel_slices::block, cut.line - j);
      T lane[detail::channel_slices::block] = {};
      for (std::int64_t at = j; at < n; at += cut.line) {
        [&lane, m = std::min(width, n - at)](const T* BOOT_RESTRICT p) {
          BOOT_SIMD
          for (std::int64_t i = 0; i < m; ++i) lane[i] += p[i];
        }(from + at);
      }
      for (std::int64_t i = 0; i < width; ++i) to[(j + i) % channels] += lane[i];
    }
  });
  const std::int64_t rows = sums.batch(), units = cut.units() / rows;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = accumulate ? static_cast<double>(sums[r * channels + c]) : 0;
      for (std::int64_t u = 0; u < units; ++u) sum += static_cast<double>(partial[(r * units + u) * channels + c]);
      sums[r * channels + c] = static_cast<T>(sum);
    }
}

/// out[row] = sin and cos (or cos and sin) of 2 pi weight[i] u, where u is input[row] or its natural logarithm. In
/// float64 up to the result. Throws boot::error for the logarithm of an input that is not positive.
template <ComputeScalar T>
void fourier_features(const cpu& dev, const T* input, std::int64_t rows, view<const T, cpu> weight, bool logarithm,
                      bool cosine_first, view<T, cpu> out) {
  if (logarithm)
    for (std::int64_t r = 0; r < rows; ++r)
      require(input[r] > 0,
              "boot: Fourier features of the logarithm of {} (sample {}); the network input of a time must be positive "
              "there, so sample from a time above 0 or take features of the time itself",
              input[r], r);
  const std::int64_t n = weight.size();
  parallel_chunks(dev, rows, detail::row_grain(64 * n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const double u = logarithm ? std::log(static_cast<double>(input[r])) : static_cast<double>(input[r]);
      T* const row = out.data() + r * 2 * n;
      for (std::int64_t i = 0; i < n; ++i) {
        double s = 0, c = 0;
        math::sincospi(2 * static_cast<double>(weight[i]) * u, s, c);
        row[i] = static_cast<T>(cosine_first ? c : s);
        row[n + i] = static_cast<T>(cosine_first ? s : c);
      }
    }
  });
}

}  // namespace boot::inline v0
