// SPDX-License-Identifier: MIT
/// The optimiser on any TeamDevice: the gradient's square sum in a fixed order, and AdamW with all averages in one pass.
#pragma once

#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/kernel/team/body.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/tensor/view.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace boot::inline v0 {

namespace detail {

template <class T>
struct square_sum_kernel {
  const T* x;
  std::int64_t n;
  double* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    square_sum_body(team, x, n, partial);
  }
};

template <int Averages, class T>
struct adamw_kernel {
  const adamw_row<T>* row;
  const group_row<T>* groups;
  const parameter_range* ranges;
  std::int64_t range_count;
  T* value;
  const T* gradient;
  T *first, *second;
  T* average[max_averages];

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    adamw_body<Averages>(team, row, groups, ranges, range_count, value, gradient, first, second, average);
  }
};

}  // namespace detail

/// Sum of squares of a flat array in float64, in an order that depends on its size alone. Waits for the device: the
/// result decides on the host whether a step is skipped. `partials` is kept by the caller between calls.
template <TeamDevice D, ComputeScalar T>
[[nodiscard]] double square_sum(const D& dev, view<const T, D> x, std::vector<double>& partials) {
  const std::int64_t blocks = blocks_for(x.size(), 16384, 1024);
  partials.resize(static_cast<std::size_t>(blocks));
  auto* const memory = static_cast<double*>(device_scratch(dev, partials.size() * sizeof(double), 0));
  launch(dev, detail::square_sum_kernel<T>{x.data(), x.size(), memory}, blocks, 1);
  copy_to_host(dev, memory, partials.data(), partials.size() * sizeof(double));
  double sum = 0;
  for (const double s : partials) sum += s;
  return sum;
}

/// One AdamW step over all ranges, and every average, in one pass. With row->skip set it does nothing. All pointers are
/// of the device; `average` holds them on the host.
template <TeamDevice D, ComputeScalar T>
void adamw_ema(const D& dev, const adamw_row<T>* row, const group_row<T>* groups, const parameter_range* ranges,
               std::int64_t range_count, T* value, const T* gradient, T* first, T* second,
               const std::array<T*, max_averages>& average, int averages) {
  // Ranges lie on the device: the grid is for as many elements as a large network has, idle blocks cost little.
  constexpr std::int64_t blocks = 1024;
  const auto run = [&]<int Averages>(std::integral_constant<int, Averages>) {
    launch(dev,
           detail::adamw_kernel<Averages, T>{row,
                                             groups,
                                             ranges,
                                             range_count,
                                             value,
                                             gradient,
                                             first,
                                             second,
                                             {average[0], average[1], average[2], average[3]}},
           blocks, 1);
  };
  switch (averages) {
    case 0:
      return run(std::integral_constant<int, 0>{});
    case 1:
      return run(std::integral_constant<int, 1>{});
    case 2:
      return run(std::integral_constant<int, 2>{});
    case 3:
      return run(std::integral_constant<int, 3>{});
    default:
      return run(std::integral_constant<int, 4>{});
  }
}

}  // namespace boot::inline v0
