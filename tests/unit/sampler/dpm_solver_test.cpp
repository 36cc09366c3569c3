// SPDX-License-Identifier: MIT
/// DPM-Solver++(2M) against its multistep form in x, its global order, and its first-order steps.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/dpm_solver.hpp>

using boot::cpu;
using boot::no_condition;
using boot::time_spacing;
using boot::testing::sampler_message;
using boot::testing::sampler_noise;
using Catch::Matchers::ContainsSubstring;

namespace {

// x_s = (sigma_s/sigma_t) x - alpha_s (e^-h - 1) ((1 + 1/(2r)) f - 1/(2r) f_last), r = h_last/h; h in log(alpha/sigma).
template <class Schedule>
boot::tensor<double, cpu> chain(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                const std::vector<double>& times, bool lower_final) {
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  const auto log_snr = [&](double t) { return std::log(schedule.alpha(t)) - std::log(schedule.sigma(t)); };
  for (std::int64_t i = 0; i < eps.size(); ++i) {
    const auto ask = [&](double x, double t) {
      return boot::testing::sampler_clean(static_cast<std::size_t>(i % 4), x, schedule.alpha(t), schedule.sigma(t));
    };
    const double start = schedule.sigma(times[0]) * eps.data()[i];
    double x = start + schedule.alpha(times[0]) * ask(start, times[0]), last_f = 0, last_h = 0;
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
    out.data()[i] = (x - schedule.sigma(times.back()) * eps.data()[i]) / schedule.alpha(times.back());
  }
  return out;
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
  const auto eps = sampler_noise<double>(64, 4, 42);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
    const double range = schedule.t_max() - schedule.t_min();
    const double from = schedule.t_min() + 0.95 * range, to = schedule.t_min() + 0.05 * range;
    teacher.signal(eps.get(), to, exact.get());
    std::vector<double> errors;
    for (const std::int64_t steps : {64, 128, 256}) {
      teacher.signal(eps.get(), from, out.get());
      boot::dpm_solver_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                              {.times = boot::make_time_grid(schedule, time_spacing::lambda, steps, from, to),
                               .start = boot::trajectory_start::signal},
                              out.get());
      errors.push_back(boot::testing::sampler_rms(out, exact));
    }
    REQUIRE(errors[2] < 1e-3);
    REQUIRE(std::abs(errors[0] / errors[1] - 4) < 0.6);
    REQUIRE(std::abs(errors[1] / errors[2] - 4) < 0.4);
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
  const boot::cosine_schedule schedule;
  const boot::gaussian teacher(schedule, {0.0}, {1.0});
  boot::tensor<float, cpu> out(cpu{}, {2, 1});
  const auto with = [&](const boot::sampler_options& o) {
    return sampler_message(
        [&] { boot::dpm_solver_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, o, out.get()); });
  };
  REQUIRE(with({}) == "no error");
  REQUIRE_THAT(with({.eta = 0.5}), ContainsSubstring("dpm_solver_sample got eta = 0.5"));
  REQUIRE_THAT(with({.recompute_noise = false}), ContainsSubstring("recompute_noise = false"));
}
