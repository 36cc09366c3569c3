// SPDX-License-Identifier: MIT
// Size and alignment of public types, as the compiler of the including file sees them.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>
#include <boot/core/shape.hpp>
#include <boot/device/cuda.hpp>
#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/tensor/view.hpp>

#include <array>
#include <cstddef>

template <class... T>
constexpr std::array<std::size_t, 2 * sizeof...(T)> sizes_and_alignments() {
  std::array<std::size_t, 2 * sizeof...(T)> all{};
  std::size_t i = 0;
  ((all[i] = sizeof(T), all[i + 1] = alignof(T), i += 2), ...);
  return all;
}

// internal: each file has its own
static constexpr auto layouts =
    sizes_and_alignments<boot::bf16, boot::shape, boot::cuda, boot::cuda_stream, boot::buffer<boot::cuda>,
                         boot::view<float, boot::cuda>, boot::view<const boot::bf16, boot::cuda>,
                         boot::tensor<float, boot::cuda>, boot::adamw_row<float>, boot::adamw_row<double>,
                         boot::group_row<float>, boot::parameter_range>();

using layout_list = std::array<std::size_t, layouts.size()>;
layout_list layouts_in_first();
layout_list layouts_in_second();
int launch_in_first();  // 0, or -1 without a device
int launch_in_second();
