// SPDX-License-Identifier: MIT
/// Heun's method in signal space, in its exponential form.
#pragma once

#include <boot/sampler/sampler.hpp>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Samples by Heun: an Euler step gives y~_s, then y_s = y~_s + (1 + D/ln(1 - D)) (f(x~_s, s) - f(x_t, t)). Order 2, two
/// teacher calls a step (one more for the boundary where alpha(t_max) is not 0). A step to sigma = 0 is of first order: there
/// D = 1, y_s = f, and the teacher is not asked about data without noise.
///
/// Arguments and errors as for ddim_sample; options.eta and recompute_noise must be left alone.
template <Device D, class Teacher, NoiseSchedule Schedule, Condition C, ComputeScalar T>
sampler_report heun_sample(const D& dev, const Teacher& teacher, const Schedule& schedule, const C& condition,
                           const std::type_identity_t<start_noise<T, D>>& noise, const sampler_options& options,
                           view<T, D> out, std::type_identity_t<view<T, D>> x_out = {},
                           std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  detail::require_deterministic("heun_sample", options);
  return detail::run_sampler("heun_sample", dev, teacher, schedule, condition, noise, options,
                             detail::sampler_times(schedule, options, schedule.t_max()), out, x_out, buffers,
                             [&schedule](auto& walk, std::int64_t, double t, double s, std::int64_t) {
                               walk.clean(t);
                               walk.euler(t, s);
                               if (schedule.sigma(s) == 0) return;
                               walk.set_aside();
                               walk.clean(s);
                               walk.add(s, heun_factor(signal_step(schedule, t, s)), walk.aside(), walk.latest());
                             });
}

}  // namespace boot::inline v0
