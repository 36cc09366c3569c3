// SPDX-License-Identifier: MIT
// The examples of docs/training_a_student.md.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot.hpp>
#include <boot/metric/endpoint_error.hpp>
#include <boot/train/checkpoint.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace {

const boot::cpu dev{1};

using network = boot::network_model<boot::mlp, boot::cpu, float>;

struct parts {
  boot::cosine_schedule schedule;
  boot::gaussian_mixture<boot::cosine_schedule> teacher{
      schedule, {{.mean = {-1, 0}, .deviation = 0.2}, {.mean = {1, 0.5}, .deviation = 0.3}}};
  network student{dev,
                  boot::mlp({.features = 2,
                             .width = 32,
                             .hidden_layers = 2,
                             .time = {.features = 16, .max_period = 8},
                             .time_scale = 8,
                             .target_time = true}),
                  {boot::prediction_kind::v}};
};

TEST_CASE("a run with a plan, logs and checkpoints is resumed") {
  const boot_test::temporary_folder temporary;
  constexpr std::int64_t steps = 40, batch = 64;
  std::vector<float> unbroken;
  for (const std::int64_t stop : {steps, steps / 2}) {
    parts p;
    const auto& schedule = p.schedule;
    const auto& teacher = p.teacher;
    auto& student = p.student;
    const std::string runs = temporary.path("run" + std::to_string(stop));
    const auto train = [&](std::int64_t until) {
      // example: run
      boot::bootstrap loss(teacher, student, schedule,
                           {.delta = 0.04, .boundary_weight = 0.5, .target = boot::target_solver::heun});
      boot::distiller trainer{dev,
                              loss,
                              {.steps = steps,
                               .batch = batch,
                               .rate = {.peak = 3e-3, .warmup_steps = 10},
                               .optimizer = {.averages = {{.decay = 0.999}, {.relative_width = 0.05}}},
                               .folder = runs,   // log.jsonl
                               .log_csv = true,  // and log.csv
                               .resume = true}};
      boot::checkpoints keep{runs + "/checkpoints", {.every = 10, .keep_last = 3}};
      trainer.use(keep);
      const boot::training_plan plan = trainer.plan();  // to_string(plan) is a table to read before the first step
      const boot::run_result result = trainer.run(until);
      // example-end: run
      CHECK(result.step == until);
      CHECK(plan.calls.teacher_samples == batch + 48);
      return to_host(dev, trainer.optimizer().average(1));
    };
    if (stop < steps) train(stop);
    if (stop < steps)
      p.student = network(dev, student.network(), student.prediction(), 99);  // nothing in memory survives
    const std::vector<float> average = train(steps);
    if (stop == steps) unbroken = average;
    CHECK(average == unbroken);
  }
}

TEST_CASE("a student is compared with its teacher's solver") {
  parts p;
  auto& [schedule, teacher, student] = p;
  boot::bootstrap loss(teacher, student, schedule);
  boot::distiller trainer{
      dev, loss, {.steps = 400, .batch = 128, .rate = {.peak = 5e-3}, .progress = boot::progress_mode::off}};
  trainer.run();

  // example: evaluate
  const std::int64_t n = 512;
  const boot::drawn_noise fresh{.seed = 1234};  // the same noise for the student, DDIM and the truth
  boot::tensor<float, boot::cpu> truth(dev, {n, 2}), y(dev, {n, 2});
  boot::heun_sample(dev, teacher, schedule, boot::no_condition{}, fresh,
                    {.steps = 200, .spacing = boot::time_spacing::lambda}, truth.get());
  boot::ddim_sample(dev, teacher, schedule, boot::no_condition{}, fresh, {.steps = 2}, y.get());
  const double ddim_2 = boot::endpoint_error(dev, y, truth).relative;
  boot::one_step_sample(dev, trainer.average_model(), schedule, boot::no_condition{}, fresh, {}, y.get());
  const double one_call = boot::endpoint_error(dev, y, truth).relative;
  // example-end: evaluate
  CHECK(one_call < ddim_2);
}

TEST_CASE("a student that does not start at its teacher learns the boundary first") {
  parts p;
  auto& [schedule, teacher, student] = p;
  // example: boundary-first
  boot::bootstrap boundary(teacher, student, schedule, {.boundary_weight = 1, .boundary_fraction = 1});
  boot::distiller first{dev, boundary, {.steps = 200, .progress = boot::progress_mode::off}};
  const boot::run_result learned = first.run();
  // example-end: boundary-first
  CHECK(learned.loss.part[1].second < 0.05);
}

}  // namespace
