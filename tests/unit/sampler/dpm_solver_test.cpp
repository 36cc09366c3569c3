// SPDX-License-Identifier: MIT
/// DPM-Solver++(2M) against its multistep form in x, its global order, and its first-order steps.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/dpm_solver.hpp>

using boot::cpu;
using boot::no_condition;
using boot::time_spacing;
using boot::testing::sampler_noise;

namespace {

// x_s = (sigma_s/sigma_t) x - alpha_s (e^-h - 1) ((1 + 1/(2r)) f - 1/(2r) f_last), r = h_last/h; h in log(alpha/sigma).
template <class Schedule>
boot::tensor<double, cpu> chain(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                const std::vector<double>& times, bool lower_final) {
  const auto log_snr = [&](double t) { return std::log(schedule.alpha(t)) - std::log(schedule.sigma(t)); };
  return boot::testing::chain_in_x(schedule, eps, times, [&](const auto& ask, double x) {
    double last_f = 0, last_h = 0;
    for (std::size_t k = 0; k + 1 < times.size(); ++k) {
      const double t = times[k], s = times[k + 1], h = log_snr(s) - log_snr(t), f = ask(x, t);
      double d = f;
      if (k > 0 && !(lower_final && k + 2 == times.size())) {
        const double r = last_h / h;
        if (std::isfinite(r)) d = (1 + 1 / (2 * r)) * f - 1 / (2 * r) * last_f;
      }
      x = schedule.sigma(s) / schedule.sigma(t) * x - schedule.alpha(s) * std::expm1(-h) * d;
      last_f = f;
      last_h = h;
    }
    return x;
  });
}

}  // namespace

TEST_CASE("dpm_solver: equals the multistep form in x", "[sampler]") {
  const auto eps = sampler_noise<double>(20, 4, 41);
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation,
                                 {boot::prediction_kind::v});
    for (const auto spacing : {time_spacing::time, time_spacing::lambda})
      for (const bool lower : {true, false})
        for (const std::int64_t steps : {1, 2, 9, 15}) {
          CAPTURE(lower, steps);
          const auto report = boot::dpm_solver_sample(
              cpu{}, teacher, schedule, no_condition{}, eps,
              {.steps = steps, .spacing = spacing, .batch = 8, .lower_order_final = lower}, out.get());
          const auto times = boot::make_time_grid(schedule, spacing, steps);
          REQUIRE(boot::testing::sampler_worst(out, chain(schedule, eps, times, lower && steps < 15)) < 1e-9);
          REQUIRE(report.teacher_samples == 20 * (steps + (schedule.alpha(schedule.t_max()) == 0 ? 0 : 1)));
        }
  });
}

TEST_CASE("dpm_solver: order 2 of the whole, towards the closed form", "[sampler]") {
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    boot::testing::check_second_order(
        schedule, 42, 64, [&](const auto& teacher, const auto& noise, const auto& times, auto& y) {
          boot::dpm_solver_sample(cpu{}, teacher, schedule, no_condition{}, noise,
                                  {.times = times, .start = boot::trajectory_start::signal}, y.get());
        });
  });
}

TEST_CASE("dpm_solver: steps from alpha = 0 and to sigma = 0 stay finite", "[sampler]") {
  const boot::cosine_schedule schedule{{.t_min = 0}};
  const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
  const auto eps = sampler_noise<double>(10, 4, 43);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  for (const std::int64_t steps : {1, 2, 3, 40}) {
    boot::dpm_solver_sample(cpu{}, teacher, schedule, no_condition{}, eps, {.steps = steps, .lower_order_final = false},
                            out.get());
    for (std::int64_t i = 0; i < out.size(); ++i) REQUIRE(std::isfinite(out.data()[i]));
  }
  teacher.endpoint(eps.get(), exact.get());
  REQUIRE(boot::testing::sampler_rms(out, exact) < 0.02);
}

TEST_CASE("dpm_solver: refuses the options of stochastic samplers", "[sampler]") {
  boot::testing::check_refuses_stochastic_options(
      "dpm_solver_sample", [](const auto& teacher, const auto& schedule, const boot::sampler_options& o, auto& out) {
        boot::dpm_solver_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, o, out.get());
      });
}
