// SPDX-License-Identifier: MIT
/// A non-owning dense row-major array on a device: pointer and shape, passed by value.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/shape.hpp>
#include <boot/device/device.hpp>

#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Points at `extents().size()` elements of T that live on D. Two devices' views do not convert into each other.
template <class T, Device D>
class view {
 public:
  using value_type = std::remove_const_t<T>;  ///< element type
  using device_type = D;                      ///< where the elements live

  view() = default;
  /// A view of existing memory; the caller keeps it alive.
  view(T* data, const shape& extents) : data_(data), extents_(extents) {}
  /// A mutable view converts to a read-only one.
  template <class U>
  requires(std::is_const_v<T>&& std::same_as<U, value_type>) view(const view<U, D>& other)
      : data_(other.data()), extents_(other.extents()) {}

  /// First element.
  [[nodiscard]] T* data() const noexcept { return data_; }
  /// Shape.
  [[nodiscard]] const boot::shape& extents() const noexcept { return extents_; }
  /// Number of elements.
  [[nodiscard]] std::int64_t size() const noexcept { return extents_.size(); }
  /// First extent.
  [[nodiscard]] std::int64_t batch() const noexcept { return extents_.batch(); }
  /// Elements of one sample.
  [[nodiscard]] std::int64_t sample_size() const noexcept { return extents_.sample_size(); }
  /// Nothing to point at.
  [[nodiscard]] bool empty() const noexcept { return data_ == nullptr || size() == 0; }

  /// Element `i` of the flat array; host devices only.
  [[nodiscard]] T& operator[](std::int64_t i) const noexcept { return data_[i]; }
  /// Samples [first, first + count) along the batch.
  [[nodiscard]] view rows(std::int64_t first, std::int64_t count) const {
    require(first >= 0 && count >= 0 && first + count <= batch(),
            "boot: rows {}..{} asked of a view with shape {}; the batch has {} rows, ask for rows within it", first,
            first + count, to_string(extents_), batch());
    return {data_ + first * sample_size(), extents_.with_batch(count)};
  }
  /// The same elements under another shape of the same size.
  [[nodiscard]] view reshape(const boot::shape& s) const {
    require(s.size() == size(),
            "boot: shape {} has {} elements, but the view of shape {} has {}; give a shape with as many", to_string(s),
            s.size(), to_string(extents_), size());
    return {data_, s};
  }

 private:
  T* data_ = nullptr;
  boot::shape extents_{0};
};

/// Throws boot::error unless `v` has `needed` as its shape; `name` tells which argument of `where` it is.
template <class T, class D>
void require_shape(const char* where, const char* name, const view<T, D>& v, const shape& needed) {
  require(v.extents() == needed, "boot: {} got {} of shape {}, needs {}; pass a view of that shape", where, name,
          to_string(v.extents()), to_string(needed));
}

}  // namespace boot::inline v0
