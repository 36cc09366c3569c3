// SPDX-License-Identifier: MIT
/// The teacher's own deterministic trajectory from noise to signal, as the regression objectives need it.
#pragma once

#include <boot/objective/common.hpp>

namespace boot::inline v0 {

/// Time `i` of `steps` equal steps from t_max down to t_min; exactly t_max and t_min at the ends.
template <NoiseSchedule S>
[[nodiscard]] double grid_time(const S& schedule, std::int64_t i, std::int64_t steps) {
  if (i == steps) return schedule.t_min();
  return schedule.t_max() - static_cast<double>(i) / static_cast<double>(steps) * (schedule.t_max() - schedule.t_min());
}

/// Follows the Signal-ODE from eps: y_T = f(sigma_T eps, t_max), x = alpha_T y_T + sigma_T eps, then `steps` equal
/// steps.
template <class Teacher, class Condition, class T, class D>
class teacher_trajectory {
 public:
  /// Writes y at t_min, the endpoint, for each row of eps.
  template <NoiseSchedule S>
  void operator()(const D& dev, const Teacher& teacher, const S& schedule, std::int64_t steps, target_solver solver,
                  const clean_signal_limits& limits, view<const T, D> eps, const Condition& condition, view<T, D> y) {
    const std::int64_t count = eps.batch(), n = eps.sample_size();
    const shape& all = eps.extents();
    const view<T, D> x = x_.get(dev, all), f1 = f1_.get(dev, all), f2 = f2_.get(dev, all);
    const double t_max = schedule.t_max(), alpha = schedule.alpha(t_max), sigma = schedule.sigma(t_max);
    for_each_element<T>(dev, start_op<T>{}, ode_rows_.upload(dev, {0, static_cast<T>(sigma)}, count), count, n,
                        inputs<T>(eps.data()), outputs<T>(x.data()));
    clean(dev, teacher, schedule, t_max, limits, x, condition, y);
    // Where alpha is 0 the start is sigma_T eps again, and so is its clean signal.
    if (alpha > 0) {
      for_each_element<T>(dev, perturb_op<T>{},
                          ode_rows_.upload(dev, {static_cast<T>(alpha), static_cast<T>(sigma)}, count), count, n,
                          inputs<T, T>(y.data(), eps.data()), outputs<T>(x.data()));
      clean(dev, teacher, schedule, t_max, limits, x, condition, f1);
    } else {
      copy(dev, view<const T, D>(y), f1);
    }
    for (std::int64_t i = 0; i < steps; ++i) {
      const double t = grid_time(schedule, i, steps), s = grid_time(schedule, i + 1, steps);
      if (i > 0) clean(dev, teacher, schedule, t, limits, x, condition, f1);
      const double step = signal_step(schedule, t, s);
      const ode_row<T> numbers{static_cast<T>(schedule.alpha(s)), static_cast<T>(schedule.sigma(s)),
                               static_cast<T>(step), static_cast<T>(heun_factor(step))};
      const auto* row = ode_rows_.upload(dev, numbers, count);
      for_each_element<T>(dev, signal_euler_op<T>{}, row, count, n, inputs<T, T, T>(y.data(), f1.data(), eps.data()),
                          outputs<T, T>(y.data(), x.data()));
      if (solver == target_solver::euler) continue;
      clean(dev, teacher, schedule, s, limits, x, condition, f2);
      for_each_element<T>(dev, signal_heun_op<T>{}, row, count, n,
                          inputs<T, T, T, T>(y.data(), f1.data(), f2.data(), eps.data()),
                          outputs<T, T>(y.data(), x.data()));
    }
  }
  /// The teacher's clean signal f of x at time t, the same for every row.
  template <NoiseSchedule S>
  void clean(const D& dev, const Teacher& teacher, const S& schedule, double t, const clean_signal_limits& limits,
             view<const T, D> x, const Condition& condition, view<T, D> f) {
    call_(dev, teacher, x, times_.set(dev, teacher, t, x.batch()), condition);
    const auto ab = clean_signal_at(teacher.prediction(), schedule, t);
    auto& rows = affine_rows_.host(x.batch());
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i] = {static_cast<T>(ab.a), static_cast<T>(ab.b),
                 static_cast<T>(decltype(call_)::guidance(teacher, condition, static_cast<std::int64_t>(i))),
                 static_cast<T>(limits.low), static_cast<T>(limits.high)};
    for_each_element<T>(dev, clean_signal_op<T>{}, affine_rows_.upload(dev), x.batch(), x.sample_size(),
                        inputs<T, T, T>(x.data(), call_.conditional(), call_.unconditional()), outputs<T>(f.data()));
  }
  /// Teacher samples per endpoint.
  template <NoiseSchedule S>
  [[nodiscard]] static double cost(const S& schedule, std::int64_t steps, target_solver solver) {
    const double calls = static_cast<double>(steps) * (solver == target_solver::heun ? 2 : 1);
    return (calls + (schedule.alpha(schedule.t_max()) > 0 ? 1 : 0)) * (decltype(call_)::guided ? 2 : 1);
  }

 private:
  workspace<T, D> x_, f1_, f2_;
  row_table<ode_row<T>, D> ode_rows_;
  row_table<affine_row<T>, D> affine_rows_;
  times_buffer<D, T> times_;
  teacher_call<Teacher, Condition, T, D> call_;
};

}  // namespace boot::inline v0
