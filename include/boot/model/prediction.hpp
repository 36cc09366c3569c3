// SPDX-License-Identifier: MIT
/// What a network predicts, and the affine map f = a x + b out that turns it into the clean signal.
#pragma once

#include <boot/core/error.hpp>
#include <boot/schedule/noise_schedule.hpp>

#include <cmath>
#include <string_view>

namespace boot::inline v0 {

/// Kinds of prediction; x = alpha x0 + sigma eps.
enum class prediction_kind {
  sample,   ///< x0
  epsilon,  ///< eps
  v,        ///< alpha eps - sigma x0
  flow,     ///< eps - x0, for schedules with alpha + sigma = 1
  edm       ///< F of Karras et al. 2022: x0 = c_skip x + c_out F
};

/// A kind and what it needs besides the schedule.
struct prediction {
  prediction_kind kind = prediction_kind::v;  ///< which
  double sigma_data = 0.5;                    ///< edm only: standard deviation of the data
};

/// Name of a kind, for messages and files.
[[nodiscard]] constexpr std::string_view to_string(prediction_kind kind) noexcept {
  switch (kind) {
    case prediction_kind::sample:
      return "sample";
    case prediction_kind::epsilon:
      return "epsilon";
    case prediction_kind::v:
      return "v";
    case prediction_kind::flow:
      return "flow";
    case prediction_kind::edm:
      return "edm";
  }
  return "unknown";
}

/// f = a x + b out.
struct affine_coefficients {
  double a = 0;  ///< of x
  double b = 1;  ///< of the network's output
};

/// The map for one time, from alpha and sigma there. Throws boot::error for epsilon at alpha = 0, which has no finite
/// map.
[[nodiscard]] inline affine_coefficients clean_signal_coefficients(const prediction& p, double alpha, double sigma) {
  switch (p.kind) {
    case prediction_kind::sample:
      return {0, 1};
    case prediction_kind::epsilon:
      require(alpha > 0,
              "boot: an epsilon prediction says nothing about the clean signal where alpha = 0 (sigma = {}); use a "
              "teacher that predicts v or sample, or a schedule that ends before alpha = 0",
              sigma);
      return {1 / alpha, -sigma / alpha};
    case prediction_kind::v: {
      const double n = alpha * alpha + sigma * sigma;
      return {alpha / n, -sigma / n};
    }
    case prediction_kind::flow:
      return {1 / (alpha + sigma), -sigma / (alpha + sigma)};
    case prediction_kind::edm: {
      const double d2 = p.sigma_data * p.sigma_data, n = sigma * sigma + d2;
      return {d2 / n, sigma * p.sigma_data / std::sqrt(n)};
    }
  }
  fail("boot: unknown prediction kind {}", static_cast<int>(p.kind));
}

/// The map at time t of a schedule.
template <NoiseSchedule S>
[[nodiscard]] affine_coefficients clean_signal_at(const prediction& p, const S& schedule, double t) {
  return clean_signal_coefficients(p, schedule.alpha(t), schedule.sigma(t));
}

}  // namespace boot::inline v0
