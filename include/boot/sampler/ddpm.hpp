// SPDX-License-Identifier: MIT
/// Ancestral sampling (Ho, Jain, Abbeel 2020) over any grid of times.
#pragma once

#include <boot/sampler/sampler.hpp>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Samples the reverse Markov chain: the posterior q(x_s | x_t, x0 = f) with its own variance sigma_s^2 (1 - (r_s/r_t)^2)
/// (the "fixed small" one), which is ddim_sample with eta = 1. N teacher calls, one more for the boundary where
/// alpha(t_max) is not 0. The clean signal at the end carries no fresh noise; x_out does.
///
/// Arguments and errors as for ddim_sample; options.eta must be left at 0.
template <Device D, class Teacher, NoiseSchedule Schedule, Condition C, ComputeScalar T>
sampler_report ddpm_sample(const D& dev, const Teacher& teacher, const Schedule& schedule, const C& condition,
                           const std::type_identity_t<start_noise<T, D>>& noise, const sampler_options& options,
                           view<T, D> out, std::type_identity_t<view<T, D>> x_out = {},
                           std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  require(options.eta == 0, "boot: ddpm_sample got eta = {}; it is ddim_sample with eta = 1, leave eta at 0",
          options.eta);
  return detail::run_sampler("ddpm_sample", dev, teacher, schedule, condition, noise, options,
                             detail::sampler_times(schedule, options, schedule.t_max()), out, x_out, buffers,
                             [](auto& walk, std::int64_t i, double t, double s, std::int64_t) {
                               walk.clean(t);
                               walk.euler(t, s, 1, i);
                             });
}

}  // namespace boot::inline v0
