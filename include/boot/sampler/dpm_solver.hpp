// SPDX-License-Identifier: MIT
/// DPM-Solver++(2M) (Lu, Zhou, Bao, Chen, Li, Zhu 2022): second order with one teacher call a step.
#pragma once

#include <boot/sampler/sampler.hpp>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Samples by the two-step method of data prediction: y_s = y + D (d - y) with d = f + h/(2 h_last) (f - f_last), where h is the
/// step in lambda (half the log signal-to-noise, up to sign) and f_last the clean signal of the step before. Global order
/// 2, N teacher calls (one more for the boundary where alpha(t_max) is not 0).
///
/// First-order steps: the first; one after a step from alpha = 0, whose h is infinite (the factor is then 0); a step to
/// sigma = 0; and, with options.lower_order_final, the last one of fewer than 15. An even grid in lambda
/// (options.spacing) suits it best. Arguments and errors as for ddim_sample; eta and recompute_noise must be left alone.
template <Device D, class Teacher, NoiseSchedule Schedule, Condition C, ComputeScalar T>
sampler_report dpm_solver_sample(const D& dev, const Teacher& teacher, const Schedule& schedule, const C& condition,
                                 const std::type_identity_t<start_noise<T, D>>& noise, const sampler_options& options,
                                 view<T, D> out, std::type_identity_t<view<T, D>> x_out = {},
                                 std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  detail::require_deterministic("dpm_solver_sample", options);
  double last = 0;  // h of the step before
  return detail::run_sampler("dpm_solver_sample", dev, teacher, schedule, condition, noise, options,
                             detail::sampler_times(schedule, options, schedule.t_max()), out, x_out, buffers,
                             [&](auto& walk, std::int64_t i, double t, double s, std::int64_t steps) {
                               const double d = signal_step(schedule, t, s), h = -std::log1p(-d);
                               walk.clean(t);
                               walk.euler(t, s);
                               const bool lower = i == 0 || std::isinf(h) || std::isinf(last) ||
                                                  (options.lower_order_final && i + 1 == steps && steps < 15);
                               if (!lower) walk.add(s, d * 0.5 * h / last, walk.aside(), walk.latest());
                               walk.set_aside();
                               last = h;
                             });
}

}  // namespace boot::inline v0
