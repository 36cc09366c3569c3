// SPDX-License-Identifier: MIT
/// Precision, recall, density and coverage of samples against a reference set, by k-nearest-neighbour balls.
#pragma once

#include <boot/config.hpp>
#include <boot/device/cpu.hpp>
#include <boot/metric/pairwise.hpp>
#include <boot/metric/samples.hpp>
#include <boot/tensor/view.hpp>

#include <cstdint>
#include <limits>
#include <vector>

namespace boot::inline v0 {

/// Options of precision_recall().
struct precision_recall_options {
  int k = 5;  ///< a ball reaches to the k-th nearest other sample of its own set; 1 <= k < samples in either set
};

/// What precision_recall() returns. The ball of a sample x of a set reaches to x's k-th nearest neighbour in that set
/// and includes its surface.
struct precision_recall_result {
  double precision = 0;  ///< share of samples inside at least one ball of the reference, 0 .. 1
  double recall = 0;     ///< share of reference samples inside at least one ball of the samples, 0 .. 1
  double density =
      0;  ///< reference balls around a sample, mean over samples, / k; about 1 for equal laws, may exceed 1
  double coverage = 0;  ///< share of reference balls that hold at least one sample, 0 .. 1
};

namespace detail {

/// Squared distance from every sample of `x` to its k-th nearest other one; `tiles` holds the same set. A sample is
/// left out of its own neighbours by index, so a duplicate elsewhere in the set counts, at distance 0.
[[nodiscard]] inline std::vector<double> squared_neighbour_radii(const cpu& dev, const view<const float, cpu>& x,
                                                                 const pairwise_tiles& tiles, int k) {
  // Row i holds the k smallest distances seen so far, ascending.
  std::vector<double> nearest(static_cast<std::size_t>(x.batch() * k), std::numeric_limits<double>::infinity());
  pairwise_distances(dev, x, tiles, [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* d) {
    double* row = nearest.data() + i * k;
    for (std::int64_t j = 0; j < count; ++j) {
      if (!(d[j] < row[k - 1]) || first + j == i) continue;
      int place = k - 1;
      for (; place > 0 && d[j] < row[place - 1]; --place) row[place] = row[place - 1];
      row[place] = d[j];
    }
  });
  std::vector<double> radii(static_cast<std::size_t>(x.batch()));
  for (std::int64_t i = 0; i < x.batch(); ++i)
    radii[static_cast<std::size_t>(i)] = nearest[static_cast<std::size_t>(i * k + k - 1)];
  return radii;
}

}  // namespace detail

/// Compares `samples` [N, ...] with `reference` [M, ...], N, M > k, as they are or as features of a network.
/// Precision and recall follow Kynkäänniemi et al., "Improved precision and recall metric for assessing generative
/// models" (NeurIPS 2019); density and coverage follow Naeem et al., "Reliable fidelity and diversity metrics for
/// generative models" (ICML 2020). All four depend on N, M and k: compare figures of equal counts only.
/// Time grows as (N + M)^2 d, memory as (N + M) (d + k). Distances are sums of squared differences in float, joined in
/// double every 64 elements; the bits do not depend on the number of threads.
/// Throws boot::error for too few samples, sizes that differ, k < 1 and values that are not finite.
[[nodiscard]] inline precision_recall_result precision_recall(const cpu& dev, view<const float, cpu> samples,
                                                              view<const float, cpu> reference,
                                                              const precision_recall_options& options = {}) {
  const int k = options.k;
  require(k >= 1, "boot: precision_recall got k = {}, needs k >= 1; 3 and 5 are usual", k);
  detail::require_samples(dev, "precision_recall", "samples", samples, std::int64_t{k} + 1);
  detail::require_samples(dev, "precision_recall", "reference", reference, std::int64_t{k} + 1);
  detail::require_same_sample_size("precision_recall", "samples", samples, "reference", reference);

  const detail::pairwise_tiles sample_tiles(dev, samples), reference_tiles(dev, reference);
  const std::vector<double> sample_radii = detail::squared_neighbour_radii(dev, samples, sample_tiles, k);
  const std::vector<double> reference_radii = detail::squared_neighbour_radii(dev, reference, reference_tiles, k);

  const auto n = static_cast<std::size_t>(samples.batch()), m = static_cast<std::size_t>(reference.batch());
  std::vector<std::int64_t> balls(n, 0);  // reference balls around a sample
  std::vector<char> recalled(m, 0), covered(m, 0);
  detail::pairwise_distances(dev, samples, reference_tiles,
                             [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* d) {
                               const double* radii = reference_radii.data() + first;
                               std::int64_t inside = 0;
                               for (std::int64_t j = 0; j < count; ++j) inside += d[j] <= radii[j] ? 1 : 0;
                               balls[static_cast<std::size_t>(i)] += inside;
                             });
  detail::pairwise_distances(dev, reference, sample_tiles,
                             [&](std::int64_t i, std::int64_t first, std::int64_t count, const double* d) {
                               const auto row = static_cast<std::size_t>(i);
                               const double* radii = sample_radii.data() + first;
                               bool in_sample_ball = false, holds_sample = false;
                               for (std::int64_t j = 0; j < count; ++j) {
                                 in_sample_ball |= d[j] <= radii[j];
                                 holds_sample |= d[j] <= reference_radii[row];
                               }
                               if (in_sample_ball) recalled[row] = 1;
                               if (holds_sample) covered[row] = 1;
                             });

  std::int64_t precise = 0, total = 0, recall = 0, coverage = 0;
  for (const std::int64_t b : balls) {
    precise += b > 0 ? 1 : 0;
    total += b;
  }
  for (std::size_t i = 0; i < m; ++i) {
    recall += recalled[i];
    coverage += covered[i];
  }
  const auto samples_count = static_cast<double>(n), reference_count = static_cast<double>(m);
  return {.precision = static_cast<double>(precise) / samples_count,
          .recall = static_cast<double>(recall) / reference_count,
          .density = static_cast<double>(total) / (samples_count * k),
          .coverage = static_cast<double>(coverage) / reference_count};
}

}  // namespace boot::inline v0
