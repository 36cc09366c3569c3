// SPDX-License-Identifier: MIT
/// What metrics ask of their inputs (enough samples, one size of sample, finite values), and the median they share.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace boot::inline v0::detail {

/// Index of the first element that is NaN or infinite, or -1.
[[nodiscard]] inline std::int64_t first_not_finite(const cpu& dev, const float* data, std::int64_t size) {
  constexpr std::int64_t grain = 1 << 16;
  std::vector<std::int64_t> found(static_cast<std::size_t>((size + grain - 1) / grain), -1);
  parallel_chunks(dev, size, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (!math::is_finite(data[i])) {
        found[static_cast<std::size_t>(begin / grain)] = i;
        return;
      }
    }
  });
  for (const std::int64_t i : found)
    if (i >= 0) return i;
  return -1;
}

/// Throws boot::error unless `x` has at least `least` samples of at least one element each, all of them finite.
inline void require_samples(const cpu& dev, const char* where, const char* name, const view<const float, cpu>& x,
                            std::int64_t least) {
  require(x.data() != nullptr && x.batch() >= least && x.sample_size() >= 1,
          "boot: {} got {} of shape {}, needs at least {} samples of at least one element; generate more samples",
          where, name, to_string(x.extents()), least);
  const std::int64_t bad = first_not_finite(dev, x.data(), x.size());
  if (bad >= 0)
    fail(
        "boot: {} got {} with the value {} in sample {}, element {}, needs finite values; drop the sample, or look for "
        "a student or a feature network that diverged",
        where, name, x[bad], bad / x.sample_size(), bad % x.sample_size());
}

/// Throws boot::error unless both sets have samples of one size; their counts may differ.
inline void require_same_sample_size(const char* where, const char* name_x, const view<const float, cpu>& x,
                                     const char* name_y, const view<const float, cpu>& y) {
  require(x.sample_size() == y.sample_size(),
          "boot: {} got {} of shape {} and {} of shape {}, needs samples of one size, not {} and {} elements; compare "
          "features of one network or images of one size",
          where, name_x, to_string(x.extents()), name_y, to_string(y.extents()), x.sample_size(), y.sample_size());
}

/// Median, the mean of the middle two for an even count; reorders `v`, which must hold no NaN and at least one value.
[[nodiscard]] inline double median_of(std::vector<double>& v) {
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  if (v.size() % 2 != 0) return *middle;
  return 0.5 * (*middle + *std::max_element(v.begin(), middle));
}

}  // namespace boot::inline v0::detail
