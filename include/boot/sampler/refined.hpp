// SPDX-License-Identifier: MIT
/// A student's sample, refined by a few steps of its teacher along the same trajectory.
#pragma once

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/one_step.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace boot::inline v0 {

/// Options of refined_sample.
struct refined_options {
  std::optional<double> t_middle = {};  ///< t_m: where the student stops; a tenth of the range above t_min unless given
  std::int64_t steps = 1;               ///< N: the teacher's steps from t_m to t_min
  time_spacing spacing = time_spacing::time;              ///< of the teacher's times
  double low = -std::numeric_limits<double>::infinity();  ///< smallest clean signal of the teacher
  double high = std::numeric_limits<double>::infinity();  ///< largest clean signal of the teacher
  double threshold = 0;                                   ///< dynamic thresholding, as in sampler_options
  std::int64_t batch = 2048;                              ///< samples worked on together
};

/// The student goes to t_m, then N teacher DDIM steps go from x = alpha y + sigma eps, with the SAME eps, to t_min.
///
/// Arguments as for ddim_sample; student and teacher get the same condition. Throws boot::error for shapes or options that do not fit.
template <Device D, class Student, class Teacher, NoiseSchedule Schedule, Condition C, ComputeScalar T>
sampler_report refined_sample(const D& dev, const Student& student, const Teacher& teacher, const Schedule& schedule,
                              const C& condition, const std::type_identity_t<start_noise<T, D>>& noise,
                              const refined_options& options, view<T, D> out,
                              std::type_identity_t<view<T, D>> x_out = {},
                              std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  const double middle = options.t_middle.value_or(schedule.t_min() + 0.1 * (schedule.t_max() - schedule.t_min()));
  require(middle > schedule.t_min() && middle <= schedule.t_max(),
          "boot: refined_sample got t_middle = {}; it needs a time above t_min = {} and not above t_max = {}", middle,
          schedule.t_min(), schedule.t_max());
  require(student.sample_shape() == teacher.sample_shape(),
          "boot: refined_sample got a student with samples of shape {} and a teacher with {}; they must be equal",
          to_string(student.sample_shape()), to_string(teacher.sample_shape()));
  sampler_buffers<T, D> own;
  auto* const memory = buffers != nullptr ? buffers : &own;
  sampler_report report = one_step_sample(dev, student, schedule, condition, noise,
                                          {.t_target = middle, .batch = options.batch}, out, {}, memory);
  const sampler_options rest{
      .times = make_time_grid(schedule, options.spacing, options.steps, middle, schedule.t_min()),
      .low = options.low,
      .high = options.high,
      .threshold = options.threshold,
      .start = trajectory_start::signal,
      .batch = options.batch};
  report += ddim_sample(dev, teacher, schedule, condition, noise, rest, out, x_out, memory);
  return report;
}

}  // namespace boot::inline v0
