// SPDX-License-Identifier: MIT
/// What a per-element kernel is given: input pointers, output pointers, and what its functor returns.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>

#include <cstddef>
#include <utility>

namespace boot::inline v0 {

namespace detail {
template <std::size_t I, class T>
struct pack_leaf {
  T value;
};
template <class Sequence, class... T>
struct pack_base;
template <std::size_t... I, class... T>
struct pack_base<std::index_sequence<I...>, T...> : pack_leaf<I, T>... {
  static constexpr std::size_t count = sizeof...(T);
  pack_base() = default;
  BOOT_HD constexpr explicit pack_base(T... v) requires(sizeof...(T) > 0) : pack_leaf<I, T>{v}... {}
};
}  // namespace detail

/// A tuple that stays trivially copyable, so that it may be a kernel parameter.
template <class... T>
struct pack : detail::pack_base<std::index_sequence_for<T...>, T...> {
  using detail::pack_base<std::index_sequence_for<T...>, T...>::pack_base;
};

/// Element I of a pack.
template <std::size_t I, class T>
BOOT_HD constexpr T& get(detail::pack_leaf<I, T>& leaf) noexcept {
  return leaf.value;
}
/// \copydoc get
template <std::size_t I, class T>
BOOT_HD constexpr const T& get(const detail::pack_leaf<I, T>& leaf) noexcept {
  return leaf.value;
}

/// Read-only arrays of one length, element types may differ.
template <StorageScalar... T>
struct inputs : pack<const T*...> {
  /// From the first elements.
  BOOT_HD constexpr explicit inputs(const T*... p) : pack<const T*...>(p...) {}
};

/// Arrays of one length to write; none may overlap an input unless it is that input, element by element.
template <StorageScalar... T>
struct outputs : pack<T*...> {
  /// From the first elements.
  BOOT_HD constexpr explicit outputs(T*... p) : pack<T*...>(p...) {}
};
template <>
struct outputs<> : pack<> {};

/// What a functor returns for one element: M outputs and its term of the sample's sum.
template <int M, class T>
struct element_result {
  T out[M];  ///< one value for each output array
  T sum;     ///< added up over the sample
};

}  // namespace boot::inline v0
