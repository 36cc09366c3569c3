// SPDX-License-Identifier: MIT
/// One call of a student from noise to the clean signal.
#pragma once

#include <boot/model/student.hpp>
#include <boot/sampler/sampler.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace boot::inline v0 {

/// Options of one_step_sample.
struct one_step_options {
  std::optional<double> t_target = {};                    ///< where on the trajectory; t_min unless given
  double low = -std::numeric_limits<double>::infinity();  ///< smallest clean signal
  double high = std::numeric_limits<double>::infinity();  ///< largest clean signal
  std::int64_t batch = 2048;                              ///< samples worked on together
};

/// Samples by one call of a student: y = a x + b out with x = sigma_T eps and a, b of t_max, at time t_target of the
/// trajectory. Any model with Student's predict() will do: it need not be trainable.
///
/// noise and out: [batch, sample...]; out gets y, x_out, unless empty, x = alpha y + sigma eps at t_target. Throws
/// boot::error for shapes or options that do not fit, and for an epsilon student where alpha(t_max) = 0.
template <Device D, class Student, NoiseSchedule Schedule, Condition C, ComputeScalar T>
requires has_student_predict<Student, D, C, T> sampler_report one_step_sample(
    const D& dev, const Student& student, const Schedule& schedule, const C& condition,
    const std::type_identity_t<start_noise<T, D>>& noise, const one_step_options& options, view<T, D> out,
    std::type_identity_t<view<T, D>> x_out = {}, std::type_identity_t<sampler_buffers<T, D>>* buffers = nullptr) {
  const double t_max = schedule.t_max(), target = options.t_target.value_or(schedule.t_min());
  require(target >= schedule.t_min() && target <= t_max,
          "boot: one_step_sample got t_target = {}; the schedule runs from t_min = {} to t_max = {}", target,
          schedule.t_min(), t_max);
  require(options.low < options.high,
          "boot: one_step_sample got limits [{}, {}] of the clean signal; it needs low < high, -1 and 1 for pixels say",
          options.low, options.high);
  require(options.batch >= 1,
          "boot: one_step_sample got batch = {}; it needs at least 1 sample at a time, 2048 is the default",
          options.batch);
  detail::check_sampler_shapes("one_step_sample", student.sample_shape(), noise, out, x_out);
  const auto ab = clean_signal_at(student.prediction(), schedule, t_max);
  sampler_buffers<T, D> own;
  sampler_buffers<T, D>& b = buffers != nullptr ? *buffers : own;
  const std::int64_t n = out.sample_size();
  for (std::int64_t first = 0; first < out.batch(); first += options.batch) {
    const std::int64_t count = (std::min)(options.batch, out.batch() - first);
    const view<T, D> y = out.rows(first, count), x = b.x.get(dev, y.extents());
    const view<const T, D> eps = detail::noise_rows(dev, noise, first, y, b);
    const auto row = [&](double t) {
      return b.ode.upload(dev, {static_cast<T>(schedule.alpha(t)), static_cast<T>(schedule.sigma(t))}, count);
    };
    for_each_element<T>(dev, start_op<T>{}, row(t_max), count, n, inputs<T>(eps.data()), outputs<T>(x.data()));
    student.predict(dev, view<const T, D>(x), b.times.set(dev, student, t_max, count),
                    b.target_times.set(dev, student, target, count), condition.rows(first, count), y);
    const affine_row<T> map{static_cast<T>(ab.a), static_cast<T>(ab.b), 0, static_cast<T>(options.low),
                            static_cast<T>(options.high)};
    for_each_element<T>(dev, clean_signal_op<T>{}, b.affine.upload(dev, map, count), count, n,
                        inputs<T, T, T>(x.data(), y.data(), y.data()), outputs<T>(y.data()));
    if (!x_out.empty())
      for_each_element<T>(dev, perturb_op<T>{}, row(target), count, n, inputs<T, T>(y.data(), eps.data()),
                          outputs<T>(x_out.rows(first, count).data()));
  }
  return {1, 0, out.batch()};
}

}  // namespace boot::inline v0
