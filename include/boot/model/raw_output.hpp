// SPDX-License-Identifier: MIT
/// The inverse of the affine map: what a network of a given kind would output for a known clean signal.
#pragma once

#include <boot/model/prediction.hpp>

#include <cmath>

namespace boot::inline v0 {

/// The raw output of kind `p` whose clean signal at x = alpha x0 + sigma eps is f; float64, host only. Used by the
/// exact teachers to speak in any kind of prediction.
///
/// Where sigma = 0 the noise estimate (x - alpha f)/sigma is taken as 0, its mean, and where alpha = 0 it is x/sigma:
/// unlike the way back, every kind has a finite output at both ends.
[[nodiscard]] inline double raw_output(const prediction& p, double alpha, double sigma, double x, double f) {
  const double eps = sigma > 0 ? (x - alpha * f) / sigma : 0;
  switch (p.kind) {
    case prediction_kind::sample:
      return f;
    case prediction_kind::epsilon:
      return eps;
    case prediction_kind::v:
      return alpha * eps - sigma * f;
    case prediction_kind::flow:
      return eps - f;
    case prediction_kind::edm: {
      // (f - c_skip x)/c_out with c_skip = d^2/(sigma^2 + d^2), c_out = sigma d/sqrt(sigma^2 + d^2).
      const double d = p.sigma_data, n = sigma * sigma + d * d;
      return sigma > 0 ? ((f - x) + sigma * sigma / n * x) * std::sqrt(n) / (sigma * d) : 0;
    }
  }
  fail("boot: unknown prediction kind {}", static_cast<int>(p.kind));
}

}  // namespace boot::inline v0
