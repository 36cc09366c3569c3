// SPDX-License-Identifier: MIT
/// DDIM (Song, Meng, Ermon 2021), deterministic or with a share of fresh noise.
#pragma once

#include <boot/sampler/sampler.hpp>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Samples by DDIM: y_s = y + D (f - y) along the trajectory of each noise, N teacher calls (one more for the boundary where
/// alpha(t_max) is not 0; see trajectory_start). Order 1. With options.eta > 0 every step replaces a part of the noise.
///
/// noise and out: [batch, sample...]; out gets the clean signal y at the last time, x_out, unless empty, x = alpha y +
/// sigma eps there. For a stochastic chain y is relative to the noise as it was mixed. Any Teacher, also guided ones; the
/// condition is cut by condition.rows(). The result does not depend on options.batch as long as the teacher's does not.
/// Throws boot::error for shapes or options that do not fit, and for an epsilon teacher where alpha(t_max) = 0.
template <Device D, class Teacher, NoiseSchedule Schedule, Condition C, ComputeScalar T>
sampler_report ddim_sample(const D& dev, const Teacher& teacher, const Schedule& schedule, const C& condition,
                           const std::type_identity_t<start_noise<T, D>>& noise, const sampler_options& options,
                           view<T, D> out, std::type_identity_t<view<T, D>> x_out = {},
                           std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  return detail::run_sampler("ddim_sample", dev, teacher, schedule, condition, noise, options,
                             detail::sampler_times(schedule, options, schedule.t_max()), out, x_out, buffers,
                             [&options](auto& walk, std::int64_t i, double t, double s, std::int64_t) {
                               walk.clean(t);
                               walk.euler(t, s, options.eta, i);
                             });
}

}  // namespace boot::inline v0
