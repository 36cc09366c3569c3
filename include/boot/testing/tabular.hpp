// SPDX-License-Identifier: MIT
/// The tabular student: one free vector per (noise, grid time), no network; what an objective converges to can be seen exactly.
#pragma once

#include <boot/core/random.hpp>
#include <boot/device/cpu.hpp>
#include <boot/model/student.hpp>
#include <boot/schedule/noise_schedule.hpp>
#include <boot/tensor/parameter.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

namespace boot::inline v0::testing {

/// A Student on the host that holds y[noise, time, sample...] as its only parameter, "table". It knows the noises of
/// samples 0 .. rows - 1 of the batch (seed, step): what it is given as x must be one of their starts sigma_T eps, bit for
/// bit, and the target time one of the grid's. With delta = 1 / steps BOOT's fixed point on this table is exactly the
/// teacher's chain of `steps` DDIM steps (for a Heun target, of Heun steps), so an objective that does not reach it is
/// wrong. Conditions are ignored. The output is the clean signal (prediction_kind::sample).
template <ComputeScalar T = float>
class tabular {
 public:
  using scalar_type = T;  ///< what it computes in

  /// A copy of the rows asked for, and the way back into the table.
  class tape {
   public:
    /// Made by tabular::record().
    tape(tabular& owner, tensor<T, cpu> output, std::vector<std::int64_t> places)
        : owner_(&owner), output_(std::move(output)), places_(std::move(places)) {}
    /// [batch, sample...].
    [[nodiscard]] view<const T, cpu> output() const noexcept { return output_.get(); }
    /// Adds dL/d output to the gradient of the rows it came from, in order.
    void backward(const cpu&, view<const T, cpu> gradient) {
      require_shape("tabular::backward", "gradient", gradient, output_.extents());
      const std::int64_t n = output_.extents().sample_size();
      const view<T, cpu> to = owner_->arena_.gradient(0);
      for (std::size_t i = 0; i < places_.size(); ++i)
        for (std::int64_t j = 0; j < n; ++j) to[places_[i] + j] += gradient[static_cast<std::int64_t>(i) * n + j];
    }

   private:
    tabular* owner_;
    tensor<T, cpu> output_;
    std::vector<std::int64_t> places_;
  };

  /// A table of normal numbers for `rows` noises and the `steps` + 1 times from t_max down to t_min. Throws boot::error
  /// for sizes that are not positive.
  template <NoiseSchedule S>
  tabular(const cpu& dev, const S& schedule, shape sample, std::int64_t rows, std::int64_t steps,
          std::uint64_t seed = 0, std::int64_t step = 0)
      : sample_(sample), rows_(rows), steps_(steps), t_min_(schedule.t_min()), t_max_(schedule.t_max()) {
    require(rows > 0 && steps > 0 && sample.size() > 0,
            "boot: a tabular student with {} noises, {} steps and samples of shape {}; all must be positive", rows,
            steps, to_string(sample));
    noise_ = tensor<T, cpu>(dev, sample.batched(rows));
    std::vector<std::int64_t> all(static_cast<std::size_t>(rows));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    fill_noise(dev, counter_key{seed, stream::noise, static_cast<std::uint64_t>(step)},
               std::span<const std::int64_t>(all), noise_.get());
    start_ = noise_.clone();
    const T sigma = static_cast<T>(schedule.sigma(t_max_));
    for (T& v : std::span(start_.data(), static_cast<std::size_t>(start_.size()))) v = sigma * v;
    order_ = std::move(all);
    std::sort(order_.begin(), order_.end(), [this](std::int64_t a, std::int64_t b) { return compare(a, row(b)) < 0; });
    network_.table = {shape{rows, steps + 1, sample.size()}, {initializer::rule::normal, 1}};
    arena_ = parameter_arena<T, cpu>(dev, parameter_layout(network_));
    arena_.initialize(dev, seed);
  }
  tabular(const tabular&) = delete;
  tabular& operator=(const tabular&) = delete;

  /// The rows of the table at the target times.
  template <Condition C>
  void predict(const cpu&, view<const T, cpu> x, const times<cpu, T>&, const times<cpu, T>& t_target, const C&,
               view<T, cpu> out) const {
    require_shape("tabular::predict", "out", out, x.extents());
    gather(places(x, t_target), out.data());
  }
  /// The same, kept for backward().
  template <Condition C>
  [[nodiscard]] tape record(const cpu& dev, view<const T, cpu> x, const times<cpu, T>&, const times<cpu, T>& t_target,
                            const C&) {
    tensor<T, cpu> output(dev, x.extents());
    std::vector<std::int64_t> where = places(x, t_target);
    gather(where, output.data());
    return {*this, std::move(output), std::move(where)};
  }
  /// The table and its gradient.
  [[nodiscard]] parameter_arena<T, cpu>& parameters() noexcept { return arena_; }
  /// \copydoc parameters
  [[nodiscard]] const parameter_arena<T, cpu>& parameters() const noexcept { return arena_; }
  /// Clean signals.
  [[nodiscard]] boot::prediction prediction() const noexcept { return {prediction_kind::sample}; }
  /// Shape of one sample.
  [[nodiscard]] shape sample_shape() const noexcept { return sample_; }
  /// The noises, [rows, sample...].
  [[nodiscard]] view<const T, cpu> noise() const noexcept { return noise_.get(); }
  /// Position in [0, 1] of grid time `k`: 1 for k = 0 at t_max, 0 for k = steps at t_min.
  [[nodiscard]] double position(std::int64_t k) const noexcept {
    return 1 - static_cast<double>(k) / static_cast<double>(steps_);
  }
  /// y of noise `row` at grid time `k`, sample_shape().size() numbers.
  [[nodiscard]] view<const T, cpu> at(std::int64_t row, std::int64_t k) const {
    require(row >= 0 && row < rows_ && k >= 0 && k <= steps_,
            "boot: noise {} at grid time {} of a tabular student with {} noises and grid times 0 .. {}", row, k, rows_,
            steps_);
    return {arena_.values().data() + offset(row, k), sample_};
  }

 private:
  struct network_type {
    parameter table;
    template <class V>
    void visit(V& v) {
      v("table", table);
    }
  };

  [[nodiscard]] std::size_t row_bytes() const noexcept { return static_cast<std::size_t>(sample_.size()) * sizeof(T); }
  [[nodiscard]] const T* row(std::int64_t i) const noexcept { return start_.data() + i * sample_.size(); }
  [[nodiscard]] int compare(std::int64_t i, const T* x) const noexcept { return std::memcmp(row(i), x, row_bytes()); }
  [[nodiscard]] std::int64_t offset(std::int64_t row_index, std::int64_t k) const noexcept {
    return (row_index * (steps_ + 1) + k) * sample_.size();
  }
  [[nodiscard]] std::vector<std::int64_t> places(view<const T, cpu> x, const times<cpu, T>& t) const {
    require(x.extents() == sample_.batched(x.batch()) && t.batch() == x.batch(),
            "boot: a tabular student for samples of shape {} got x of shape {} and {} target times", to_string(sample_),
            to_string(x.extents()), t.batch());
    std::vector<std::int64_t> found;
    for (std::int64_t i = 0; i < x.batch(); ++i) {
      const T* const wanted = x.data() + i * sample_.size();
      const auto place = std::lower_bound(order_.begin(), order_.end(), wanted,
                                          [this](std::int64_t a, const T* b) { return compare(a, b) < 0; });
      require(
          place != order_.end() && compare(*place, wanted) == 0,
          "boot: sample {} given to a tabular student is not the start of any of its {} noises; ask for samples 0 .. "
          "{} of the seed and step it was made with",
          i, rows_, rows_ - 1);
      const double k = (t_max_ - t.time[i]) / (t_max_ - t_min_) * static_cast<double>(steps_);
      const double nearest = std::round(k);
      require(std::abs(k - nearest) < 1e-6 && nearest >= 0 && nearest <= static_cast<double>(steps_),
              "boot: target time {} given to a tabular student is not on its grid of {} steps over [{}, {}]; use "
              "delta = 1 / steps and its position(k)",
              t.time[i], steps_, t_min_, t_max_);
      found.push_back(offset(*place, static_cast<std::int64_t>(nearest)));
    }
    return found;
  }
  void gather(const std::vector<std::int64_t>& where, T* to) const {
    const T* const table = arena_.values().data();
    for (std::size_t i = 0; i < where.size(); ++i)
      std::memcpy(to + static_cast<std::int64_t>(i) * sample_.size(), table + where[i], row_bytes());
  }

  shape sample_;
  std::int64_t rows_, steps_;
  double t_min_, t_max_;
  network_type network_;
  tensor<T, cpu> noise_, start_;
  std::vector<std::int64_t> order_;
  parameter_arena<T, cpu> arena_;
};

}  // namespace boot::inline v0::testing
