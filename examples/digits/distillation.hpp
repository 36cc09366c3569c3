// SPDX-License-Identifier: MIT
/// Distils a digits teacher with BOOT; the data are not touched.
#pragma once

#include "digits/teacher.hpp"

#include <boot/model/guided.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/sources.hpp>
#include <boot/train/distiller.hpp>

#include <cstdint>
#include <string>

namespace digits {

/// Settings of a distillation; the defaults are what the figures are made with.
struct distillation_options {
  std::int64_t steps = 3000;                                ///< of the run
  std::int64_t batch = 256;                                 ///< samples per step
  double rate = 3e-3;                                       ///< peak learning rate
  boot::target_solver target = boot::target_solver::euler;  ///< Euler or Heun
  double delta = 0.04;                                      ///< step of the bootstrap
  boot::weighting weight = boot::weighting::upwind;         ///< of the bootstrap loss
  double boundary_fraction = 0.25;                          ///< share of the batch at t_max
  double ema = 0.999;                                       ///< decay of the average that is kept
  std::uint64_t seed = 0;                                   ///< of everything random
  std::string folder = {};                                  ///< for logs
};

/// What a distillation cost.
struct distillation_result {
  network student;             ///< averaged weights
  double seconds = 0;          ///< of training
  double teacher_samples = 0;  ///< samples the teacher saw
};

/// Distils `teacher` (a network, or a guided one) starting from the weights of `start`.
template <class Teacher>
distillation_result distil(const boot::cpu& dev, const Teacher& teacher, const network& start,
                           const distillation_options& o) {
  network student = boot::student_of(dev, start, 0, o.seed);
  boot::bootstrap loss(
      teacher, student, schedule(),
      boot::bootstrap_options{
          .delta = o.delta, .boundary_fraction = o.boundary_fraction, .target = o.target, .weight = o.weight},
      boot::label_source(classes));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = o.steps,
                           .batch = o.batch,
                           .seed = o.seed,
                           .rate = {.peak = o.rate},
                           .optimizer = {.averages = {{.decay = o.ema}}},
                           .folder = o.folder,
                           .report_every = std::max<std::int64_t>(1, o.steps / 10)}};
  const auto result = trainer.run();
  boot::require(result.finished, "digits: the distillation was stopped after {} of {} steps; start it again",
                result.step, o.steps);
  return {student.clone(dev, trainer.optimizer().average(0)), result.seconds,
          loss.describe(o.batch).teacher_samples * static_cast<double>(o.steps)};
}

}  // namespace digits
