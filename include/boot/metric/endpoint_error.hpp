// SPDX-License-Identifier: MIT
/// Distance between a student's samples and the teacher's endpoints for the same noise, sample by sample.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/cpu.hpp>
#include <boot/metric/samples.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace boot::inline v0 {

/// What endpoint_error() returns. RMS is the root of the mean over all samples and elements.
struct endpoint_errors {
  double relative = 0;   ///< RMS(y - reference) / RMS(reference)
  double absolute = 0;   ///< RMS(y - reference), in units of a sample
  double median = 0;     ///< median over samples of the RMS over a sample's elements, / RMS(reference)
  double reference = 0;  ///< RMS(reference), in units of a sample
};

namespace detail {

/// Sums a[i]^2 and (a[i] - b[i])^2 in double. Eight sums side by side: an order that no compiler or vector width
/// changes.
struct square_sums {
  double of_reference = 0, of_difference = 0;

  square_sums(const float* y, const float* reference, std::int64_t size) {
    constexpr std::int64_t lanes = 8;
    double r[lanes] = {}, e[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) {
      BOOT_SIMD
      for (std::int64_t l = 0; l < lanes; ++l) {
        const double b = static_cast<double>(reference[i + l]), d = static_cast<double>(y[i + l]) - b;
        r[l] += b * b;
        e[l] += d * d;
      }
    }
    for (; i < size; ++i) {
      const double b = static_cast<double>(reference[i]), d = static_cast<double>(y[i]) - b;
      of_reference += b * b;
      of_difference += d * d;
    }
    for (std::int64_t l = 0; l < lanes; ++l) {
      of_reference += r[l];
      of_difference += e[l];
    }
  }
};

}  // namespace detail

/// How far `y` is from `reference`, both [N, ...] of one shape, sample i of both made from the same noise. Sums in
/// double; the bits do not depend on the number of threads. A NaN or an infinity in either input gives NaN or infinite
/// errors rather than an exception: a student that diverged is a result. For a reference of zeros the relative errors
/// are infinite (0 where y is zero as well). Throws boot::error for shapes that differ or are empty.
[[nodiscard]] inline endpoint_errors endpoint_error(const cpu& dev, view<const float, cpu> y,
                                                    view<const float, cpu> reference) {
  require(!y.empty() && !reference.empty(),
          "boot: endpoint_error got y of shape {} and reference of shape {}, needs at least one sample of at least one "
          "element in both",
          to_string(y.extents()), to_string(reference.extents()));
  require_shape("endpoint_error", "reference", reference, y.extents());
  const std::int64_t n = y.batch(), d = y.sample_size();
  std::vector<double> of_reference(static_cast<std::size_t>(n)), of_difference(static_cast<std::size_t>(n));
  parallel_chunks(dev, n, std::max<std::int64_t>(1, (1 << 14) / d), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const detail::square_sums s(y.data() + i * d, reference.data() + i * d, d);
      of_reference[static_cast<std::size_t>(i)] = s.of_reference;
      of_difference[static_cast<std::size_t>(i)] = s.of_difference;
    }
  });
  double r = 0, e = 0;
  for (const double v : of_reference) r += v;
  for (const double v : of_difference) e += v;

  const auto elements = static_cast<double>(n * d);
  endpoint_errors result;
  result.reference = std::sqrt(r / elements);
  result.absolute = std::sqrt(e / elements);
  const auto relative = [&](double v) {
    if (r == 0 && v == 0) return 0.0;
    return r == 0 ? std::numeric_limits<double>::infinity() : v / result.reference;
  };
  result.relative = relative(result.absolute);
  // A NaN would break the order that the median needs; the sum over all samples shows whether there is one.
  const bool ordered = math::is_finite(e);
  for (double& v : of_difference) v = std::sqrt(v / static_cast<double>(d));
  result.median = ordered ? relative(detail::median_of(of_difference)) : std::numeric_limits<double>::quiet_NaN();
  return result;
}

}  // namespace boot::inline v0
