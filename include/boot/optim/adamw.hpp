// SPDX-License-Identifier: MIT
/// The optimiser: global norm clipping, AdamW and several averages, one pass over the parameters.
#pragma once

#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/optim/ema.hpp>
#include <boot/tensor/parameter.hpp>
#include <boot/tensor/workspace.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Options of adamw.
struct adamw_options {
  double beta1 = 0.9;                                   ///< decay of the first moment
  double beta2 = 0.999;                                 ///< decay of the second moment
  double epsilon = 1e-8;                                ///< added to the root of the second moment
  double weight_decay = 0.01;                           ///< decoupled, times the group's factor
  double clip_norm = 1;                                 ///< largest global gradient norm; 0: no clipping
  std::vector<ema_options> averages = {ema_options{}};  ///< up to four
};

/// What one step did.
struct step_result {
  double gradient_norm = 0;  ///< before clipping
  bool skipped = false;      ///< the gradient was not finite: nothing changed
};

/// State and step of the optimiser for one arena. PyTorch's AdamW in its order of operations, with float state.
template <ComputeScalar T, Device D>
class adamw {
 public:
  /// Moments zero, averages equal to the parameters. Throws boot::error for options that make no sense.
  adamw(const D& dev, parameter_arena<T, D>& arena, adamw_options options)
      : options_(std::move(options)),
        first_(zeros<T>(dev, {arena.layout().size()})),
        second_(zeros<T>(dev, {arena.layout().size()})) {
    const auto& o = options_;
    require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1,
            "boot: AdamW betas {} and {}; both need to be in [0, 1), 0.9 and 0.999 are usual", o.beta1, o.beta2);
    require(
        o.epsilon > 0 && o.weight_decay >= 0 && o.clip_norm >= 0,
        "boot: AdamW epsilon {}, weight decay {}, clip norm {}; needs epsilon > 0 (1e-8 is usual), the others >= 0 (0: "
        "none)",
        o.epsilon, o.weight_decay, o.clip_norm);
    require(o.averages.size() <= max_averages, "boot: {} averages asked for; one pass keeps up to {}, leave some out",
            o.averages.size(), max_averages);
    for (const auto& a : o.averages) {
      validate(a);
      tensor<T, D> t(dev, {arena.layout().size()});
      copy(dev, std::as_const(arena).values(), t.get());
      averages_.push_back(std::move(t));
    }
    // Neighbouring parameters of one group become one range; frozen groups have none.
    const auto& layout = arena.layout();
    for (std::size_t i = 0; i < layout.entries().size(); ++i) {
      const auto& e = layout.entries()[i];
      if (!layout.groups()[static_cast<std::size_t>(e.group)].trainable) continue;
      const std::int64_t end = i + 1 < layout.entries().size() ? layout.entries()[i + 1].offset : layout.size();
      if (!ranges_.empty() && ranges_.back().group == e.group && ranges_.back().end == e.offset) {
        ranges_.back().end = end;
      } else {
        ranges_.push_back({e.offset, end, e.group});
      }
    }
    for (const auto& g : layout.groups()) groups_.push_back({static_cast<T>(g.rate), static_cast<T>(g.weight_decay)});
    group_table_ = tensor_of<group_row<T>>(dev, std::span<const group_row<T>>(groups_),
                                           {static_cast<std::int64_t>(groups_.size())});
    ranges_table_ = tensor_of<parameter_range>(dev, std::span<const parameter_range>(ranges_),
                                               {static_cast<std::int64_t>(ranges_.size())});
    row_table_ = tensor<adamw_row<T>, D>(dev, {1});
    if constexpr (TeamDevice<D>) {
      norm_ = tensor<T, D>(dev, {1});
      decided_ = tensor<adamw_row<T>, D>(dev, {1});
    }
  }

  /// One update with the arena's gradient at the given rate. A gradient with a NaN or infinity changes nothing: on a
  /// device that runs teams the device itself decides, so that a captured step does as well.
  step_result step(const D& dev, parameter_arena<T, D>& arena, double rate) {
    adamw_row<T> row = row_of(updates_, rate);
    const view<const T, D> gradient = arena.gradient();
    if constexpr (TeamDevice<D>) {
      T norm = 0;
      decide_update(dev, gradient, send(dev, std::span<const adamw_row<T>>(&row, 1), row_table_), options_.clip_norm,
                    decided_.data(), norm_.data());
      update(dev, std::as_const(decided_).data(), arena, gradient);
      read_numbers(dev, std::as_const(norm_).data(), &norm, 1);
      if (!math::is_finite(norm)) return {static_cast<double>(norm), true};
      ++updates_;
      return {static_cast<double>(norm), false};
    } else {
      const double size = std::sqrt(square_sum(dev, gradient, partials_));
      if (!math::is_finite(size)) return {size, true};
      if (options_.clip_norm > 0 && size > options_.clip_norm)
        row.gradient_scale = static_cast<T>(options_.clip_norm / (size + 1e-6));
      update(dev, send(dev, std::span<const adamw_row<T>>(&row, 1), row_table_), arena, gradient);
      ++updates_;
      return {size, false};
    }
  }

  /// Updates so far, skipped steps not counted.
  [[nodiscard]] std::int64_t updates() const noexcept { return updates_; }
  /// For resume: the number of updates the state belongs to.
  void set_updates(std::int64_t n) noexcept { updates_ = n; }
  /// First moment, flat.
  [[nodiscard]] view<T, D> first_moment() noexcept { return first_.get(); }
  /// Second moment, flat.
  [[nodiscard]] view<T, D> second_moment() noexcept { return second_.get(); }
  /// Number of averages.
  [[nodiscard]] std::size_t average_count() const noexcept { return averages_.size(); }
  /// Average `i`, flat.
  [[nodiscard]] view<T, D> average(std::size_t i = 0) {
    require(i < averages_.size(), "boot: average {} asked for, there are {}", i, averages_.size());
    return averages_[i].get();
  }
  /// As given.
  [[nodiscard]] const adamw_options& options() const noexcept { return options_; }

 private:
  // What update `k` needs besides the gradient's norm.
  [[nodiscard]] adamw_row<T> row_of(std::int64_t k, double rate) const {
    const double n = static_cast<double>(k + 1);
    adamw_row<T> row{};
    row.gradient_scale = T{1};
    row.rate = static_cast<T>(rate);
    row.decay = static_cast<T>(options_.weight_decay);
    row.beta1 = static_cast<T>(options_.beta1);
    row.beta2 = static_cast<T>(options_.beta2);
    row.correction1 = static_cast<T>(1 / (1 - std::pow(options_.beta1, n)));
    row.correction2 = static_cast<T>(1 / std::sqrt(1 - std::pow(options_.beta2, n)));
    row.epsilon = static_cast<T>(options_.epsilon);
    for (std::size_t i = 0; i < averages_.size(); ++i)
      row.average[i] = static_cast<T>(1 - ema_decay(options_.averages[i], k));
    return row;
  }
  void update(const D& dev, const adamw_row<T>* row, parameter_arena<T, D>& arena, view<const T, D> gradient) {
    std::array<T*, max_averages> average{};
    for (std::size_t i = 0; i < averages_.size(); ++i) average[i] = averages_[i].data();
    adamw_ema(dev, row, std::as_const(group_table_).data(), std::as_const(ranges_table_).data(),
              static_cast<std::int64_t>(ranges_.size()), arena.values().data(), gradient.data(), first_.data(),
              second_.data(), average, static_cast<int>(averages_.size()));
  }

  adamw_options options_;
  tensor<T, D> first_, second_;
  std::vector<tensor<T, D>> averages_;
  std::vector<parameter_range> ranges_;
  std::vector<group_row<T>> groups_;
  tensor<group_row<T>, D> group_table_;
  tensor<adamw_row<T>, D> row_table_, decided_;
  tensor<T, D> norm_;
  tensor<parameter_range, D> ranges_table_;
  std::vector<double> partials_;
  std::int64_t updates_ = 0;
};

}  // namespace boot::inline v0
