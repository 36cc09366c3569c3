// SPDX-License-Identifier: MIT
/// Conditions a teacher or student may be given: none, class labels, prompt embeddings, a guidance scale, a
/// low-resolution image, or several.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace boot::inline v0 {

/// No condition.
struct no_condition {
  /// Any part of nothing is nothing.
  [[nodiscard]] no_condition rows(std::int64_t, std::int64_t) const noexcept { return {}; }
  /// The null condition of guidance.
  [[nodiscard]] no_condition null() const noexcept { return {}; }
};

/// One class per sample; a negative id means the null class.
template <Device D>
struct class_labels {
  view<const std::int32_t, D> ids;  ///< [batch]
  bool all_null = false;            ///< every sample has the null class, whatever `ids` says

  /// Class of sample `i`, -1 for null.
  [[nodiscard]] std::int32_t operator[](std::int64_t i) const noexcept requires std::same_as<D, cpu> {
    return all_null ? -1 : ids[i];
  }
  /// Samples [first, first + count).
  [[nodiscard]] class_labels rows(std::int64_t first, std::int64_t count) const {
    return {ids.rows(first, count), all_null};
  }
  /// The same samples with the null class.
  [[nodiscard]] class_labels null() const noexcept { return {ids, true}; }
};

/// A prompt per sample, as the tokens of a text encoder. A batch of one serves all samples of a call.
template <Device D, ComputeScalar T = float>
struct prompt_embeddings {
  view<const T, D> tokens;                         ///< [batch or 1, tokens, width]
  view<const std::uint8_t, D> mask = {};           ///< [as tokens' batch, tokens], 0 = padding; empty: all count
  view<const T, D> negative = {};                  ///< what null() gives, usually the empty prompt: [batch or 1, tokens
                                                   ///< of its own, width]; empty where null() is not needed
  view<const std::uint8_t, D> negative_mask = {};  ///< [as negative's batch, its tokens], 0 = padding; empty: all count

  /// Networks need other memory for another number of tokens, or a batch of one.
  [[nodiscard]] std::int64_t plan_key() const noexcept {
    const shape& s = tokens.extents();
    return s.rank() == 3 ? 2 * s[1] + (s[0] == 1 ? 1 : 0) : 0;
  }
  /// Samples [first, first + count); what has a batch of one stays as it is.
  [[nodiscard]] prompt_embeddings rows(std::int64_t first, std::int64_t count) const {
    const auto part = [&](const auto& v) {
      return v.extents().rank() < 2 || v.batch() == 1 ? v : v.rows(first, count);
    };
    return {part(tokens), part(mask), part(negative), part(negative_mask)};
  }
  /// The same samples with the negative prompt; its own null is itself. Throws boot::error where there is none.
  [[nodiscard]] prompt_embeddings null() const {
    require(negative.extents().rank() > 1,
            "boot: prompt embeddings of shape {} were asked for their null condition and have none; set "
            "prompt_embeddings::negative to the embeddings of the empty (or a negative) prompt, [1, tokens, width] for "
            "all samples",
            to_string(tokens.extents()));
    return {negative, negative_mask, negative, negative_mask};
  }
};

/// One guidance scale w per sample, for students that take it as an input.
template <Device D, ComputeScalar T = float>
struct guidance_scale {
  view<const T, D> scale;  ///< [batch]
  std::span<const T> on_host =
      {};  ///< the same numbers for guided teachers, which read them on the host; not needed on cpu

  /// Scale of sample `i`, read on the host. Throws boot::error when only the device has it.
  [[nodiscard]] T operator[](std::int64_t i) const {
    if constexpr (std::same_as<D, cpu>) {
      if (on_host.empty()) return scale[i];
    }
    require(i < static_cast<std::int64_t>(on_host.size()),
            "boot: guidance scale {} was asked for on the host, which has {}; set guidance_scale::on_host to the same "
            "{} numbers as the device's",
            i, on_host.size(), scale.batch());
    return on_host[static_cast<std::size_t>(i)];
  }
  /// Samples [first, first + count).
  [[nodiscard]] guidance_scale rows(std::int64_t first, std::int64_t count) const {
    return {
        scale.rows(first, count),
        on_host.empty() ? on_host : on_host.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count))};
  }
  /// The scale has no null: it stays.
  [[nodiscard]] guidance_scale null() const noexcept { return *this; }
};

/// An image per sample that the network is to refine: the lower stage of a cascade, already at the network's size, with
/// noise on it whose level the network is told. It then need not trust details that another stage may have got wrong.
template <Device D, ComputeScalar T = float>
struct low_resolution {
  view<const T, D>
      image;  ///< alpha x + sigma eps at `level`: [batch, height, width, channels], or flat for flat samples
  view<const T, D> level;  ///< [batch]: the time of that noise in its schedule; networks read it as they read times

  /// Samples [first, first + count).
  [[nodiscard]] low_resolution rows(std::int64_t first, std::int64_t count) const {
    return {image.rows(first, count), level.rows(first, count)};
  }
  /// The image has no null: it stays, and guidance acts on the conditions beside it.
  [[nodiscard]] low_resolution null() const noexcept { return *this; }
};

/// Several conditions at once; each model takes the parts it knows.
template <class... C>
struct conditions {
  std::tuple<C...> parts;  ///< at most one of each type

  conditions() = default;
  /// From its parts.
  explicit conditions(C... c) requires(sizeof...(C) > 0) : parts(std::move(c)...) {}
  /// Samples [first, first + count) of every part.
  [[nodiscard]] conditions rows(std::int64_t first, std::int64_t count) const {
    return std::apply([&](const C&... c) { return conditions(c.rows(first, count)...); }, parts);
  }
  /// Every part's null.
  [[nodiscard]] conditions null() const {
    return std::apply([](const C&... c) { return conditions(c.null()...); }, parts);
  }
};

/// What may condition a batch: `rows(first, count)` gives a part of the batch, `null()` the null condition of guidance.
/// A condition on which sizes inside a network depend, such as a number of tokens, also has `plan_key() -> std::int64_t`,
/// which differs where they do.
template <class C>
concept Condition = std::copyable<C> && requires(const C& c) {
  { c.rows(std::int64_t{}, std::int64_t{}) } -> std::same_as<C>;
  { c.null() } -> std::same_as<C>;
};
static_assert(Condition<no_condition>);

namespace detail {
template <class Part, class C>
struct condition_has : std::is_same<Part, C> {};
template <class Part, class... C>
struct condition_has<Part, conditions<C...>> : std::disjunction<condition_has<Part, C>...> {};
}  // namespace detail

/// Whether condition C is a Part or holds one.
template <class Part, class C>
inline constexpr bool has_condition = detail::condition_has<Part, C>::value;

namespace detail {
template <class C>
std::int64_t plan_key(const C& c) {
  if constexpr (requires { c.plan_key(); }) return c.plan_key();
  return 0;
}
template <class... C>
std::int64_t plan_key(const conditions<C...>& c) {
  // Parts beside one another: the factor keeps sums of different parts apart.
  return std::apply(
      [](const C&... part) {
        std::int64_t key = 0;
        ((key = key * 1000003 + plan_key(part)), ...);
        return key;
      },
      c.parts);
}
}  // namespace detail

/// The Part of a condition that has one.
template <class Part, class C>
requires has_condition<Part, C>
[[nodiscard]] const Part& condition_part(const C& c) noexcept {
  if constexpr (std::same_as<Part, C>) {
    return c;
  } else {
    return std::get<Part>(c.parts);
  }
}

}  // namespace boot::inline v0
