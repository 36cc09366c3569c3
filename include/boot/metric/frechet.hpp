// SPDX-License-Identifier: MIT
/// Fréchet distance between Gaussians fitted to two sets of features (FID where the features are Inception's).
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/cpu.hpp>
#include <boot/metric/samples.hpp>
#include <boot/tensor/view.hpp>

// GCC 12 believes that its own AVX-512 intrinsics read uninitialised registers. The first two lines keep compilers
// quiet that do not know the names.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Eigenvalues>
#pragma GCC diagnostic pop

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace boot::inline v0 {

/// Mean and covariance of features. They may also be filled in by hand, from figures published with a data set.
struct feature_statistics_result {
  std::vector<double> mean{};        ///< d means
  std::vector<double> covariance{};  ///< d x d, row by row, symmetric, unbiased (divided by count - 1)
  std::int64_t count = 0;            ///< samples they were taken from; frechet_distance() does not read it
};

namespace detail {

inline constexpr std::int64_t covariance_tile = 32;   ///< columns that a thread multiplies together
inline constexpr std::int64_t covariance_rows = 512;  ///< samples summed before they join the sum over all samples

/// c[i][j] += sum over rows of a[r][i] b[r][j]; a and b are packed tiles of 32 columns, c is 32 x 32.
inline void add_tile_products(const double* a, const double* b, std::int64_t rows, double* c) {
  constexpr std::int64_t tile = covariance_tile, high = 4, wide = 16;
  for (std::int64_t first = 0; first < rows; first += covariance_rows) {
    const std::int64_t last = std::min(rows, first + covariance_rows);
    for (std::int64_t j0 = 0; j0 < tile; j0 += wide) {
      for (std::int64_t i0 = 0; i0 < tile; i0 += high) {
        double sum[high][wide] = {};
        for (std::int64_t r = first; r < last; ++r) {
          for (std::int64_t i = 0; i < high; ++i) {
            const double v = a[r * tile + i0 + i];
            BOOT_SIMD
            for (std::int64_t j = 0; j < wide; ++j) sum[i][j] += v * b[r * tile + j0 + j];
          }
        }
        for (std::int64_t i = 0; i < high; ++i)
          for (std::int64_t j = 0; j < wide; ++j) c[(i0 + i) * tile + j0 + j] += sum[i][j];
      }
    }
  }
}

/// Column means of x, each column summed in the order of the samples, 512 at a time.
[[nodiscard]] inline std::vector<double> column_means(const cpu& dev, const view<const float, cpu>& x) {
  const std::int64_t n = x.batch(), d = x.sample_size();
  std::vector<double> mean(static_cast<std::size_t>(d), 0.0);
  parallel_chunks(dev, d, covariance_tile, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r0 = 0; r0 < n; r0 += covariance_rows) {
      double part[covariance_tile] = {};
      for (std::int64_t r = r0; r < std::min(n, r0 + covariance_rows); ++r)
        for (std::int64_t i = begin; i < end; ++i) part[i - begin] += static_cast<double>(x[r * d + i]);
      for (std::int64_t i = begin; i < end; ++i) mean[static_cast<std::size_t>(i)] += part[i - begin];
    }
    for (std::int64_t i = begin; i < end; ++i) mean[static_cast<std::size_t>(i)] /= static_cast<double>(n);
  });
  return mean;
}

/// Throws boot::error unless the sizes fit and all values are finite.
inline void require_statistics(const char* name, const feature_statistics_result& s) {
  const std::size_t d = s.mean.size();
  require(d >= 1 && s.covariance.size() == d * d,
          "boot: frechet_distance got {} with {} means and {} covariances, needs d >= 1 means and d * d covariances; "
          "make it with feature_statistics",
          name, d, s.covariance.size());
  const auto finite = [](double v) { return math::is_finite(v); };
  require(std::all_of(s.mean.begin(), s.mean.end(), finite) &&
              std::all_of(s.covariance.begin(), s.covariance.end(), finite),
          "boot: frechet_distance got {} with a NaN or an infinity, needs finite means and covariances; make it with "
          "feature_statistics, which names the sample at fault",
          name);
}

/// Eigenvalues of a positive semidefinite d x d matrix, with those at or below the rounding error set to 0. Their roots
/// would otherwise bring an error of sqrt(epsilon) instead of epsilon for every dimension that holds no variance.
[[nodiscard]] inline Eigen::VectorXd clean_spectrum(const Eigen::VectorXd& values) {
  const double floor =
      static_cast<double>(values.size()) * std::numeric_limits<double>::epsilon() * values.cwiseAbs().maxCoeff();
  return (values.array() > floor).select(values, 0.0);
}

}  // namespace detail

/// Mean and unbiased covariance of `features` [N, ...], N >= 2, d = sample_size(): two passes in double, whose bits do
/// not depend on the number of threads. Time grows as N d^2 / 2; memory beside the result is d^2 / 2 doubles and 8 MiB,
/// or 512 d doubles where that is more. Throws boot::error for fewer than two samples and for values that are not
/// finite.
[[nodiscard]] inline feature_statistics_result feature_statistics(const cpu& dev, view<const float, cpu> features) {
  detail::require_samples(dev, "feature_statistics", "features", features, 2);
  constexpr std::int64_t tile = detail::covariance_tile;
  const std::int64_t n = features.batch(), d = features.sample_size(), tiles = (d + tile - 1) / tile;
  feature_statistics_result result;
  result.count = n;
  result.mean = detail::column_means(dev, features);

  // Samples are centred and packed by tiles of columns, 8 MiB at a time; each pair of tiles then belongs to one thread.
  const std::int64_t most = std::min(n, detail::covariance_rows * std::max<std::int64_t>(1, 2048 / (tiles * tile)));
  std::vector<double> packed(static_cast<std::size_t>(tiles * most * tile), 0.0);
  std::vector<double> sums(static_cast<std::size_t>(tiles * (tiles + 1) / 2 * tile * tile), 0.0);
  for (std::int64_t r0 = 0; r0 < n; r0 += most) {
    const std::int64_t rows = std::min(most, n - r0);
    parallel_for(dev, tiles, [&](std::int64_t t) {
      double* to = packed.data() + t * most * tile;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = t * tile; i < std::min(d, (t + 1) * tile); ++i)
          to[r * tile + i - t * tile] =
              static_cast<double>(features[(r0 + r) * d + i]) - result.mean[static_cast<std::size_t>(i)];
    });
    parallel_for(dev, tiles * tiles, [&](std::int64_t pair) {
      const std::int64_t a = pair / tiles, b = pair % tiles;
      if (b > a) return;
      detail::add_tile_products(packed.data() + a * most * tile, packed.data() + b * most * tile, rows,
                                sums.data() + (a * (a + 1) / 2 + b) * tile * tile);
    });
  }
  result.covariance.resize(static_cast<std::size_t>(d * d));
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const std::int64_t a = i / tile, b = j / tile;
      const std::int64_t place = ((a * (a + 1) / 2 + b) * tile + i % tile) * tile + j % tile;
      const double c = sums[static_cast<std::size_t>(place)] / static_cast<double>(n - 1);
      result.covariance[static_cast<std::size_t>(i * d + j)] = c;
      result.covariance[static_cast<std::size_t>(j * d + i)] = c;
    }
  }
  return result;
}

/// |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), the squared Wasserstein-2 distance of the Gaussians
/// N(m_a, C_a) and N(m_b, C_b) (Dowson and Landau 1982), which Heusel et al. 2017 name FID. Needs no full rank: sets of
/// fewer samples than features are welcome, but their distance to anything is biased upwards, so compare equal counts.
/// Time grows as d^3 on one thread. Throws boot::error for sizes that do not fit and for values that are not finite.
[[nodiscard]] inline double frechet_distance(const feature_statistics_result& a, const feature_statistics_result& b) {
  detail::require_statistics("a", a);
  detail::require_statistics("b", b);
  require(a.mean.size() == b.mean.size(),
          "boot: frechet_distance got {} features in a and {} in b, needs equal numbers; take both from one network",
          a.mean.size(), b.mean.size());
  using matrix = Eigen::MatrixXd;
  const auto d = static_cast<Eigen::Index>(a.mean.size());
  const Eigen::Map<const matrix> ca(a.covariance.data(), d, d), cb(b.covariance.data(), d, d);

  const Eigen::SelfAdjointEigenSolver<matrix> solver(ca);
  require(solver.info() == Eigen::Success,
          "boot: frechet_distance found no eigenvalues for the covariance of a; look for features of extreme size");
  const Eigen::VectorXd values = detail::clean_spectrum(solver.eigenvalues());
  const Eigen::Index rank = (values.array() > 0).count();
  double root_trace = 0;
  if (rank > 0) {
    // With C_a = V E V^T the matrix C_a^1/2 C_b C_a^1/2 has the eigenvalues of R^T C_b R, R = V E^1/2, without the
    // columns where E is 0. These two kinds of product run on one thread in Eigen, so no thread count shows in the
    // bits.
    const matrix r = solver.eigenvectors().rightCols(rank) * values.tail(rank).cwiseSqrt().asDiagonal();
    const matrix cr = cb.selfadjointView<Eigen::Lower>() * r;
    matrix inner = matrix::Zero(rank, rank);
    inner.triangularView<Eigen::Lower>() = r.transpose() * cr;
    const Eigen::SelfAdjointEigenSolver<matrix> inner_solver(inner, Eigen::EigenvaluesOnly);
    require(inner_solver.info() == Eigen::Success,
            "boot: frechet_distance found no eigenvalues for the product of the covariances; look for features of "
            "extreme size");
    root_trace = detail::clean_spectrum(inner_solver.eigenvalues()).cwiseSqrt().sum();
  }
  double shift = 0;
  for (std::size_t i = 0; i < a.mean.size(); ++i) shift += (a.mean[i] - b.mean[i]) * (a.mean[i] - b.mean[i]);
  return std::max(0.0, shift + ca.trace() + cb.trace() - 2 * root_trace);  // rounding may lead below 0
}

/// Fréchet distance between the features `x` [N, ...] and `y` [M, ...], N, M >= 2: feature_statistics() of both, then
/// frechet_distance() of these. Throws boot::error as they do.
[[nodiscard]] inline double frechet_distance(const cpu& dev, view<const float, cpu> x, view<const float, cpu> y) {
  detail::require_same_sample_size("frechet_distance", "x", x, "y", y);
  return frechet_distance(feature_statistics(dev, x), feature_statistics(dev, y));
}

}  // namespace boot::inline v0
