// SPDX-License-Identifier: MIT
/// One student call: its signal, its times, its limits.
#include "unit/sampler/exact_student.hpp"

#include <boot/sampler/one_step.hpp>

using boot::cpu;
using boot::no_condition;
using boot::testing::sampler_message;
using boot::testing::sampler_noise;
using Catch::Matchers::ContainsSubstring;

using boot::testing::student_on;

TEST_CASE("one_step: a perfect student gives the endpoint, and any other time of the trajectory", "[sampler]") {
  const auto eps = sampler_noise<double>(25, 4, 51);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), x(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const auto kind : {boot::prediction_kind::v, boot::prediction_kind::sample, boot::prediction_kind::edm}) {
      const auto student = student_on(schedule, kind);
      const auto report =
          boot::one_step_sample(cpu{}, student, schedule, no_condition{}, eps, {.batch = 6}, out.get(), x.get());
      student.truth.endpoint(eps.get(), exact.get());
      REQUIRE(boot::testing::sampler_worst(out, exact) < 1e-10);
      REQUIRE(report.student_samples == 25);
      REQUIRE(report.teacher_samples == 0);
      const double a = schedule.alpha(schedule.t_min()), s = schedule.sigma(schedule.t_min());
      for (std::int64_t i = 0; i < x.size(); ++i)
        REQUIRE(std::abs(x.data()[i] - (a * out.data()[i] + s * eps.data()[i])) < 1e-13);
      boot::one_step_sample(cpu{}, student, schedule, no_condition{}, eps, {.t_target = 0.4}, out.get());
      student.truth.signal(eps.get(), 0.4, exact.get());
      REQUIRE(boot::testing::sampler_worst(out, exact) < 1e-10);
    }
  });
}

TEST_CASE("one_step: limits, drawn noise and the batch's cut", "[sampler]") {
  const boot::cosine_schedule schedule;
  const auto student = student_on(schedule, boot::prediction_kind::v);
  const auto eps = sampler_noise<float>(30, 4, 52);
  const auto run = [&](const boot::start_noise<float, cpu>& noise, const boot::one_step_options& o) {
    boot::tensor<float, cpu> out(cpu{}, {30, 4});
    boot::one_step_sample(cpu{}, student, schedule, no_condition{}, noise, o, out.get());
    return boot::to_host(cpu{}, out.get());
  };
  const auto whole = run(eps, {});
  REQUIRE(whole == run(eps, {.batch = 7}));
  REQUIRE(whole == run(boot::drawn_noise{52, 0}, {.batch = 11}));
  const auto clipped = run(eps, {.low = -0.5, .high = 0.5});
  for (std::size_t i = 0; i < whole.size(); ++i) REQUIRE(clipped[i] == std::clamp(whole[i], -0.5f, 0.5f));
}

TEST_CASE("one_step: errors name what was given and what is needed", "[sampler]") {
  const boot::cosine_schedule schedule;
  const auto student = student_on(schedule, boot::prediction_kind::v);
  boot::tensor<float, cpu> out(cpu{}, {3, 4}), wrong(cpu{}, {2, 4});
  const auto with = [&](const auto& s, const boot::one_step_options& o, const boot::start_noise<float, cpu>& noise) {
    return sampler_message([&] { boot::one_step_sample(cpu{}, s, schedule, no_condition{}, noise, o, out.get()); });
  };
  const boot::drawn_noise drawn;
  REQUIRE(with(student, {}, drawn) == "no error");
  REQUIRE_THAT(with(student, {.t_target = 2}, drawn), ContainsSubstring("t_target = 2"));
  REQUIRE_THAT(with(student, {.low = 1, .high = 1}, drawn), ContainsSubstring("limits [1, 1]"));
  REQUIRE_THAT(with(student, {.batch = 0}, drawn), ContainsSubstring("batch = 0"));
  REQUIRE_THAT(with(student, {}, wrong), ContainsSubstring("noise of shape [2, 4], needs [3, 4]"));
  REQUIRE_THAT(with(student_on(schedule, boot::prediction_kind::epsilon), {}, drawn), ContainsSubstring("alpha = 0"));
}
