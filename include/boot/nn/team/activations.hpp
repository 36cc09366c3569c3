// SPDX-License-Identifier: MIT
/// GELU, GEGLU, sums per channel and Fourier features on any TeamDevice.
#pragma once

#include <boot/core/math.hpp>
#include <boot/nn/team/embedding.hpp>
#include <boot/nn/team/operations.hpp>

#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// Distribution function and density of the normal distribution: the arithmetic of nn/cpu/activations.hpp, which tells
/// what the numbers are, for device code.
template <class C>
struct team_normal {
  C cdf, density;
};
BOOT_HD BOOT_FORCE_INLINE team_normal<float> team_normal_at(float x) {
  const float t = limited(as_float(as_bits(x) & 0x7fffffffu), 15.0f, infinity);
  const float square = t * t;
  const float high = as_float(as_bits(t) & 0xfffff000u);
  const float rest = math::fma(high + t, t - high, high * high - square);
  float e = math::exp(-0.5f * square);
  e = math::fma(e, -0.5f * rest, e);
  const float w = math::quotient(t - 3.5f, t + 3.5f);
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
BOOT_HD inline team_normal<double> team_normal_at(double x) {
  return {0.5 * ::erfc(x * -0.70710678118654752440), math::exp(-0.5 * x * x) * 0.39894228040143267794};
}

/// x, but not beyond where the functions have reached their limits: infinities would meet a factor 0. NaN passes.
template <class C>
BOOT_HD BOOT_FORCE_INLINE C team_above(C x, C low) {
  return x < low ? low : x;
}
template <class C>
BOOT_HD BOOT_FORCE_INLINE C team_within(C x, C bound) {
  const C low = team_above(x, -bound);
  return low > bound ? bound : low;
}
template <class C>
BOOT_HD BOOT_FORCE_INLINE C team_gelu_tanh_exponent(C x) {
  return x * math::fma(x * x, C(0.0713548162726002487), C(1.5957691216057307117));
}

struct team_gelu {
  template <class C>
  BOOT_HD C operator()(C x) const {
    return team_above(x, C{-1000}) * team_normal_at(x).cdf;
  }
};
struct team_gelu_slope {
  template <class C>
  BOOT_HD C operator()(C x, C dy) const {
    const team_normal<C> p = team_normal_at(x);
    return dy * math::fma(team_within(x, C{1000}), p.density, p.cdf);
  }
};
struct team_gelu_tanh {
  template <class C>
  BOOT_HD C operator()(C x) const {
    return team_above(x, C{-1000}) * math::sigmoid(team_gelu_tanh_exponent(team_within(x, C{30})));
  }
};
struct team_gelu_tanh_slope {
  template <class C>
  BOOT_HD C operator()(C x, C dy) const {
    const C v = team_within(x, C{30}), u = team_gelu_tanh_exponent(v);
    const C slope = math::fma(v * v, C(0.2140644488178007463), C(1.5957691216057307117));
    return dy * (math::sigmoid(u) * math::fma(v * slope, math::sigmoid(-u), C{1}));
  }
};

/// Grid: cut.blocks() x 1.
template <class T>
struct geglu_body {
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T* x;
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const std::int64_t n = cut.columns;
    const bool whole = p.count == width && rows_aligned<width>(x, n) && rows_aligned<width>(y, n);
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const auto a = load_part<width>(x + 2 * r * n + p.column, whole, p.count);
      const auto b = load_part<width>(x + 2 * r * n + n + p.column, whole, p.count);
      element_group<T, width> v;
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) store(v.v[k], static_cast<C>(a.v[k]) * team_gelu{}(static_cast<C>(b.v[k])));
      store_part<width>(y + r * n + p.column, v, whole, p.count);
    }
  }
};

/// Grid: cut.blocks() x 1.
template <bool accumulate, class T>
struct geglu_gradient_body {
  static constexpr int width = group_size<T>();
  row_tiles<width> cut;
  const T* x;
  const T* dy;
  T* dx;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const row_place p = place_in(team, cut);
    if (p.count == 0) return;
    const std::int64_t n = cut.columns;
    const bool whole = p.count == width && rows_aligned<width>(x, n) && rows_aligned<width>(dy, n) && group_aligned(dx);
    BOOT_NO_UNROLL
    for (std::int64_t r = p.row; r < p.end; r += p.step) {
      const std::int64_t first = 2 * r * n + p.column, second = first + n;
      const auto a = load_part<width>(x + first, whole, p.count), b = load_part<width>(x + second, whole, p.count);
      const auto g = load_part<width>(dy + r * n + p.column, whole, p.count);
      element_group<T, width> da, db;
      if constexpr (accumulate) {
        da = load_part<width>(static_cast<const T*>(dx) + first, whole, p.count);
        db = load_part<width>(static_cast<const T*>(dx) + second, whole, p.count);
      }
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        const C gate = static_cast<C>(b.v[k]), d = static_cast<C>(g.v[k]);
        const team_normal<C> q = team_normal_at(gate);
        const C value = d * team_above(gate, C{-1000}) * q.cdf;
        const C slope = d * static_cast<C>(a.v[k]) * math::fma(team_within(gate, C{1000}), q.density, q.cdf);
        store(da.v[k], accumulate ? static_cast<C>(da.v[k]) + value : value);
        store(db.v[k], accumulate ? static_cast<C>(db.v[k]) + slope : slope);
      }
      store_part<width>(dx + first, da, whole, p.count);
      store_part<width>(dx + second, db, whole, p.count);
    }
  }
};

/// Grid: blocks x rows.
template <class T>
struct fourier_body {
  const T* input;
  const T* weight;
  std::int64_t n;
  bool logarithm, cosine_first;
  T* out;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    using C = compute_type<T>;
    const C at = static_cast<C>(input[team.sample()]);
    const long_number<C> u = logarithm ? long_log(at) : long_number<C>{at, C{0}};  // NaN for what has no logarithm
    T* const row = out + team.sample() * 2 * n;
    const std::int64_t step = team.blocks() * Team::size;
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < n; i += step) {
      C s = 0, c = 0;
      sincospi(long_product(u, 2 * static_cast<C>(weight[i])), s, c);
      const bool known = math::is_finite(u.high);
      const C nan = static_cast<C>(__builtin_nanf(""));
      store(row[i], !known ? nan : cosine_first ? c : s);
      store(row[n + i], !known ? nan : cosine_first ? s : c);
    }
  }
};

}  // namespace detail

/// y = x Phi(x).
template <TeamDevice D, StorageScalar T>
void gelu_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  map_elements(dev, y.size(), detail::team_gelu{}, false, y.data(), x.data());
}
/// dx (+)= dy gelu'(x).
template <TeamDevice D, StorageScalar T>
void gelu_backward(const D& dev, view<const T, D> x, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  map_elements(dev, dx.size(), detail::team_gelu_slope{}, accumulate, dx.data(), x.data(), dy.data());
}

/// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
template <TeamDevice D, StorageScalar T>
void gelu_tanh_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  map_elements(dev, y.size(), detail::team_gelu_tanh{}, false, y.data(), x.data());
}
/// dx (+)= dy times the derivative.
template <TeamDevice D, StorageScalar T>
void gelu_tanh_backward(const D& dev, view<const T, D> x, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  map_elements(dev, dx.size(), detail::team_gelu_tanh_slope{}, accumulate, dx.data(), x.data(), dy.data());
}

/// y[.., n] = a gelu(b) for x[.., 2 n] = (a, b).
template <TeamDevice D, StorageScalar T>
void geglu_forward(const D& dev, view<const T, D> x, view<T, D> y) {
  const std::int64_t n = y.extents()[-1];
  const detail::row_tiles<detail::group_size<T>()> cut(y.size() / n, n, 4, 65536);
  launch(dev, detail::geglu_body<T>{cut, x.data(), y.data()}, cut.blocks(), 1);
}
/// dx[.., 2 n] (+)= dy[.., n] times the derivatives by a and b.
template <TeamDevice D, StorageScalar T>
void geglu_backward(const D& dev, view<const T, D> x, view<const T, D> dy, view<T, D> dx, bool accumulate) {
  const std::int64_t n = dy.extents()[-1];
  const detail::row_tiles<detail::group_size<T>()> cut(dy.size() / n, n, 4, 65536);
  if (accumulate) {
    launch(dev, detail::geglu_gradient_body<true, T>{cut, x.data(), dy.data(), dx.data()}, cut.blocks(), 1);
  } else {
    launch(dev, detail::geglu_gradient_body<false, T>{cut, x.data(), dy.data(), dx.data()}, cut.blocks(), 1);
  }
}

/// y[sample, .., channel] = x[sample, .., channel] + e[sample, channel]; e has x's batch or a batch of one.
template <TeamDevice D, StorageScalar T>
void add_channels_forward(const D& dev, view<const T, D> x, view<const T, D> e, view<T, D> y) {
  const std::int64_t channels = x.extents()[-1], positions = x.sample_size() / channels;
  detail::launch_rows<D, T>(dev, x.batch(), positions, channels, x.data(), channels, y.data(), channels, nullptr,
                            e.data(), e.batch() == 1 ? 0 : channels, false);
}

/// sums[sample, channel] (+)= the sum of x over the positions, and over the batch where `sums` has a batch of one. Two
/// stages of a fixed order.
template <TeamDevice D, StorageScalar T>
void channel_sums(const D& dev, view<const T, D> x, view<T, D> sums, bool accumulate) {
  const std::int64_t channels = x.extents()[-1], samples = sums.batch();
  detail::sum_columns(dev, x.data(), samples, x.size() / channels / samples, channels, sums.data(), accumulate);
}

/// out[row] = sin and cos (or cos and sin) of 2 pi weight[i] u, where u is input[row] or its natural logarithm. The angle
/// in float64. The inputs lie in device memory, so the logarithm of one that is not positive throws nothing: its row
/// becomes NaN.
template <TeamDevice D, StorageScalar T>
void fourier_features(const D& dev, const T* input, std::int64_t rows, view<const T, D> weight, bool logarithm,
                      bool cosine_first, view<T, D> out) {
  const std::int64_t n = weight.size();
  launch(dev, detail::fourier_body<T>{input, weight.data(), n, logarithm, cosine_first, out.data()}, blocks_for(n, 256),
         rows);
}

}  // namespace boot::inline v0
