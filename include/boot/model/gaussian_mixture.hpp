// SPDX-License-Identifier: MIT
/// Exact teachers: the clean signal of a Gaussian mixture with labelled components, known in closed form.
#pragma once

#include <boot/config.hpp>
#include <boot/device/cpu.hpp>
#include <boot/model/raw_output.hpp>
#include <boot/model/teacher.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// One component: weight, mean, one standard deviation for all coordinates, class label.
struct mixture_component {
  double weight = 1;         ///< relative; the mixture normalises
  std::vector<double> mean;  ///< one number per coordinate
  double deviation = 1;      ///< >= 0
  std::int32_t label = 0;    ///< class it belongs to, for conditional use
};

/// f(x, t) = E[x0 | x_t = x] of a mixture sum_k w_k N(mu_k, S_k^2), computed in float64 with log-sum-exp:
/// f = sum_k p_k (mu_k + alpha S_k^2/(alpha^2 S_k^2 + sigma^2) (x - alpha mu_k)), p_k ~ w_k N(x; alpha mu_k, alpha^2
/// S_k^2 + sigma^2). Predicts the sample, or any other kind on request. With class labels only the components of that
/// class take part; the null class means all.
template <NoiseSchedule Schedule>
class gaussian_mixture {
 public:
  /// Throws boot::error for no components, unequal dimensions, or weights and deviations that make no distribution.
  gaussian_mixture(Schedule schedule, std::vector<mixture_component> components,
                   boot::prediction p = {prediction_kind::sample})
      : schedule_(std::move(schedule)), components_(std::move(components)), prediction_(p) {
    require(p.kind != prediction_kind::edm || p.sigma_data > 0,
            "boot: an edm prediction with sigma_data = {}; it needs a deviation > 0, 0.5 is usual", p.sigma_data);
    require(!components_.empty(), "boot: a gaussian_mixture without components; give at least one");
    const std::size_t d = components_.front().mean.size();
    double total = 0;
    for (std::size_t k = 0; k < components_.size(); ++k) {
      const auto& c = components_[k];
      require(c.mean.size() == d && d > 0,
              "boot: component {} of a gaussian_mixture has {} coordinates, the first has {}; all need the same, at "
              "least one",
              k, c.mean.size(), d);
      require(c.weight > 0 && c.deviation >= 0 && std::isfinite(c.weight) && std::isfinite(c.deviation),
              "boot: component {} of a gaussian_mixture has weight {} and deviation {}; needs weight > 0 and deviation "
              ">= 0, both finite",
              k, c.weight, c.deviation);
      total += c.weight;
    }
    for (const auto& c : components_) {
      log_weight_.push_back(std::log(c.weight / total));
    }
  }

  /// Raw output for x at time t; unconditional.
  template <ComputeScalar T>
  void predict(const cpu& dev, view<const T, cpu> x, const times<cpu, T>& t, const no_condition&,
               view<T, cpu> out) const {
    run(dev, x, t, out, [](std::int64_t) { return std::int32_t{-1}; });
  }
  /// Raw output for x at time t, given class labels (and whatever else the condition holds).
  template <ComputeScalar T, Condition C>
  requires has_condition<class_labels<cpu>, C>
  void predict(const cpu& dev, view<const T, cpu> x, const times<cpu, T>& t, const C& condition,
               view<T, cpu> out) const {
    const class_labels<cpu>& labels = condition_part<class_labels<cpu>>(condition);
    run(dev, x, t, out, [&labels](std::int64_t i) { return labels[i]; });
  }
  /// As given, the sample by default.
  [[nodiscard]] boot::prediction prediction() const noexcept { return prediction_; }
  /// [coordinates].
  [[nodiscard]] shape sample_shape() const { return {static_cast<std::int64_t>(components_.front().mean.size())}; }
  /// As given.
  [[nodiscard]] const std::vector<mixture_component>& components() const noexcept { return components_; }
  /// The schedule it knows its own noise levels from.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }

 private:
  template <class T, class Label>
  void run(const cpu& dev, view<const T, cpu> x, const times<cpu, T>& t, view<T, cpu> out, const Label& label) const {
    const std::int64_t d = sample_shape().size(), count = static_cast<std::int64_t>(components_.size());
    require(x.sample_size() == d && out.extents() == x.extents() && t.batch() == x.batch(),
            "boot: a gaussian_mixture in {} dimensions got x of shape {}, {} times and out of shape {}", d,
            boot::to_string(x.extents()), t.batch(), boot::to_string(out.extents()));
    for (std::int64_t i = 0; i < x.batch(); ++i) {
      const std::int32_t wanted = label(i);
      const bool known = wanted < 0 || std::any_of(components_.begin(), components_.end(),
                                                   [&](const mixture_component& c) { return c.label == wanted; });
      require(known, "boot: sample {} asks for class {}, which no component of the gaussian_mixture has", i, wanted);
    }
    parallel_chunks(dev, x.batch(), 64, [&](std::int64_t first, std::int64_t last) {
      std::vector<double> p(static_cast<std::size_t>(count)), gain(static_cast<std::size_t>(count));
      double last_time = std::numeric_limits<double>::quiet_NaN(), alpha = 0, sigma = 0;
      for (std::int64_t i = first; i < last; ++i) {
        if (t.time[i] != last_time) {
          last_time = t.time[i];
          alpha = schedule_.alpha(last_time);
          sigma = schedule_.sigma(last_time);
        }
        sample(x.data() + i * d, out.data() + i * d, alpha, sigma, label(i), p, gain);
      }
    });
  }
  template <class T>
  void sample(const T* x, T* out, double alpha, double sigma, std::int32_t label, std::vector<double>& p,
              std::vector<double>& gain) const {
    const std::size_t d = components_.front().mean.size();
    double best = -std::numeric_limits<double>::infinity(), total = 0, along = 0;
    for (std::size_t k = 0; k < components_.size(); ++k) {
      const auto& c = components_[k];
      const double variance = alpha * alpha * c.deviation * c.deviation + sigma * sigma;
      double square = 0;
      for (std::size_t j = 0; j < d; ++j) {
        const double r = static_cast<double>(x[j]) - alpha * c.mean[j];
        square += r * r;
      }
      const bool taken = label < 0 || c.label == label;
      // A point component without noise (variance 0) is the limit of a tiny one.
      const double v = std::max(variance, std::numeric_limits<double>::min());
      p[k] = taken ? log_weight_[k] - 0.5 * (static_cast<double>(d) * std::log(v) + square / v)
                   : -std::numeric_limits<double>::infinity();
      gain[k] = variance > 0 ? alpha * c.deviation * c.deviation / variance : 1 / alpha;
      best = std::max(best, p[k]);
    }
    for (std::size_t k = 0; k < components_.size(); ++k) {
      p[k] = std::exp(p[k] - best);
      total += p[k];
    }
    for (std::size_t k = 0; k < components_.size(); ++k) {
      p[k] /= total;
      along += p[k] * gain[k];
    }
    for (std::size_t j = 0; j < d; ++j) {
      double f = along * static_cast<double>(x[j]);
      for (std::size_t k = 0; k < components_.size(); ++k) f += p[k] * (1 - gain[k] * alpha) * components_[k].mean[j];
      out[j] = static_cast<T>(raw_output(prediction_, alpha, sigma, static_cast<double>(x[j]), f));
    }
  }

  Schedule schedule_;
  std::vector<mixture_component> components_;
  boot::prediction prediction_;
  std::vector<double> log_weight_;
};

}  // namespace boot::inline v0
