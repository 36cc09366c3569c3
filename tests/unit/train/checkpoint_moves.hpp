// SPDX-License-Identifier: MIT
/// A run that begins on one device and goes on on another.
#pragma once

#include "support/catch.hpp"
#include "support/distance.hpp"
#include "support/io.hpp"

#include <boot/model/mlp.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/sources.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/checkpoint.hpp>
#include <boot/train/distiller.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace boot_test {

/// Parameters and average of a student.
struct run_state {
  std::vector<float> weights, average;
  std::int64_t step = 0;
  bool resumed = false;
};

/// Trains up to step `until` of 12, with checkpoints in `folder`; what was there when it began and at the end.
template <class D>
std::vector<run_state> run_part(const D& dev, const std::string& folder, bool resume, std::int64_t until) {
  using model = boot::network_model<boot::mlp, D, float>;
  const model teacher(dev, boot::mlp({.features = 3, .width = 16, .hidden_layers = 2, .classes = 3}),
                      {boot::prediction_kind::v}, 5);
  auto student = boot::student_of(dev, teacher);
  boot::bootstrap loss(teacher, student, boot::cosine_schedule({.t_min = 0.02, .t_max = 0.98}), {.delta = 0.1},
                       boot::label_source<D>(3));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = 12,
                           .batch = 16,
                           .seed = 7,
                           .rate = {.peak = 1e-2},
                           .progress = boot::progress_mode::off,
                           .handle_signals = false}};
  boot::checkpoints store(folder, {.every = 0});
  trainer.use(store);
  std::vector<run_state> states;
  const auto keep = [&](bool resumed) {
    states.push_back({boot::to_host(dev, student.parameters().values()),
                      boot::to_host(dev, trainer.optimizer().average()), trainer.step(), resumed});
  };
  keep(resume && trainer.resume());
  static_cast<void>(trainer.run(until));
  keep(states[0].resumed);
  return states;
}

/// The checkpoint of a run on `a` is read on `b` bit for bit, the run goes on there nearly as on `a`; and on `a` itself
/// exactly as if it had never stopped.
template <class A, class B>
void check_checkpoint_moves(const A& a, const B& b) {
  const temporary_folder folder;
  const run_state stopped = run_part(a, folder.path("run"), false, 7)[1];
  std::filesystem::copy(folder.path("run"), folder.path("same"), std::filesystem::copy_options::recursive);
  const auto there = run_part(b, folder.path("run"), true, 12);
  const auto same = run_part(a, folder.path("same"), true, 12);
  const run_state whole = run_part(a, folder.path("whole"), false, 12)[1];
  for (const auto& states : {there, same}) {
    CHECK(states[0].resumed);
    CHECK(states[0].step == 7);
    CHECK(states[0].weights == stopped.weights);
    CHECK(states[0].average == stopped.average);
    CHECK(states[1].step == 12);
  }
  CHECK(same[1].weights == whole.weights);
  CHECK(same[1].average == whole.average);
  CHECK(there[1].weights != stopped.weights);
  CHECK(relative_distance(there[1].weights, whole.weights) < 1e-4);
}

}  // namespace boot_test
