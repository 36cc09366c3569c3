// SPDX-License-Identifier: MIT
/// Sliced Wasserstein-2 distance between two sets of samples: optimal transport of their projections on random lines.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/core/random.hpp>
#include <boot/device/cpu.hpp>
#include <boot/metric/samples.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

/// Options of sliced_wasserstein2().
struct sliced_wasserstein_options {
  int projections = 256;   ///< lines; the relative noise of the distance falls as 1 / sqrt(projections)
  std::uint64_t seed = 0;  ///< of the lines; keep it while distances are compared
};

namespace detail {

inline constexpr std::int64_t projection_tile = 8;  ///< lines that a thread projects on together

/// Squared Wasserstein-2 distance of two sets of equally weighted numbers, both ascending. Every number of `a` spreads
/// b.size() units of mass, every number of `b` takes a.size() of them, in order: exact for any two sizes.
[[nodiscard]] inline double sorted_transport(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<std::int64_t>(a.size()), m = static_cast<std::int64_t>(b.size());
  double sum = 0;
  if (n == m) {
    for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum / static_cast<double>(n);
  }
  std::int64_t left_a = m, left_b = n;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const std::int64_t mass = left_a < left_b ? left_a : left_b;
    sum += static_cast<double>(mass) * ((a[i] - b[j]) * (a[i] - b[j]));
    left_a -= mass;
    left_b -= mass;
    if (left_a == 0) {
      ++i;
      left_a = m;
    }
    if (left_b == 0) {
      ++j;
      left_b = n;
    }
  }
  return sum / (static_cast<double>(n) * static_cast<double>(m));
}

/// out[p * n + i] = <x_i, line p> for one tile of lines, lines[k * 8 + p] being element k of line p. Sums run over k in
/// order, whatever the vector width.
inline void project(const view<const float, cpu>& x, const double* lines, std::vector<double> (&out)[projection_tile]) {
  const std::int64_t n = x.batch(), d = x.sample_size();
  constexpr std::int64_t rows = 4;
  const auto add = [&]<std::int64_t Rows>(std::int64_t i) {
    double sum[Rows][projection_tile] = {};
    const float* from = x.data() + i * d;
    for (std::int64_t k = 0; k < d; ++k) {
      for (std::int64_t r = 0; r < Rows; ++r) {
        const auto v = static_cast<double>(from[r * d + k]);
        BOOT_SIMD
        for (std::int64_t p = 0; p < projection_tile; ++p) sum[r][p] += v * lines[k * projection_tile + p];
      }
    }
    for (std::int64_t r = 0; r < Rows; ++r)
      for (std::int64_t p = 0; p < projection_tile; ++p) out[p][static_cast<std::size_t>(i + r)] = sum[r][p];
  };
  for (std::int64_t p = 0; p < projection_tile; ++p) out[p].resize(static_cast<std::size_t>(n));
  std::int64_t i = 0;
  for (; i + rows <= n; i += rows) add.template operator()<rows>(i);
  for (; i < n; ++i) add.template operator()<1>(i);
}

/// The distance for `directions`, [projections, d] row by row in double, of any positive length; checked inputs.
[[nodiscard]] inline double sliced_wasserstein(const cpu& dev, const view<const float, cpu>& x,
                                               const view<const float, cpu>& y, const std::vector<double>& directions) {
  const std::int64_t d = x.sample_size(), count = static_cast<std::int64_t>(directions.size()) / d;
  std::vector<double> squared(static_cast<std::size_t>(count));
  parallel_chunks(dev, count, projection_tile, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> lines(static_cast<std::size_t>(d * projection_tile), 0.0);
    for (std::int64_t p = begin; p < end; ++p) {
      double length = 0;
      const double* from = directions.data() + p * d;
      for (std::int64_t k = 0; k < d; ++k) length += from[k] * from[k];
      const double scale = 1 / std::sqrt(length);
      for (std::int64_t k = 0; k < d; ++k)
        lines[static_cast<std::size_t>(k * projection_tile + p - begin)] = from[k] * scale;
    }
    std::vector<double> px[projection_tile], py[projection_tile];
    project(x, lines.data(), px);
    project(y, lines.data(), py);
    for (std::int64_t p = begin; p < end; ++p) {
      std::sort(px[p - begin].begin(), px[p - begin].end());
      std::sort(py[p - begin].begin(), py[p - begin].end());
      squared[static_cast<std::size_t>(p)] = sorted_transport(px[p - begin], py[p - begin]);
    }
  });
  double sum = 0;
  for (const double s : squared) sum += s;
  return std::sqrt(sum / static_cast<double>(count));
}

inline void require_sliced_inputs(const cpu& dev, const view<const float, cpu>& x, const view<const float, cpu>& y) {
  require_samples(dev, "sliced_wasserstein2", "x", x, 1);
  require_samples(dev, "sliced_wasserstein2", "y", y, 1);
  require_same_sample_size("sliced_wasserstein2", "x", x, "y", y);
}

}  // namespace detail

/// Sliced Wasserstein-2 distance between `x` [N, ...] and `y` [M, ...]: the root of the mean over lines of the squared
/// Wasserstein-2 distance between the two sets of projections (Bonneel et al. 2015), in units of a sample. For N = M
/// that is the root mean square difference of sorted projections; unequal counts are transported exactly, a sample's
/// mass split where it must be. `directions` [projections, ...] has the samples' size; each is scaled to length 1 here.
/// Projections and sums in double; the bits do not depend on the number of threads.
/// Throws boot::error for empty sets, sizes that differ, values that are not finite and a direction of zeros.
[[nodiscard]] inline double sliced_wasserstein2(const cpu& dev, view<const float, cpu> x, view<const float, cpu> y,
                                                view<const float, cpu> directions) {
  detail::require_sliced_inputs(dev, x, y);
  detail::require_samples(dev, "sliced_wasserstein2", "directions", directions, 1);
  detail::require_same_sample_size("sliced_wasserstein2", "x", x, "directions", directions);
  const std::int64_t d = x.sample_size();
  for (std::int64_t p = 0; p < directions.batch(); ++p) {
    bool zero = true;
    for (std::int64_t k = 0; k < d; ++k) zero = zero && directions[p * d + k] == 0.0f;
    require(!zero, "boot: sliced_wasserstein2 got zeros as direction {}, needs a vector that has a direction", p);
  }
  return detail::sliced_wasserstein(dev, x, y,
                                    std::vector<double>(directions.data(), directions.data() + directions.size()));
}

/// The same along random lines, uniform on the sphere, the same ones for the same seed and size of sample.
/// Throws boot::error for the same mistakes, and for projections < 1.
[[nodiscard]] inline double sliced_wasserstein2(const cpu& dev, view<const float, cpu> x, view<const float, cpu> y,
                                                const sliced_wasserstein_options& options = {}) {
  require(options.projections >= 1, "boot: sliced_wasserstein2 got projections = {}, needs at least 1; 256 are usual",
          options.projections);
  detail::require_sliced_inputs(dev, x, y);
  const std::int64_t d = x.sample_size();
  std::vector<float> directions(static_cast<std::size_t>(options.projections * d), 1.0f);
  if (d > 1) {  // all lines through one dimension are the same
    parallel_for(dev, options.projections, [&](std::int64_t p) {
      fill_normal(directions.data() + p * d, d, counter_key{options.seed, stream::metric, 0}, p);
    });
  }
  return sliced_wasserstein2(dev, x, y, view<const float, cpu>(directions.data(), shape{options.projections, d}));
}

}  // namespace boot::inline v0
