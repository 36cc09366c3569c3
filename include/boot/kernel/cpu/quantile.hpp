// SPDX-License-Identifier: MIT
/// Per-sample quantiles of absolute values on the host: the first half of dynamic thresholding.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace boot::inline v0 {

/// out[i] = max(least, the `share` quantile of |f| over sample i), linear between neighbouring order statistics (as
/// numpy.quantile and torch.quantile do). f is [batch, sample...], out holds one number per sample, `share` in [0, 1].
/// Throws boot::error for a share outside [0, 1]. A sample that holds NaN gives an unspecified quantile.
template <ComputeScalar T>
void abs_quantile(const cpu& dev, double share, std::type_identity_t<T> least, view<const T, cpu> f, T* out) {
  require(share >= 0 && share <= 1, "boot: quantile {} of |f|; it needs a share in [0, 1], 0.995 is usual", share);
  const std::int64_t n = f.sample_size();
  if (n == 0) return;
  const double position = share * static_cast<double>(n - 1);
  const auto below = static_cast<std::int64_t>(std::floor(position));
  const T part = static_cast<T>(position - static_cast<double>(below));
  const std::int64_t together = std::max<std::int64_t>(1, 16384 / n);
  parallel_chunks(dev, f.batch(), together, [&](std::int64_t first, std::int64_t last) {
    std::vector<T> values(static_cast<std::size_t>(n));
    for (std::int64_t i = first; i < last; ++i) {
      for (std::int64_t j = 0; j < n; ++j) values[static_cast<std::size_t>(j)] = std::abs(f[i * n + j]);
      const auto at = values.begin() + below;
      std::nth_element(values.begin(), at, values.end());
      T q = *at;
      if (part > 0) q += part * (*std::min_element(at + 1, values.end()) - q);
      out[i] = std::max(least, q);
    }
  });
}

}  // namespace boot::inline v0
