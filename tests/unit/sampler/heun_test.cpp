// SPDX-License-Identifier: MIT
/// Heun against a float64 chain in x, its orders on the exact Gaussian, and its ends.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/heun.hpp>

using boot::cpu;
using boot::no_condition;
using boot::testing::sampler_message;
using boot::testing::sampler_noise;
using Catch::Matchers::ContainsSubstring;

namespace {

// In x: with f linear in lambda over the step, x_s = (sigma_s/sigma_t) x + alpha_s int e^{l_s - l} f dl.
template <class Schedule>
boot::tensor<double, cpu> chain(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                const std::vector<double>& times) {
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  for (std::int64_t i = 0; i < eps.size(); ++i) {
    const auto j = static_cast<std::size_t>(i % 4);
    const auto f = [&](double x, double t) {
      return boot::testing::sampler_clean(j, x, schedule.alpha(t), schedule.sigma(t));
    };
    const double start = schedule.sigma(times[0]) * eps.data()[i];
    double x = start + schedule.alpha(times[0]) * f(start, times[0]);
    for (std::size_t k = 0; k + 1 < times.size(); ++k) {
      const double t = times[k], s = times[k + 1];
      const double a = schedule.alpha(t), b = schedule.sigma(t), a2 = schedule.alpha(s), b2 = schedule.sigma(s);
      const double f1 = f(x, t), euler = b2 / b * x + (a2 - a * b2 / b) * f1;
      const double ratio = a * b2 / (b * a2);  // r_s/r_t = e^-h
      double correction = 1;                   // 1 - (1 - e^-h)/h
      if (ratio > 0) correction = 1 + (1 - ratio) / std::log(ratio);
      x = euler + a2 * correction * (f(euler, s) - f1);
    }
    out.data()[i] = (x - schedule.sigma(times.back()) * eps.data()[i]) / schedule.alpha(times.back());
  }
  return out;
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
  const auto eps = sampler_noise<double>(64, 4, 32);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const double position : {0.2, 0.5, 0.8}) {
      const double slope = boot::testing::local_order(
          schedule, position, [&](const auto& teacher, const auto& noise, auto times, auto& y) {
            boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, noise,
                              {.times = times, .start = boot::trajectory_start::signal}, y.get());
          });
      REQUIRE(std::abs(slope - 3) < 0.1);
    }
    const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
    // Between two times where lambda is finite: at its infinite ends an even grid never becomes fine in lambda.
    const double range = schedule.t_max() - schedule.t_min();
    const double from = schedule.t_min() + 0.95 * range, to = schedule.t_min() + 0.05 * range;
    teacher.signal(eps.get(), to, exact.get());
    std::vector<double> errors;
    for (const std::int64_t steps : {32, 64, 128}) {
      teacher.signal(eps.get(), from, out.get());
      boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                        {.times = boot::make_time_grid(schedule, boot::time_spacing::lambda, steps, from, to),
                         .start = boot::trajectory_start::signal},
                        out.get());
      errors.push_back(boot::testing::sampler_rms(out, exact));
    }
    REQUIRE(errors[2] < 1e-3);
    REQUIRE(std::abs(errors[0] / errors[1] - 4) < 0.6);
    REQUIRE(std::abs(errors[1] / errors[2] - 4) < 0.4);
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
  const boot::cosine_schedule schedule;
  const boot::gaussian teacher(schedule, {0.0}, {1.0});
  boot::tensor<float, cpu> out(cpu{}, {2, 1});
  const auto with = [&](const boot::sampler_options& o) {
    return sampler_message(
        [&] { boot::heun_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, o, out.get()); });
  };
  REQUIRE(with({}) == "no error");
  REQUIRE_THAT(with({.eta = 0.5}), ContainsSubstring("heun_sample got eta = 0.5"));
  REQUIRE_THAT(with({.recompute_noise = false}), ContainsSubstring("recompute_noise = false"));
}
