// SPDX-License-Identifier: MIT
/// Host loops of the network operations. Sums run in an order that depends on the shape alone.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/tensor/view.hpp>

#include <cmath>
#include <concepts>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

inline constexpr std::int64_t nn_grain = 32768;  // elements a thread takes at a time

/// Samples a thread takes at a time when a row has `n` elements.
inline std::int64_t row_grain(std::int64_t n) noexcept { return n >= nn_grain ? 1 : nn_grain / (n > 0 ? n : 1); }

// The loop is written with named __restrict pointers around a functor's call: that is what g++ vectorises at -O2.
template <class T, class F, class... In>
void map_elements(const cpu& dev, std::int64_t n, const F& f, T* to, const In*... from) {
  parallel_chunks(dev, n, nn_grain, [&](std::int64_t begin, std::int64_t end) {
    [&f](T* BOOT_RESTRICT y, std::int64_t count, const In* BOOT_RESTRICT... x) {
      BOOT_SIMD
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(y[i], x[i]...);
    }(to + begin, end - begin, (from + begin)...);
  });
}

// dx (+)= dy slope(x) for a functor Slope<accumulate>.
template <template <bool> class Slope, class T>
void map_slope(const cpu& dev, view<const T, cpu> x, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  if (accumulate) {
    map_elements(dev, dx.size(), Slope<true>{}, dx.data(), x.data(), dy.data());
  } else {
    map_elements(dev, dx.size(), Slope<false>{}, dx.data(), x.data(), dy.data());
  }
}

struct nn_to_bf16 {
  BOOT_FORCE_INLINE std::uint16_t operator()(std::uint16_t, float x) const noexcept { return bf16::round(x); }
};
struct nn_from_bf16 {
  BOOT_FORCE_INLINE float operator()(float, std::uint16_t x) const noexcept {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(x) << 16);
  }
};
struct nn_round_bf16 {
  BOOT_FORCE_INLINE float operator()(float, float x) const noexcept { return (*this)(x); }
  BOOT_FORCE_INLINE float operator()(float x) const noexcept {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bf16::round(x)) << 16);
  }
};
struct nn_accumulate {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T y, T x) const noexcept {
    return y + x;
  }
};
struct nn_sum {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T, T a, T b) const noexcept {
    return a + b;
  }
};
struct nn_silu {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T, T x) const noexcept {
    return math::silu(x);
  }
};
template <bool accumulate>
struct nn_silu_slope {
  template <class T>
  BOOT_FORCE_INLINE T operator()(T y, T x, T dy) const noexcept {
    const T slope = dy * math::silu_derivative(x);
    return accumulate ? y + slope : slope;
  }
};

}  // namespace detail

/// y = x for accumulate = false, y += x otherwise; equal sizes.
template <ComputeScalar T>
void add_to(const cpu& dev, view<const T, cpu> x, view<T, cpu> y, bool accumulate) {
  if (accumulate) {
    detail::map_elements(dev, y.size(), detail::nn_accumulate{}, y.data(), x.data());
  } else {
    copy_bytes(dev, x.data(), y.data(), static_cast<std::size_t>(y.size()) * sizeof(T));
  }
}

/// sums[j] (+)= sum over rows of x[row, j], rows added in order.
template <ComputeScalar T>
void column_sums(const cpu& dev, view<const T, cpu> x, std::int64_t columns, T* sums, bool accumulate) {
  const std::int64_t rows = columns == 0 ? 0 : x.size() / columns;
  const T* from = x.data();
  parallel_chunks(dev, columns, 64, [=](std::int64_t begin, std::int64_t end) {
    T* BOOT_RESTRICT to = sums;
    if (!accumulate)
      for (std::int64_t j = begin; j < end; ++j) to[j] = T{0};
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* BOOT_RESTRICT line = from + r * columns;
      BOOT_SIMD
      for (std::int64_t j = begin; j < end; ++j) to[j] += line[j];
    }
  });
}

/// y[rows, out] = x[rows, in] weight[out, in]^T + bias[out]; `bias` may be null.
template <ComputeScalar T>
void linear_forward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> weight, const T* bias, view<T, cpu> y) {
  const std::int64_t out = weight.extents()[0], in = weight.extents()[1], rows = y.size() / out;
  gemm<T>(dev, rows, out, in, {x.data(), in, 1}, {weight.data(), 1, in}, y.data(), out, false, bias);
}

/// dx[rows, in] (+)= dy[rows, out] weight[out, in].
template <ComputeScalar T>
void linear_input_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> weight, view<T, cpu> dx,
                           bool accumulate) {
  const std::int64_t out = weight.extents()[0], in = weight.extents()[1], rows = dy.size() / out;
  gemm<T>(dev, rows, in, out, {dy.data(), out, 1}, {weight.data(), in, 1}, dx.data(), in, accumulate);
}

/// dweight[out, in] (+)= dy[rows, out]^T x[rows, in].
template <ComputeScalar T>
void linear_weight_gradient(const cpu& dev, view<const T, cpu> dy, view<const T, cpu> x, view<T, cpu> dweight,
                            bool accumulate) {
  const std::int64_t out = dweight.extents()[0], in = dweight.extents()[1], rows = dy.size() / out;
  gemm<T>(dev, out, in, rows, {dy.data(), 1, out}, {x.data(), in, 1}, dweight.data(), in, accumulate);
}

/// The same numbers in another type, rounded to nearest even where it is narrower.
inline void convert(const cpu& dev, view<const float, cpu> from, view<bf16, cpu> to) {
  detail::map_elements(dev, to.size(), detail::nn_to_bf16{}, reinterpret_cast<std::uint16_t*>(to.data()), from.data());
}
/// \copydoc convert
inline void convert(const cpu& dev, view<const bf16, cpu> from, view<float, cpu> to) {
  detail::map_elements(dev, to.size(), detail::nn_from_bf16{}, to.data(),
                       reinterpret_cast<const std::uint16_t*>(from.data()));
}
/// y = what would be left of x if it were stored as A.
template <std::same_as<bf16> A>
void round_to(const cpu& dev, view<const float, cpu> x, view<float, cpu> y) {
  detail::map_elements(dev, y.size(), detail::nn_round_bf16{}, y.data(), x.data());
}
/// The same in place.
template <std::same_as<bf16> A>
void round_to(const cpu& dev, view<float, cpu> y) {
  detail::map_elements(dev, y.size(), detail::nn_round_bf16{}, y.data());
}

/// y = x sigmoid(x).
template <ComputeScalar T>
void silu_forward(const cpu& dev, view<const T, cpu> x, view<T, cpu> y) {
  detail::map_elements(dev, y.size(), detail::nn_silu{}, y.data(), x.data());
}

/// dx (+)= dy silu'(x).
template <ComputeScalar T>
void silu_backward(const cpu& dev, view<const T, cpu> x, view<const T, cpu> dy, view<T, cpu> dx, bool accumulate) {
  detail::map_slope<detail::nn_silu_slope>(dev, x, dy, dx, accumulate);
}

/// y = a + b, where b has as many rows as a, or one that is added to every row.
template <ComputeScalar T>
void add_forward(const cpu& dev, view<const T, cpu> a, view<const T, cpu> b, view<T, cpu> y) {
  const std::int64_t n = b.size(), rows = n == 0 ? 0 : a.size() / n;
  const T* x = a.data();
  const T* z = b.data();
  T* to = y.data();
  if (rows == 1) {
    detail::map_elements(dev, n, detail::nn_sum{}, to, x, z);
    return;
  }
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) to[r * n + i] = x[r * n + i] + z[i];
    }
  });
}

/// y[row, i] = x[row, i] + bias[i].
template <ComputeScalar T>
void add_bias_forward(const cpu& dev, view<const T, cpu> x, const T* bias, view<T, cpu> y) {
  add_forward(dev, x, view<const T, cpu>(bias, {y.extents()[-1]}), y);
}
/// y[row, i] = a[row, i] + b[row, i] + bias[i].
template <ComputeScalar T>
void add_bias_forward(const cpu& dev, view<const T, cpu> a, view<const T, cpu> b, const T* bias, view<T, cpu> y) {
  const std::int64_t n = y.extents()[-1], rows = n == 0 ? 0 : y.size() / n;
  const T* x = a.data();
  const T* z = b.data();
  T* to = y.data();
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) to[r * n + i] = x[r * n + i] + bias[i] + z[r * n + i];
    }
  });
}

/// y[row, i] (+)= x[row, i] scale[row].
template <ComputeScalar T>
void scale_rows(const cpu& dev, view<const T, cpu> x, const T* scale, view<T, cpu> y, bool accumulate) {
  const std::int64_t rows = y.batch(), n = y.sample_size();
  const T* from = x.data();
  T* to = y.data();
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T s = scale[r];
      const T* BOOT_RESTRICT p = from + r * n;
      T* BOOT_RESTRICT q = to + r * n;
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) q[i] = (accumulate ? q[i] : T{0}) + p[i] * s;
    }
  });
}

/// Copies `columns` numbers per row between arrays whose rows are `from_stride` and `to_stride` apart, or adds them.
template <ComputeScalar T>
void copy_columns(const cpu& dev, const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride,
                  std::int64_t rows, std::int64_t columns, bool accumulate) {
  parallel_chunks(dev, rows, detail::row_grain(columns), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* BOOT_RESTRICT p = from + r * from_stride;
      T* BOOT_RESTRICT q = to + r * to_stride;
      BOOT_SIMD
      for (std::int64_t i = 0; i < columns; ++i) q[i] = (accumulate ? q[i] : T{0}) + p[i];
    }
  });
}

/// y = (x - mean) rstd weight + bias over rows of n elements; `saved` gets mean and rstd of each row, if not null.
template <ComputeScalar T>
void layer_norm_forward(const cpu& dev, view<const T, cpu> x, const T* weight, const T* bias, double epsilon,
                        view<T, cpu> y, T* saved, std::int64_t n) {
  const std::int64_t rows = n == 0 ? 0 : x.size() / n;
  parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* BOOT_RESTRICT p = x.data() + r * n;
      T* BOOT_RESTRICT q = y.data() + r * n;
      T sum = 0, square = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += p[i];
      const T mean = sum / static_cast<T>(n);
      for (std::int64_t i = 0; i < n; ++i) square += (p[i] - mean) * (p[i] - mean);
      const T rstd = T{1} / std::sqrt(square / static_cast<T>(n) + static_cast<T>(epsilon));
      BOOT_SIMD
      for (std::int64_t i = 0; i < n; ++i) q[i] = (p[i] - mean) * rstd * weight[i] + bias[i];
      if (saved != nullptr) saved[2 * r] = mean, saved[2 * r + 1] = rstd;
    }
  });
}

/// dx (+)= d layer_norm / dx; dweight and dbias are added to where they are not null.
template <ComputeScalar T>
void layer_norm_backward(const cpu& dev, view<const T, cpu> x, const T* weight, const T* saved, view<const T, cpu> dy,
                         view<T, cpu> dx, bool accumulate, T* dweight, T* dbias, std::int64_t n) {
  const std::int64_t rows = n == 0 ? 0 : dy.size() / n;
  if (dx.data() != nullptr)
    parallel_chunks(dev, rows, detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        const T* BOOT_RESTRICT p = x.data() + r * n;
        const T* BOOT_RESTRICT g = dy.data() + r * n;
        T* BOOT_RESTRICT q = dx.data() + r * n;
        const T mean = saved[2 * r], rstd = saved[2 * r + 1];
        T sum = 0, along = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          sum += g[i] * weight[i];
          along += g[i] * weight[i] * (p[i] - mean) * rstd;
        }
        sum /= static_cast<T>(n);
        along /= static_cast<T>(n);
        BOOT_SIMD
        for (std::int64_t i = 0; i < n; ++i)
          q[i] = (accumulate ? q[i] : T{0}) + rstd * (g[i] * weight[i] - sum - (p[i] - mean) * rstd * along);
      }
    });
  parallel_chunks(dev, n, 64, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* BOOT_RESTRICT p = x.data() + r * n;
      const T* BOOT_RESTRICT g = dy.data() + r * n;
      const T mean = saved[2 * r], rstd = saved[2 * r + 1];
      for (std::int64_t i = begin; i < end; ++i) {
        if (dweight != nullptr) dweight[i] += g[i] * (p[i] - mean) * rstd;
        if (dbias != nullptr) dbias[i] += g[i];
      }
    }
  });
}

/// Sinusoids of `rows` inputs: row r gets cos and sin (or sin and cos) of input[r] frequency[i], `features` numbers.
/// frequency[i] = factor exp(-ln(max_period) i / (half - shift)); an odd width ends with a zero.
template <ComputeScalar T>
void sinusoids(const cpu& dev, const T* input, std::int64_t rows, std::int64_t features, bool cosine_first,
               double shift, double max_period, double factor, T* out) {
  const std::int64_t half = features / 2;
  parallel_chunks(dev, rows, detail::row_grain(16 * features), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = 0; i < half; ++i) {
      // The exponent in float64, the frequency rounded once: what PyTorch reaches only to a few ulp.
      const double exponent = -std::log(max_period) * static_cast<double>(i) / (static_cast<double>(half) - shift);
      const T frequency = static_cast<T>(factor * std::exp(exponent));
      for (std::int64_t r = first; r < last; ++r) {
        const T angle = input[r] * frequency;
        T* row = out + r * features;
        row[cosine_first ? i : i + half] = std::cos(angle);
        row[cosine_first ? i + half : i] = std::sin(angle);
      }
    }
    if (features % 2 != 0)
      for (std::int64_t r = first; r < last; ++r) out[r * features + features - 1] = T{0};
  });
}

/// y[row] = table[id(row)]; a negative id is the last row of the table. Throws boot::error for an id beyond the classes.
template <ComputeScalar T, class Ids>
void embedding_forward(const cpu& dev, view<const T, cpu> table, const Ids& id, view<T, cpu> y) {
  const std::int64_t n = table.extents()[1], last_row = table.extents()[0] - 1;
  for (std::int64_t r = 0; r < y.batch(); ++r)
    require(id[r] < last_row,
            "boot: sample {} has class {}, but the network knows classes 0 .. {}; a negative id is the null class", r,
            id[r], last_row - 1);
  parallel_chunks(dev, y.batch(), detail::row_grain(n), [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t k = id[r] < 0 ? last_row : id[r];
      for (std::int64_t i = 0; i < n; ++i) y[r * n + i] = table[k * n + i];
    }
  });
}

/// dtable[id(row)] += dy[row], rows in order.
template <ComputeScalar T, class Ids>
void embedding_backward(const cpu& dev, view<const T, cpu> dy, const Ids& id, view<T, cpu> dtable) {
  const std::int64_t n = dtable.extents()[1], last_row = dtable.extents()[0] - 1, rows = dy.size() / n;
  parallel_chunks(dev, n, 64, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t k = id[r] < 0 ? last_row : id[r];
      for (std::int64_t i = begin; i < end; ++i) dtable[k * n + i] += dy[r * n + i];
    }
  });
}

}  // namespace boot::inline v0
