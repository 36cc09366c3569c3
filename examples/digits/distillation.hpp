// SPDX-License-Identifier: MIT
/// Distils a digits teacher into a one-step student; the data are not touched.
#pragma once

#include "digits/teacher.hpp"

#include <boot/model/guided.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/objective/progressive_distillation.hpp>
#include <boot/objective/sources.hpp>
#include <boot/train/distiller.hpp>

#include <algorithm>
#include <cstdint>
#include <string>

namespace digits {

/// What the student learns from.
enum class objective {
  bootstrap,                ///< BOOT: one teacher step from the student's own output
  fixed_point,              ///< its continuous form: the step becomes a derivative
  knowledge_distillation,   ///< the ends of trajectories that the teacher solved beforehand
  progressive_distillation  ///< the teacher's steps, halved phase by phase until one is left
};

/// Settings of a distillation; the defaults are what the figures are made with.
struct distillation_options {
  digits::objective objective = digits::objective::bootstrap;
  training_options training = {};                           ///< choice<Network>::student
  boot::target_solver target = boot::target_solver::euler;  ///< Euler or Heun, of bootstrap and knowledge distillation
  double delta = 0.04;                                      ///< step of bootstrap and fixed point
  boot::weighting weight = boot::weighting::upwind;         ///< of the bootstrap loss
  double boundary_fraction = 0.25;                          ///< share of the batch at t_max
  double ema = 0.999;                                       ///< decay of the average that is kept
  std::uint64_t seed = 0;                                   ///< of everything random
  std::string folder = {};                                  ///< for logs
};

/// What a distillation gave and cost.
template <class Network>
struct distillation_result {
  model<Network> student;      ///< averaged weights
  double seconds = 0;          ///< of training
  double teacher_samples = 0;  ///< samples the teacher saw
};

namespace detail {

/// Trains the objective's student.
template <class Network, class Objective>
distillation_result<Network> train_student(const boot::cpu& dev, Objective& loss, const distillation_options& o) {
  const auto [steps, batch, rate] = o.training;
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = batch,
                           .seed = o.seed,
                           .rate = {.peak = rate},
                           .optimizer = {.averages = {{.decay = o.ema}}},
                           .folder = o.folder,
                           .report_every = std::max<std::int64_t>(1, steps / 10)}};
  // The next phase's teacher is the average, which is better than the last weights.
  if constexpr (requires { loss.end_phases_with(trainer.optimizer().average(0)); })
    loss.end_phases_with(trainer.optimizer().average(0));
  double teacher_samples = 0;
  trainer.on_step([&, batch = batch](const auto&) { teacher_samples += loss.describe(batch).teacher_samples; });
  const auto result = trainer.run();
  boot::require(result.finished, "digits: the distillation was stopped after {} of {} steps; start it again",
                result.step, steps);
  return {trainer.average_model(), result.seconds, teacher_samples};
}

}  // namespace detail

/// Distils `teacher` (a network, or a guided one) starting from the weights of `start`.
template <class Teacher, class Network>
distillation_result<Network> distil(const boot::cpu& dev, const Teacher& teacher, const model<Network>& start,
                                    const distillation_options& o) {
  auto student = boot::student_of(dev, start, 0, o.seed);
  const boot::label_source labels(classes);
  switch (o.objective) {
    case objective::bootstrap: {
      boot::bootstrap loss(
          teacher, student, schedule(),
          boot::bootstrap_options{
              .delta = o.delta, .boundary_fraction = o.boundary_fraction, .target = o.target, .weight = o.weight},
          labels);
      return detail::train_student<Network>(dev, loss, o);
    }
    case objective::fixed_point: {
      boot::fixed_point loss(teacher, student, schedule(),
                             boot::fixed_point_options{.delta = o.delta, .boundary_fraction = o.boundary_fraction},
                             labels);
      return detail::train_student<Network>(dev, loss, o);
    }
    case objective::knowledge_distillation: {
      boot::knowledge_distillation_options options{.steps = 16, .target = o.target};
      const std::int64_t pool = std::min<std::int64_t>(20000, o.training.steps * o.training.batch);
      const double cost =
          boot::knowledge_distillation(teacher, student, schedule(), options, labels).describe(pool).teacher_samples;
      options.pool = pool;
      boot::knowledge_distillation loss(teacher, student, schedule(), options, labels);
      auto result = detail::train_student<Network>(dev, loss, o);
      result.teacher_samples += cost;  // of the pool, which is made before the first step
      return result;
    }
    case objective::progressive_distillation: {
      boot::progressive_distillation_options options{.first_steps = 16};
      constexpr std::int64_t phases = 5;  // of 16, 8, 4, 2 and 1 student steps
      options.phase_steps = std::max<std::int64_t>(1, o.training.steps / phases);
      boot::progressive_distillation loss(teacher, student, schedule(), options, labels);
      return detail::train_student<Network>(dev, loss, o);
    }
  }
  boot::fail("digits: unknown objective {}", static_cast<int>(o.objective));
}

}  // namespace digits
