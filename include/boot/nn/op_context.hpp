// SPDX-License-Identifier: MIT
/// What an operation of a graph sees when it runs, and what it may declare.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/core/shape.hpp>
#include <boot/device/device.hpp>
#include <boot/tensor/view.hpp>

#include <array>
#include <concepts>
#include <cstddef>

namespace boot::inline v0 {

namespace detail {
// What an operation may have, by the number of its operands. Concepts, because nvcc 13.0 takes a requires-expression
// with a pack inside a lambda for true.
template <class>
using operand_shape = shape;
template <class Op, class... Operand>
concept SavesMore = requires(const Op& op, const operand_shape<Operand>&... s) {
  op.saved_size(s...);
};
template <class Op, class... Operand>
concept CountsFlop = requires(const Op& op, const operand_shape<Operand>&... s) {
  op.flop(s...);
};
template <class Op, class... Operand>
concept CountsBackwardFlop = requires(const Op& op, const operand_shape<Operand>&... s) {
  op.backward_flop(s...);
};
/// An operation whose result is computed again where backward needs it.
template <class Op>
concept RemadeOperation = static_cast<bool>(Op::remade);
/// An operation that also takes views of bf16, on a device whose functions do.
template <class Op>
concept NarrowOperation = std::same_as<const unsigned, decltype(Op::parameters)>;
template <class D>
concept NarrowDevice = static_cast<bool>(D::computes_bf16);
/// An operation whose result's gradient is, element for element, what it adds to that of some operands.
template <class Op>
concept PassingOperation = std::same_as<const unsigned, decltype(Op::passes)>;
}  // namespace detail

/// Inputs an operation may have.
inline constexpr int max_operands = 4;
/// Inputs a recomputed block may have.
inline constexpr int max_block_operands = 8;

/// What an operation sees when it runs: views of its operands, its result and, in backward, their gradients. Computes in
/// T on activations of type A: T for every operation, bf16 for those that say which operands are parameters (see graph).
template <ComputeScalar T, Device D, StorageScalar A = T>
struct op_context {
  /// Operands; in backward only those the operation saves. With A other than T also parameters, rounded to A.
  std::array<view<const A, D>, max_operands> in;
  view<A, D> out;                                 ///< the result; in backward only if the operation saves it
  view<T, D> saved;                               ///< the operation's own numbers, kept from forward to backward
  view<const A, D> out_gradient;                  ///< backward: dL/d out
  std::array<view<A, D>, max_operands> gradient;  ///< backward: dL/d in, empty where it is not wanted
  std::array<bool, max_operands> accumulate{};    ///< backward: add to the gradient instead of writing it
  std::array<view<const T, D>, max_operands> parameters;     ///< with A other than T: see parameter()
  std::array<view<T, D>, max_operands> parameter_gradients;  ///< with A other than T: see parameter_gradient()

  /// Whether operand `i` wants its gradient.
  [[nodiscard]] bool wants(int i) const noexcept {
    return gradient[static_cast<std::size_t>(i)].data() != nullptr || parameter_gradient(i).data() != nullptr;
  }
  /// Operand `i`, a parameter of one dimension: in T, whatever A is.
  [[nodiscard]] const view<const T, D>& parameter(int i) const noexcept {
    if constexpr (std::same_as<A, T>) {
      return in[static_cast<std::size_t>(i)];
    } else {
      return parameters[static_cast<std::size_t>(i)];
    }
  }
  /// Backward: dL/d in of operand `i`, a parameter, in T, whatever A is.
  [[nodiscard]] const view<T, D>& parameter_gradient(int i) const noexcept {
    if constexpr (std::same_as<A, T>) {
      return gradient[static_cast<std::size_t>(i)];
    } else {
      return parameter_gradients[static_cast<std::size_t>(i)];
    }
  }
};

}  // namespace boot::inline v0
