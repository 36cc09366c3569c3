// SPDX-License-Identifier: MIT
/// Memory that a training step or a sampler keeps from call to call: it grows to the largest size seen, then stays.
#pragma once

#include <boot/tensor/tensor.hpp>

#include <algorithm>
#include <cstdint>
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
  const Row* upload(const D& dev) {
    const auto n = static_cast<std::int64_t>(rows_.size());
    if (memory_.size() < n) memory_ = tensor<Row, D>(dev, {n});
    if (n > 0) copy_from_host(dev, rows_.data(), memory_.data(), rows_.size() * sizeof(Row));
    return memory_.data();
  }
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
