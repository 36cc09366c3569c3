// SPDX-License-Identifier: MIT
/// Heun against a float64 chain in x, its orders on the exact Gaussian, and its ends.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/heun.hpp>

using boot::cpu;
using boot::no_condition;
using boot::testing::sampler_noise;

namespace {

// In x: with f linear in lambda over the step, x_s = (sigma_s/sigma_t) x + alpha_s int e^{l_s - l} f dl.
template <class Schedule>
boot::tensor<double, cpu> chain(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                const std::vector<double>& times) {
  return boot::testing::chain_in_x(schedule, eps, times, [&](const auto& f, double x) {
    for (std::size_t k = 0; k + 1 < times.size(); ++k) {
      const double t = times[k], s = times[k + 1];
      const double a = schedule.alpha(t), b = schedule.sigma(t), a2 = schedule.alpha(s), b2 = schedule.sigma(s);
      const double f1 = f(x, t), euler = b2 / b * x + (a2 - a * b2 / b) * f1;
      const double ratio = a * b2 / (b * a2);  // r_s/r_t = e^-h
      double correction = 1;                   // 1 - (1 - e^-h)/h
      if (ratio > 0) correction = 1 + (1 - ratio) / std::log(ratio);
      x = euler + a2 * correction * (f(euler, s) - f1);
    }
    return x;
  });
}

}  // namespace

TEST_CASE("heun: equals the chain written in x", "[sampler]") {
  const auto eps = sampler_noise<double>(20, 4, 31);
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation,
                                 {boot::prediction_kind::v});
    const auto report =
        boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, eps, {.steps = 7, .batch = 6}, out.get());
    const auto times = boot::make_time_grid(schedule, boot::time_spacing::time, 7);
    REQUIRE(boot::testing::sampler_worst(out, chain(schedule, eps, times)) < 1e-9);
    REQUIRE(report.teacher_samples == 20 * (schedule.alpha(schedule.t_max()) == 0 ? 14 : 15));
  });
}

TEST_CASE("heun: order 3 of one step, order 2 of the whole, towards the closed form", "[sampler]") {
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const auto sample = [&](const auto& teacher, const auto& noise, const auto& times, auto& y) {
      boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, noise,
                        {.times = times, .start = boot::trajectory_start::signal}, y.get());
    };
    for (const double position : {0.2, 0.5, 0.8})
      REQUIRE(std::abs(boot::testing::local_order(schedule, position, sample) - 3) < 0.1);
    boot::testing::check_second_order(schedule, 32, 32, sample);
  });
}

TEST_CASE("heun: a step to sigma = 0 is of first order and asks no teacher there", "[sampler]") {
  const boot::flow_schedule schedule{{.t_min = 0}};
  const boot::gaussian inner(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
  const boot::testing::counting_teacher<decltype(inner)> teacher{&inner};
  const auto eps = sampler_noise<double>(10, 4, 33);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), last(cpu{}, eps.extents());
  boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, eps, {.steps = 4}, out.get());
  REQUIRE(teacher.samples == 10 * 7);
  REQUIRE(teacher.earliest == 0.25);
  boot::heun_sample(cpu{}, inner, schedule, no_condition{}, eps, {.times = {1, 0.75, 0.5, 0.25}}, last.get());
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const double x = 0.75 * last.data()[i] + 0.25 * eps.data()[i];
    REQUIRE(std::abs(out.data()[i] - boot::testing::sampler_clean(static_cast<std::size_t>(i % 4), x, 0.75, 0.25)) <
            1e-12);
  }
}

TEST_CASE("heun: refuses the options of stochastic samplers", "[sampler]") {
  boot::testing::check_refuses_stochastic_options(
      "heun_sample", [](const auto& teacher, const auto& schedule, const boot::sampler_options& o, auto& out) {
        boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, o, out.get());
      });
}
