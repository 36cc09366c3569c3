// SPDX-License-Identifier: MIT
/// Squared maximum mean discrepancy between two sets of samples, Gaussian kernels.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/cpu.hpp>
#include <boot/metric/pairwise.hpp>
#include <boot/metric/samples.hpp>
#include <boot/tensor/view.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

/// Options of mmd().
struct mmd_options {
  std::vector<double> bandwidths{};  ///< sigma of each kernel, in units of a distance; empty: median_bandwidth()
};

/// What mmd() returns.
struct mmd_result {
  double squared = 0;                ///< unbiased estimate of MMD^2; below 0 for about half of all pairs of equal laws
  std::vector<double> bandwidths{};  ///< the sigmas that were used
};

/// The median distance between different samples of both sets taken together (the usual choice of a bandwidth, Gretton
/// et al. 2012). Sets of more than 512 samples are represented by 512 of them at equal spacing.
/// Throws boot::error for fewer than two samples in either set, sizes that differ, values that are not finite, and
/// a median of 0.
[[nodiscard]] inline double median_bandwidth(const cpu& dev, view<const float, cpu> x, view<const float, cpu> y) {
  detail::require_samples(dev, "median_bandwidth", "x", x, 2);
  detail::require_samples(dev, "median_bandwidth", "y", y, 2);
  detail::require_same_sample_size("median_bandwidth", "x", x, "y", y);
  const std::int64_t d = x.sample_size();
  std::vector<float> pool;
  for (const auto& set : {x, y}) {
    const std::int64_t n = set.batch(), take = n < 512 ? n : 512;
    for (std::int64_t i = 0; i < take; ++i) {
      const float* row = set.data() + (i * n / take) * d;
      pool.insert(pool.end(), row, row + d);
    }
  }
  const auto n = static_cast<std::int64_t>(pool.size()) / d;
  const view<const float, cpu> all(pool.data(), shape{n, d});
  const detail::pairwise_tiles tiles(dev, all);
  std::vector<double> distance(static_cast<std::size_t>(n * (n - 1) / 2));
  detail::pairwise_distances(
      dev, all, tiles, [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* squared) {
        for (std::int64_t j = 0; j < count && first + j < i; ++j)
          distance[static_cast<std::size_t>(i * (i - 1) / 2 + first + j)] = std::sqrt(squared[j]);
      });
  const double median = detail::median_of(distance);
  require(median > 0,
          "boot: median_bandwidth got a median distance of 0, needs samples of which most differ; give mmd its "
          "bandwidths yourself");
  return median;
}

namespace detail {

/// Sum over pairs and kernels of exp(-|x_i - y_j|^2 / (2 sigma^2)); `same_set` leaves the pairs i == j out.
[[nodiscard]] inline double gaussian_kernel_sum(const cpu& dev, const view<const float, cpu>& x,
                                                const pairwise_tiles& y, const std::vector<double>& bandwidths,
                                                bool same_set) {
  std::vector<double> rows(static_cast<std::size_t>(x.batch()), 0.0);
  std::vector<double> factors;
  for (const double s : bandwidths) factors.push_back(-0.5 / (s * s));
  // The kernel is symmetric: within one set the pairs below the diagonal are enough.
  pairwise_distances(dev, x, y, [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* d) {
    double sum = 0;
    for (std::int64_t j = 0; j < count && (!same_set || first + j < i); ++j)
      for (const double f : factors) sum += std::exp(f * d[j]);
    rows[static_cast<std::size_t>(i)] += sum;
  });
  double sum = 0;
  for (const double r : rows) sum += r;
  return same_set ? 2 * sum : sum;
}

}  // namespace detail

/// MMD^2 between the laws of `x` [N, ...] and `y` [M, ...], N, M >= 2, by the unbiased U-statistic of Gretton et al.,
/// "A kernel two-sample test" (JMLR 2012), lemma 6:
///   sum_{i != j} k(x_i, x_j) / (N (N - 1)) + sum_{i != j} k(y_i, y_j) / (M (M - 1)) - 2 sum_{i, j} k(x_i, y_j) / (N
///   M),
/// with k(a, b) the mean over the bandwidths sigma of exp(-|a - b|^2 / (2 sigma^2)).
/// Sample i of `x` must be drawn apart from every sample of `y`: pairs made from the same noise bias the estimate.
/// Time grows as (N + M)^2 d; the bits do not depend on the number of threads.
/// Throws boot::error for too few samples, sizes that differ, values that are not finite and bandwidths that are not
/// positive.
[[nodiscard]] inline mmd_result mmd(const cpu& dev, view<const float, cpu> x, view<const float, cpu> y,
                                    const mmd_options& options = {}) {
  detail::require_samples(dev, "mmd", "x", x, 2);
  detail::require_samples(dev, "mmd", "y", y, 2);
  detail::require_same_sample_size("mmd", "x", x, "y", y);
  mmd_result result;
  result.bandwidths = options.bandwidths;
  if (result.bandwidths.empty()) result.bandwidths.push_back(median_bandwidth(dev, x, y));
  for (const double s : result.bandwidths)
    require(
        math::is_finite(s) && s > 0,
        "boot: mmd got the bandwidth {}, needs positive finite ones; leave bandwidths empty for the median distance",
        s);

  const detail::pairwise_tiles x_tiles(dev, x), y_tiles(dev, y);
  const double xx = detail::gaussian_kernel_sum(dev, x, x_tiles, result.bandwidths, true);
  const double yy = detail::gaussian_kernel_sum(dev, y, y_tiles, result.bandwidths, true);
  const double xy = detail::gaussian_kernel_sum(dev, x, y_tiles, result.bandwidths, false);
  const auto n = static_cast<double>(x.batch()), m = static_cast<double>(y.batch());
  result.squared =
      (xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)) / static_cast<double>(result.bandwidths.size());
  return result;
}

}  // namespace boot::inline v0
