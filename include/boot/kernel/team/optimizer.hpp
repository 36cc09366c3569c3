// SPDX-License-Identifier: MIT
/// The optimiser on any TeamDevice: the gradient's square sum in a fixed order, and AdamW with all averages in one pass.
#pragma once

#include <boot/kernel/op/adamw_ema.hpp>
#include <boot/kernel/team/body.hpp>
#include <boot/kernel/team/step.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/tensor/view.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

template <class T>
struct square_sum_kernel {
  const T* x;
  std::int64_t n;
  T* partial;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    square_sum_body(team, x, n, partial);
  }
};

/// From the partial square sums: the gradient's norm, and the row by which the update is made. A norm that is not finite,
/// or a step that is bad for another reason, makes it skip. Grid: one block.
template <class T>
struct decide_update_kernel {
  const adamw_row<T>* row;
  const T* partial;
  std::int64_t count;
  T clip_norm;
  step_control* control;  // null: not captured
  adamw_row<T>* decided;
  T* norm;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    T sum = 0;
    for (std::int64_t i = team.rank(); i < count; i += Team::size) sum += partial[i];
    sum = team_sum(team, sum);
    if (team.rank() != 0) return;
    const T n = math::sqrt(sum);
    bool skip = !math::is_finite(n);
    if (control != nullptr) {
      if (skip) control->bad = 1;
      skip = skip || control->bad != 0 || control->bad_step >= 0;
    }
    adamw_row<T> r = *row;
    r.gradient_scale = clip_norm > T{0} && n > clip_norm ? math::quotient(clip_norm, n + static_cast<T>(1e-6)) : T{1};
    r.skip = skip ? T{1} : T{0};
    *decided = r;
    *norm = n;
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

/// Completes the row of a step's update on the device: decided = *row with the gradient's clip factor, and with `skip`
/// where the gradient is not finite or, in a captured step, the loss; norm[0] = the gradient's norm. Sums in T, in an
/// order that depends on the size alone.
template <TeamDevice D, ComputeScalar T>
void decide_update(const D& dev, view<const T, D> gradient, const adamw_row<T>* row, double clip_norm,
                   adamw_row<T>* decided, T* norm) {
  const std::int64_t blocks = blocks_for(gradient.size(), 16384, 1024);
  auto* const partial = static_cast<T*>(device_scratch(dev, static_cast<std::size_t>(blocks) * sizeof(T), 0));
  launch(dev, detail::square_sum_kernel<T>{gradient.data(), gradient.size(), partial}, blocks, 1);
  auto* const control = static_cast<step_control*>(
      detail::current_recording != nullptr ? detail::current_recording->device_control : nullptr);
  launch(dev, detail::decide_update_kernel<T>{row, partial, blocks, static_cast<T>(clip_norm), control, decided, norm},
         1, 1);
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
