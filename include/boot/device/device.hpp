// SPDX-License-Identifier: MIT
/// The Device concept: a small value whose type decides where everything runs, first argument of every function.
#pragma once

#include <concepts>
#include <cstddef>

namespace boot::inline v0 {

/// A place to run and to keep memory: boot::cpu, boot::cuda.
///
/// Needs `device_category` naming itself (views of another category do not convert), and the two raw memory functions;
/// everything else is overloaded on the type: fill_zero, copy, the loops of kernel/<device> and nn/<device>.
template <class D>
concept Device = std::copyable<D> && std::same_as<typename D::device_category, D> &&
    requires(const D& d, std::size_t bytes, void* p) {
  { d.allocate(bytes) } -> std::same_as<void*>;
  {d.deallocate(p, bytes)};
};

}  // namespace boot::inline v0
