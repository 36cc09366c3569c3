// SPDX-License-Identifier: MIT
/// Memory that a training step or a sampler keeps from call to call: it grows to the largest size seen, then stays.
#pragma once

#include <boot/device/recording.hpp>
#include <boot/tensor/tensor.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace boot::inline v0 {

/// Elements of T on D, undefined at every get().
template <class T, Device D>
class workspace {
 public:
  /// Memory of this shape; valid until the next get(). Allocates only when it was never asked for as much.
  view<T, D> get(const D& dev, const shape& extents) {
    if (memory_.size() < extents.size()) memory_ = tensor<T, D>(dev, {extents.size()});
    return {memory_.data(), extents};
  }

 private:
  tensor<T, D> memory_;
};

/// Sends numbers of the host to the device: into `memory`, which grows where it is too small, or, in a recorded step, to
/// their place in the step's table. The pointer is valid until the next call with the same memory.
template <class T, Device D>
[[nodiscard]] const T* send(const D& dev, std::span<const T> from, tensor<T, D>& memory) {
  if constexpr (capture_support<D>::available)
    if (const void* const place = detail::sent_in_place(from.data(), from.size_bytes()); place != nullptr)
      return static_cast<const T*>(place);
  const auto n = static_cast<std::int64_t>(from.size());
  if (memory.size() < n) memory = tensor<T, D>(dev, {n});
  if (n > 0) copy_from_host(dev, from.data(), memory.data(), from.size_bytes());
  return memory.data();
}

/// Rows of numbers per sample, made on the host and read by kernels through a pointer: the step table of one step.
template <class Row, Device D>
class row_table {
 public:
  /// The rows on the host, `n` of them, to be filled before upload().
  std::vector<Row>& host(std::int64_t n) {
    rows_.resize(static_cast<std::size_t>(n));
    return rows_;
  }
  /// The rows on the device, valid until the next upload.
  const Row* upload(const D& dev) { return send(dev, std::span<const Row>(rows_), memory_); }
  /// `n` times the same row, on the device.
  const Row* upload(const D& dev, const Row& row, std::int64_t n) {
    rows_.assign(static_cast<std::size_t>(n), row);
    return upload(dev);
  }

 private:
  std::vector<Row> rows_;
  tensor<Row, D> memory_;
};

}  // namespace boot::inline v0
