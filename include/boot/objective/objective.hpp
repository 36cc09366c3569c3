// SPDX-License-Identifier: MIT
/// The Objective and ConditionSource concepts, the request for one batch, and the report of its loss.
#pragma once

#include <boot/core/math.hpp>
#include <boot/nn/condition.hpp>

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace boot::inline v0 {

/// Which part of which batch: everything random in it is a function of seed, step and the samples' numbers.
struct batch_request {
  std::uint64_t seed = 0;  ///< of the run
  std::int64_t step = 0;   ///< of the run
  std::int64_t first = 0;  ///< number of the first sample within the step's batch
  std::int64_t count = 0;  ///< samples of this part
  std::int64_t total = 0;  ///< samples of the whole batch: the loss is a mean over those (0: `count`)
  double progress = 0;     ///< step / steps, for curricula

  /// Samples of the whole batch.
  [[nodiscard]] std::int64_t batch() const noexcept { return total > 0 ? total : count; }
};

/// The loss of a batch or a part of one: the parts' sums add up to the whole batch's.
struct loss_report {
  static constexpr std::size_t max_parts = 4;                         ///< named terms
  double total = 0;                                                   ///< what the gradient belongs to
  std::array<std::pair<std::string_view, double>, max_parts> part{};  ///< terms by name, unweighted; unused names empty

  /// Adds another part of the same batch.
  loss_report& operator+=(const loss_report& other) noexcept {
    total += other.total;
    for (std::size_t i = 0; i < max_parts; ++i) {
      if (part[i].first.empty()) part[i].first = other.part[i].first;
      part[i].second += other.part[i].second;
    }
    return *this;
  }
  /// Neither NaN nor infinite, told by the bits.
  [[nodiscard]] bool finite() const noexcept { return math::is_finite(total); }
};

/// Loss and gradient of one batch, usable without the training loop.
///
/// Needs:  o(dev, request) -> loss_report   adds dL/d parameters to the student's flat gradient (clear it first)
///         o.student()                      what is trained
/// May:    o.describe(batch) -> objective_cost, for the dry run; o.begin_step(dev, step, steps), called before a step.
template <class O, class D>
concept Objective = requires(O& o, const D& dev, const batch_request& r) {
  { o(dev, r) } -> std::same_as<loss_report>;
  o.student();
};

/// Calls of one step, in samples, for the dry run.
struct objective_cost {
  double teacher_samples = 0;           ///< samples the teacher sees
  double student_samples = 0;           ///< samples the student sees without a tape
  double student_recorded_samples = 0;  ///< samples the student sees with one
};

/// Gives the conditions of a batch: a function of seed, step and sample number.
///
/// Needs:  s(dev, seed, step, samples) -> Condition   one row per entry of `samples` (std::span<const std::int64_t>),
///                                                    valid until the next call
/// Shipped: no_condition_source, label_source, guided_label_source, cascade_source. A table of prompt embeddings is
/// another that a user may write: docs/your_own_model.md.
template <class S, class D>
concept ConditionSource = requires(S& s, const D& dev, std::span<const std::int64_t> samples) {
  { s(dev, std::uint64_t{}, std::int64_t{}, samples) } -> Condition;
};

/// No condition for anybody.
struct no_condition_source {
  /// Nothing.
  template <class D>
  no_condition operator()(const D&, std::uint64_t, std::int64_t, std::span<const std::int64_t>) const noexcept {
    return {};
  }
};

namespace detail {
template <class S, class D>
struct source_condition {
  static_assert(std::is_invocable_v<S&, const D&, std::uint64_t, std::int64_t, std::span<const std::int64_t>>,
                "boot: a ConditionSource needs `source(dev, seed, step, samples)`, samples a std::span<const "
                "std::int64_t>, returning a Condition. See the contract in boot/objective/objective.hpp");
  using type = std::remove_cvref_t<
      std::invoke_result_t<S&, const D&, std::uint64_t, std::int64_t, std::span<const std::int64_t>>>;
};
}  // namespace detail

/// The condition type a source gives on device D.
template <class S, class D>
using condition_of = typename detail::source_condition<S, D>::type;

}  // namespace boot::inline v0
