// SPDX-License-Identifier: MIT
/// The exact teacher of one Gaussian N(mu, diag S^2), with its deterministic trajectories in closed form.
#pragma once

#include <boot/config.hpp>
#include <boot/device/cpu.hpp>
#include <boot/model/raw_output.hpp>
#include <boot/model/teacher.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// f(x, t) = mu + alpha S^2/(alpha^2 S^2 + sigma^2) (x - alpha mu), computed in float64; a Teacher for any condition,
/// which it ignores. Its probability-flow trajectories are x_s = alpha_s mu + (v_s/v_t)(x_t - alpha_t mu) with
/// v = sqrt(alpha^2 S^2 + sigma^2), so every solver can be measured against the truth. Immutable; threads may share it.
template <NoiseSchedule Schedule>
class gaussian {
 public:
  /// Mean and standard deviation of every coordinate, and the kind of prediction that predict() gives.
  /// Throws boot::error for no coordinates, unequal counts, or values that are not finite, and for deviations < 0.
  gaussian(Schedule schedule, std::vector<double> mean, std::vector<double> deviation,
           boot::prediction p = {prediction_kind::sample})
      : schedule_(std::move(schedule)), mean_(std::move(mean)), deviation_(std::move(deviation)), prediction_(p) {
    check_schedule<Schedule>();
    require(!mean_.empty() && mean_.size() == deviation_.size(),
            "boot: a gaussian got {} means and {} deviations; it needs one of each per coordinate, at least one",
            mean_.size(), deviation_.size());
    for (std::size_t j = 0; j < mean_.size(); ++j)
      require(std::isfinite(mean_[j]) && std::isfinite(deviation_[j]) && deviation_[j] >= 0,
              "boot: coordinate {} of a gaussian has mean {} and deviation {}; both must be finite, the deviation >= 0",
              j, mean_[j], deviation_[j]);
    require(p.kind != prediction_kind::edm || p.sigma_data > 0,
            "boot: an edm prediction with sigma_data = {}; it needs a deviation > 0, 0.5 is usual", p.sigma_data);
  }

  /// Raw output for x at time t; x and out are [batch, coordinates]. Throws boot::error for other shapes.
  template <ComputeScalar T, Condition C>
  void predict(const cpu& dev, view<const T, cpu> x, const times<cpu, T>& t, const C&, view<T, cpu> out) const {
    const std::int64_t d = sample_shape().size();
    require(x.sample_size() == d && out.extents() == x.extents() && t.batch() == x.batch(),
            "boot: a gaussian in {} dimensions got x of shape {}, {} times and out of shape {}; x and out must be "
            "batches of its samples with one time each",
            d, boot::to_string(x.extents()), t.batch(), boot::to_string(out.extents()));
    parallel_chunks(dev, x.batch(), 256, [&](std::int64_t first, std::int64_t last) {
      double last_time = std::numeric_limits<double>::quiet_NaN(), alpha = 0, sigma = 0;
      for (std::int64_t i = first; i < last; ++i) {
        if (t.time[i] != last_time) {
          last_time = t.time[i];
          alpha = schedule_.alpha(last_time);
          sigma = schedule_.sigma(last_time);
        }
        for (std::int64_t j = 0; j < d; ++j) {
          const double at = static_cast<double>(x[i * d + j]);
          out[i * d + j] = static_cast<T>(
              raw_output(prediction_, alpha, sigma, at, clean(static_cast<std::size_t>(j), at, alpha, sigma)));
        }
      }
    });
  }
  /// As given.
  [[nodiscard]] boot::prediction prediction() const noexcept { return prediction_; }
  /// [coordinates].
  [[nodiscard]] shape sample_shape() const { return {static_cast<std::int64_t>(mean_.size())}; }

  /// mu.
  [[nodiscard]] const std::vector<double>& mean() const noexcept { return mean_; }
  /// S.
  [[nodiscard]] const std::vector<double>& deviation() const noexcept { return deviation_; }
  /// The schedule it knows its own noise levels from.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }

  /// The clean signal f of coordinate j for x at noise level (alpha, sigma).
  [[nodiscard]] double clean(std::size_t j, double x, double alpha, double sigma) const noexcept {
    const double variance = deviation_[j] * deviation_[j], v2 = alpha * alpha * variance + sigma * sigma;
    // A point mass seen without noise: its limit from above is the mean, which is x/alpha as well.
    return v2 > 0 ? mean_[j] + alpha * variance / v2 * (x - alpha * mean_[j]) : mean_[j];
  }

  /// The exact solution of the probability-flow ODE: x at time s of the trajectory that passes x_t at time t.
  [[nodiscard]] double transport(std::size_t j, double x_t, double t, double s) const {
    const double alpha_t = schedule_.alpha(t), alpha_s = schedule_.alpha(s);
    return alpha_s * mean_[j] + spread(j, s) / spread(j, t) * (x_t - alpha_t * mean_[j]);
  }

  /// y_t of coordinate j of the trajectory behind the noise `eps`: x_T = sigma_T eps goes into the teacher, y_T =
  /// f(x_T, t_max), the trajectory starts at alpha_T y_T + sigma_T eps, and y_t = (x_t - sigma_t eps)/alpha_t. Written
  /// without that difference and quotient, so it keeps its digits next to alpha = 0, where it is y_T.
  [[nodiscard]] double signal(std::size_t j, double eps, double t) const {
    const double noise_end = schedule_.t_max();
    const double alpha_T = schedule_.alpha(noise_end), sigma_T = schedule_.sigma(noise_end);
    const double y_T = clean(j, sigma_T * eps, alpha_T, sigma_T);
    if (t == noise_end) return y_T;
    const double alpha = schedule_.alpha(t), sigma = schedule_.sigma(t);
    const double v_T = spread(j, noise_end), v = spread(j, t), S = deviation_[j];
    // (v sigma_T/v_T - sigma)/alpha, with v^2 sigma_T^2 - sigma^2 v_T^2 = S^2 (alpha^2 sigma_T^2 - sigma^2 alpha_T^2).
    const double of_noise = S == 0 ? 0
                                   : S * S * sigma_T * signal_step(schedule_, noise_end, t) *
                                         (alpha * sigma_T + sigma * alpha_T) / (v_T * (v * sigma_T + sigma * v_T));
    return mean_[j] + v / v_T * (alpha_T / alpha) * (y_T - mean_[j]) + of_noise * eps;
  }
  /// y_t for every row of `eps`; both are [batch, coordinates]. Throws boot::error for other shapes.
  template <ComputeScalar T>
  void signal(view<const T, cpu> eps, double t, view<T, cpu> out) const {
    const std::int64_t d = sample_shape().size();
    require(eps.sample_size() == d && out.extents() == eps.extents(),
            "boot: a gaussian in {} dimensions got noise of shape {} and out of shape {}; both must be batches of its "
            "samples",
            d, boot::to_string(eps.extents()), boot::to_string(out.extents()));
    for (std::int64_t i = 0; i < eps.size(); ++i)
      out[i] = static_cast<T>(signal(static_cast<std::size_t>(i % d), static_cast<double>(eps[i]), t));
  }
  /// The end of every trajectory: y at t_min, the image that a perfect solver or student gives for `eps`.
  template <ComputeScalar T>
  void endpoint(view<const T, cpu> eps, view<T, cpu> out) const {
    signal(eps, schedule_.t_min(), out);
  }

 private:
  // v_t = sqrt(alpha^2 S^2 + sigma^2), the deviation of x_t.
  [[nodiscard]] double spread(std::size_t j, double t) const {
    return std::hypot(schedule_.alpha(t) * deviation_[j], schedule_.sigma(t));
  }

  Schedule schedule_;
  std::vector<double> mean_, deviation_;
  boot::prediction prediction_;
};

}  // namespace boot::inline v0
