// SPDX-License-Identifier: MIT
/// An owning dense row-major array on a device. Move-only: a copy is asked for by name, with clone().
#pragma once

#include <boot/config.hpp>
#include <boot/device/memory.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace boot::inline v0 {

/// Owns `extents().size()` elements of T on D. Fresh elements are undefined (NaN patterns when BOOT_POISON is 1).
template <class T, Device D>
class tensor {
 public:
  using value_type = T;   ///< element type
  using device_type = D;  ///< where the elements live

  tensor() = default;
  /// Allocates; throws boot::error when memory is out.
  tensor(const D& dev, const shape& extents)
      : memory_(dev, static_cast<std::size_t>(extents.size()) * sizeof(T)), extents_(extents) {
    if constexpr (BOOT_POISON != 0) {
      if (memory_.data() != nullptr) poison(dev, memory_.data(), memory_.bytes());
    }
  }

  /// All elements, writable.
  [[nodiscard]] view<T, D> get() noexcept { return {data(), extents_}; }
  /// All elements, read-only.
  [[nodiscard]] view<const T, D> get() const noexcept { return {data(), extents_}; }
  /// A tensor converts to its view.
  operator view<T, D>() noexcept { return get(); }  // NOLINT(google-explicit-constructor)
  /// A tensor converts to its read-only view.
  operator view<const T, D>() const noexcept { return get(); }  // NOLINT(google-explicit-constructor)

  /// First element.
  [[nodiscard]] T* data() noexcept { return static_cast<T*>(memory_.data()); }
  /// First element.
  [[nodiscard]] const T* data() const noexcept { return static_cast<const T*>(memory_.data()); }
  /// Shape.
  [[nodiscard]] const shape& extents() const noexcept { return extents_; }
  /// Number of elements.
  [[nodiscard]] std::int64_t size() const noexcept { return memory_.data() == nullptr ? 0 : extents_.size(); }
  /// Where the elements live.
  [[nodiscard]] const D& device() const noexcept { return memory_.device(); }
  /// A second tensor with the same elements.
  [[nodiscard]] tensor clone() const {
    tensor t(device(), extents_);
    if (memory_.data() != nullptr) copy_bytes(device(), memory_.data(), t.memory_.data(), memory_.bytes());
    return t;
  }

 private:
  buffer<D> memory_;
  shape extents_{0};
};

/// A tensor of zeros.
template <class T, Device D>
[[nodiscard]] tensor<T, D> zeros(const D& dev, const shape& extents) {
  tensor<T, D> t(dev, extents);
  if (t.size() > 0) fill_zero(dev, t.data(), static_cast<std::size_t>(t.size()) * sizeof(T));
  return t;
}

/// A tensor holding the host values `values`, whose count must be the shape's.
template <class T, Device D>
[[nodiscard]] tensor<T, D> tensor_of(const D& dev, std::span<const T> values, const shape& extents) {
  require(static_cast<std::int64_t>(values.size()) == extents.size(),
          "boot: {} values given for shape {}, needs {}; give one value per element, or another shape", values.size(),
          to_string(extents), extents.size());
  tensor<T, D> t(dev, extents);
  if (!values.empty()) copy_from_host(dev, values.data(), t.data(), values.size() * sizeof(T));
  return t;
}

/// The elements as a host vector; waits for the device.
template <class T, Device D>
[[nodiscard]] std::vector<std::remove_const_t<T>> to_host(const D& dev, const view<T, D>& v) {
  std::vector<std::remove_const_t<T>> values(static_cast<std::size_t>(v.size()));
  if (!values.empty()) copy_to_host(dev, v.data(), values.data(), values.size() * sizeof(T));
  return values;
}

/// Reads `n` numbers of the device that decide whether a step counts; waits for the device.
template <Device D, class T>
void read_numbers(const D& dev, const T* from, T* to, std::int64_t n) {
  if (n > 0) copy_to_host(dev, from, to, static_cast<std::size_t>(n) * sizeof(T));
}

/// Copies the elements of `from` to `to`, of the same size, on one device.
template <class T, Device D>
void copy(const D& dev, const view<const T, D>& from, const view<T, D>& to) {
  require(from.size() == to.size(),
          "boot: copy from shape {} to shape {}: the number of elements must be equal; cut the larger with rows()",
          to_string(from.extents()), to_string(to.extents()));
  if (from.size() > 0) copy_bytes(dev, from.data(), to.data(), static_cast<std::size_t>(from.size()) * sizeof(T));
}

/// Sets every element to zero bits.
template <class T, Device D>
void fill_zero(const D& dev, const view<T, D>& v) {
  if (v.size() > 0) fill_zero(dev, static_cast<void*>(v.data()), static_cast<std::size_t>(v.size()) * sizeof(T));
}

}  // namespace boot::inline v0
