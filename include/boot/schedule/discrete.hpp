// SPDX-License-Identifier: MIT
/// Noise schedules given as a table of T steps (DDPM, Stable Diffusion): the beta formulas of diffusers, in float64.
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// How the betas are spaced; the names are those of a diffusers scheduler_config.json ("beta_schedule").
enum class beta_spacing {
  linear,             ///< evenly spaced from beta_start to beta_end
  scaled_linear,      ///< evenly spaced square roots (Stable Diffusion)
  squaredcos_cap_v2,  ///< cosine alpha-bar with betas capped at .999; beta_start and beta_end are not read
};

/// The spacing of that diffusers name; boot::error for an unknown one.
[[nodiscard]] inline beta_spacing parse_beta_spacing(std::string_view name) {
  if (name == "linear") return beta_spacing::linear;
  if (name == "scaled_linear") return beta_spacing::scaled_linear;
  if (name == "squaredcos_cap_v2") return beta_spacing::squaredcos_cap_v2;
  fail(
      "boot: beta_schedule \"{}\" is not known; known are linear, scaled_linear and squaredcos_cap_v2. For another one "
      "pass "
      "its table to discrete_schedule::from_betas or discrete_schedule::from_alphas_cumprod.",
      name);
}

/// Options of discrete_schedule. The defaults are DDPM's; Stable Diffusion is
/// {.spacing = beta_spacing::scaled_linear, .beta_start = .00085, .beta_end = .012}.
struct discrete_options {
  int steps = 1000;                             ///< T >= 2, diffusers' num_train_timesteps
  beta_spacing spacing = beta_spacing::linear;  ///< diffusers' beta_schedule
  double beta_start = 0.0001;                   ///< first beta, in (0, 1)
  double beta_end = 0.02;                       ///< last beta, in (0, 1)
  bool zero_terminal_snr = false;               ///< rescale so that the last alpha-bar is 0, keeping the first
};

/// Variance preserving schedule of a table abar_0 > ... > abar_{T-1}: alpha = sqrt(abar_i), sigma = sqrt(1 - abar_i) at
/// the integer times i. TIME IS THE INDEX, t in [0, T - 1], as in diffusers' timesteps.
/// Between integers lambda is linear in t. At an integer dlambda is the slope of the interval below it (a step goes
/// from t down), at 0 that of the first interval.
/// Zero terminal SNR (abar_{T-1} = 0): lambda is infinite at T - 1, so in the last interval 1/r = alpha/sigma is linear
/// instead. It reaches alpha = 0 exactly at T - 1, where lambda' is unbounded, as for the cosine and flow schedules.
/// Times outside the range take the end's values.
class discrete_schedule {
 public:
  /// DDPM's table: 1000 linear betas from 1e-4 to .02.
  discrete_schedule() : discrete_schedule(discrete_options{}) {}
  /// The table of these options; throws boot::error when they do not fit.
  explicit discrete_schedule(const discrete_options& options)
      : discrete_schedule(table_of(betas_of(options), options.zero_terminal_snr), table_tag{}) {}

  /// The table of a model's own betas (diffusers' trained_betas): each in (0, 1), the last may be 1.
  [[nodiscard]] static discrete_schedule from_betas(const std::vector<double>& betas, bool zero_terminal_snr = false) {
    return discrete_schedule(table_of(betas, zero_terminal_snr), table_tag{});
  }
  /// A table of alpha-bar (diffusers' alphas_cumprod): strictly decreasing inside (0, 1), the last may be 0.
  [[nodiscard]] static discrete_schedule from_alphas_cumprod(std::vector<double> alphas_cumprod) {
    return discrete_schedule(std::move(alphas_cumprod), table_tag{});
  }

  /// Shifts of this schedule keep alpha^2 + sigma^2 = 1.
  static constexpr schedule_path path = schedule_path::variance_preserving;

  /// Number of entries T.
  [[nodiscard]] std::size_t steps() const { return alphas_cumprod_.size(); }
  /// The table abar_0 .. abar_{T-1}.
  [[nodiscard]] const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

  /// sqrt(abar_t) at integers, 1/sqrt(1 + exp(2 lambda)) between; exactly 0 at T - 1 for zero terminal SNR.
  [[nodiscard]] double alpha(double t) const {
    const position p = locate(t);
    if (p.weight == 0 || p.weight == 1) return std::sqrt(alphas_cumprod_[p.index + (p.weight == 1)]);
    return 1 / std::sqrt(1 + std::exp(2 * lambda(t)));
  }
  /// sqrt(1 - abar_t) at integers, 1/sqrt(1 + exp(-2 lambda)) between.
  [[nodiscard]] double sigma(double t) const {
    const position p = locate(t);
    if (p.weight == 0 || p.weight == 1) return std::sqrt(1 - alphas_cumprod_[p.index + (p.weight == 1)]);
    return 1 / std::sqrt(1 + std::exp(-2 * lambda(t)));
  }
  /// 0.
  [[nodiscard]] double t_min() const { return 0; }
  /// T - 1.
  [[nodiscard]] double t_max() const { return static_cast<double>(steps() - 1); }

  /// log(sigma/alpha), linear between integers (see above for a last interval that ends at +inf).
  [[nodiscard]] double lambda(double t) const {
    const position p = locate(t);
    if (p.weight == 1) return lambdas_[p.index + 1];
    return lambdas_[p.index] + rise(p);
  }
  /// Slope of the interval that holds t, per index; +inf at T - 1 for zero terminal SNR.
  [[nodiscard]] double dlambda(double t) const {
    const position p = locate(t);
    if (!open_ended(p.index)) return lambdas_[p.index + 1] - lambdas_[p.index];
    return p.weight == 1 ? detail::schedule_infinity : 1 / p.remainder;
  }
  /// The inverse of the piecewise lambda, clamped to [0, T - 1].
  [[nodiscard]] double time_of_lambda(double lambda) const {
    if (lambda <= lambdas_.front()) return 0;
    if (lambda >= lambdas_.back()) return t_max();
    const auto above = std::upper_bound(lambdas_.begin(), lambdas_.end(), lambda);
    const auto index = static_cast<std::size_t>(above - lambdas_.begin()) - 1;
    const double excess = lambda - lambdas_[index];
    const double weight = open_ended(index) ? -std::expm1(-excess) : excess / (lambdas_[index + 1] - lambdas_[index]);
    return static_cast<double>(index) + weight;
  }
  /// 1 - r_u/r_t from lambda_u - lambda_t summed interval by interval: no cancellation when t and u are close.
  [[nodiscard]] double signal_step(double t, double u) const {
    return -std::expm1(t > u ? -difference(u, t) : difference(t, u));
  }

 private:
  struct table_tag {};
  /// A time as interval and place in it: t = index + weight, remainder = 1 - weight without rounding.
  struct position {
    std::size_t index;
    double weight, remainder;
  };

  discrete_schedule(std::vector<double> alphas_cumprod, table_tag) : alphas_cumprod_(std::move(alphas_cumprod)) {
    require(steps() >= 2, "boot: discrete_schedule: the table has {} entries; it needs at least 2 (usually 1000).",
            steps());
    lambdas_.reserve(steps());
    for (std::size_t i = 0; i < steps(); ++i) {
      const double abar = alphas_cumprod_[i], before = i == 0 ? 1.0 : alphas_cumprod_[i - 1];
      require(abar < before && (abar > 0 || (abar == 0 && i + 1 == steps())),
              "boot: discrete_schedule: alphas_cumprod[{}] = {} after {}; the table must fall strictly from below 1, "
              "and only "
              "its last entry may be 0. Give alpha-bar (the cumulative product, not betas), data end first.",
              i, abar, before);
      lambdas_.push_back(abar == 0 ? detail::schedule_infinity : 0.5 * std::log((1 - abar) / abar));
      require(
          i == 0 || lambdas_[i] > lambdas_[i - 1],
          "boot: discrete_schedule: alphas_cumprod[{}] = {} and [{}] = {} are too close to tell apart; thin the table.",
          i - 1, before, i, abar);
    }
  }

  static std::vector<double> betas_of(const discrete_options& options) {
    require(options.steps >= 2, "boot: discrete_schedule: steps = {} was given; it needs at least 2 (usually 1000).",
            options.steps);
    const bool cosine = options.spacing == beta_spacing::squaredcos_cap_v2;
    require(
        cosine || (options.beta_start > 0 && options.beta_start < 1 && options.beta_end > 0 && options.beta_end < 1),
        "boot: discrete_schedule: beta_start = {} and beta_end = {} were given; both must lie in (0, 1). Stable "
        "Diffusion "
        "has 0.00085 and 0.012; continuous betas such as 0.1 and 20 belong to linear_schedule.",
        options.beta_start, options.beta_end);
    const auto steps = static_cast<std::size_t>(options.steps);
    std::vector<double> betas(steps);
    const auto cosine_abar = [&](std::size_t i) {
      const double u = static_cast<double>(i) / static_cast<double>(steps);
      const double root = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
      return root * root;
    };
    for (std::size_t i = 0; i < steps; ++i) {
      const double u = static_cast<double>(i) / static_cast<double>(steps - 1);
      if (cosine) {
        betas[i] = (std::min)(1 - cosine_abar(i + 1) / cosine_abar(i), 0.999);
      } else if (options.spacing == beta_spacing::scaled_linear) {
        const double first = std::sqrt(options.beta_start), root = first + (std::sqrt(options.beta_end) - first) * u;
        betas[i] = root * root;
      } else {
        betas[i] = options.beta_start + (options.beta_end - options.beta_start) * u;
      }
    }
    return betas;
  }

  static std::vector<double> table_of(const std::vector<double>& betas, bool zero_terminal_snr) {
    require(betas.size() >= 2, "boot: discrete_schedule: {} betas were given; it needs at least 2 (usually 1000).",
            betas.size());
    std::vector<double> table(betas.size());
    double product = 1;
    for (std::size_t i = 0; i < betas.size(); ++i) {
      require(
          betas[i] > 0 && (betas[i] < 1 || (betas[i] == 1 && i + 1 == betas.size())),
          "boot: discrete_schedule: betas[{}] = {}; betas must lie in (0, 1), only the last may be 1. For a table of "
          "alpha-bar use discrete_schedule::from_alphas_cumprod.",
          i, betas[i]);
      table[i] = product *= 1 - betas[i];
    }
    if (zero_terminal_snr) {  // sqrt(abar) shifted so that the last is 0, scaled so that the first is kept
      const double first = std::sqrt(table.front()), last = std::sqrt(table.back());
      for (std::size_t i = 1; i < table.size(); ++i) {
        const double root = (std::sqrt(table[i]) - last) * (first / (first - last));
        table[i] = root * root;
      }
    }
    return table;
  }

  /// The interval (i, i + 1] that holds t; at t = 0 the first one. NaN stays NaN in the weights.
  [[nodiscard]] position locate(double t) const {
    if (!(t > 0)) return {0, t < 0 ? 0.0 : t, t < 0 ? 1.0 : 1 - t};
    if (t >= t_max()) return {steps() - 2, 1, 0};
    const double above = std::ceil(t);
    return {static_cast<std::size_t>(above) - 1, t - (above - 1), above - t};
  }
  /// lambda is infinite at the upper end of this interval.
  [[nodiscard]] bool open_ended(std::size_t index) const { return index + 2 == steps() && alphas_cumprod_.back() == 0; }
  /// lambda(t) - lambda at the lower end of its interval.
  [[nodiscard]] double rise(const position& p) const {
    return open_ended(p.index) ? -std::log1p(-p.weight) : p.weight * (lambdas_[p.index + 1] - lambdas_[p.index]);
  }
  /// lambda(high) - lambda(low) for low <= high.
  [[nodiscard]] double difference(double low, double high) const {
    const position l = locate(low), h = locate(high);
    if (l.index != h.index)
      return l.remainder * (lambdas_[l.index + 1] - lambdas_[l.index]) + (lambdas_[h.index] - lambdas_[l.index + 1]) +
             rise(h);
    const double width = h.weight - l.weight;
    return open_ended(l.index) ? std::log1p(width / h.remainder) : width * (lambdas_[l.index + 1] - lambdas_[l.index]);
  }

  std::vector<double> alphas_cumprod_, lambdas_;
};

static_assert(NoiseSchedule<discrete_schedule>);

}  // namespace boot::inline v0
