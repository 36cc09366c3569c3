// SPDX-License-Identifier: MIT
/// A student's sample refined by its teacher, against the closed form and one DDIM step written in x.
#include "unit/sampler/exact_student.hpp"

#include <boot/sampler/refined.hpp>

using boot::cpu;
using boot::no_condition;
using boot::testing::sampler_message;
using boot::testing::sampler_noise;
using boot::testing::student_on;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("refined: a perfect student and many teacher steps reach the endpoint; one step is one DDIM step",
          "[sampler]") {
  const auto eps = sampler_noise<double>(25, 4, 53);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), x(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const auto student = student_on(schedule, boot::prediction_kind::v, 0.25);
    const auto& teacher = student.truth;
    const auto report = boot::refined_sample(cpu{}, student, teacher, schedule, no_condition{}, eps,
                                             {.t_middle = 0.3, .batch = 9}, out.get(), x.get());
    REQUIRE(report.student_samples == 25);
    REQUIRE(report.teacher_samples == 25);
    const double a = schedule.alpha(0.3), s = schedule.sigma(0.3), end = schedule.t_min();
    const double a2 = schedule.alpha(end), s2 = schedule.sigma(end);
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const auto j = static_cast<std::size_t>(i % 4);
      const double middle = a * (teacher.signal(j, eps.data()[i], 0.3) + 0.25) + s * eps.data()[i];
      const double f = boot::testing::sampler_clean(j, middle, a, s), at_end = a2 * f + s2 * (middle - a * f) / s;
      REQUIRE(std::abs(x.data()[i] - at_end) < 1e-9);
      REQUIRE(std::abs(out.data()[i] - (at_end - s2 * eps.data()[i]) / a2) < 1e-9);
    }
    const auto perfect = student_on(schedule, boot::prediction_kind::v);
    boot::refined_sample(cpu{}, perfect, teacher, schedule, no_condition{}, eps, {.t_middle = 0.3, .steps = 200},
                         out.get());
    teacher.endpoint(eps.get(), exact.get());
    REQUIRE(boot::testing::sampler_rms(out, exact) < 0.01);
  });
}

TEST_CASE("refined: drawn noise is the same in both stages; errors", "[sampler]") {
  const boot::cosine_schedule schedule;
  const auto student = student_on(schedule, boot::prediction_kind::v);
  const auto eps = sampler_noise<float>(12, 4, 54);
  const auto run = [&](const boot::start_noise<float, cpu>& noise, const boot::refined_options& o) {
    boot::tensor<float, cpu> out(cpu{}, {12, 4});
    boot::refined_sample(cpu{}, student, student.truth, schedule, no_condition{}, noise, o, out.get());
    return boot::to_host(cpu{}, out.get());
  };
  REQUIRE(run(eps, {}) == run(boot::drawn_noise{54, 0}, {.batch = 5}));
  REQUIRE(run(eps, {}) != run(eps, {.t_middle = 0.5}));
  REQUIRE_THAT(sampler_message([&] { run(eps, {.t_middle = 0.001}); }), ContainsSubstring("t_middle = 0.001"));
  REQUIRE_THAT(sampler_message([&] { run(eps, {.steps = 0}); }), ContainsSubstring("0 steps"));
}
