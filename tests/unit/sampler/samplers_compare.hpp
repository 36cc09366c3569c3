// SPDX-License-Identifier: MIT
/// Every sampler on another device against boot::cpu, from the same drawn noise.
#pragma once

#include "support/catch.hpp"
#include "support/distance.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/model/mlp.hpp>
#include <boot/model/student.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/ddpm.hpp>
#include <boot/sampler/dpm_solver.hpp>
#include <boot/sampler/heun.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/sampler/refined.hpp>
#include <boot/schedule/cosine.hpp>

#include <cstddef>
#include <vector>

namespace boot_test {

template <class D>
std::vector<std::vector<float>> samples_of_all(const D& dev) {
  const boot::network_model<boot::mlp, D, float> teacher(
      dev, boot::mlp({.features = 5, .width = 8, .hidden_layers = 1}), {boot::prediction_kind::v}, 5);
  const auto student = boot::student_of(dev, teacher);
  const boot::cosine_schedule plan({.t_min = 0.02, .t_max = 0.98});
  const boot::drawn_noise from{.seed = 4};
  const boot::no_condition none;
  std::vector<std::vector<float>> all;
  boot::tensor<float, D> memory(dev, {3, 5});
  const boot::view<float, D> out = memory.get();
  const auto keep = [&] { all.push_back(boot::to_host(dev, out)); };
  boot::ddim_sample(dev, teacher, plan, none, from, {.steps = 3, .threshold = 0.7, .eta = 0.5}, out);
  keep();
  boot::ddpm_sample(dev, teacher, plan, none, from, {.steps = 3, .threshold = 0.7}, out);
  keep();
  boot::heun_sample(dev, teacher, plan, none, from, {.steps = 3, .low = -1, .high = 1}, out);
  keep();
  boot::dpm_solver_sample(dev, teacher, plan, none, from, {.steps = 3}, out);
  keep();
  boot::one_step_sample(dev, student, plan, none, from, {}, out);
  keep();
  boot::refined_sample(dev, student, teacher, plan, none, from, {.threshold = 0.5}, out);
  keep();
  return all;
}

template <class D>
void check_samplers(const D& dev) {
  const auto found = samples_of_all(dev), wanted = samples_of_all(boot::cpu{});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CAPTURE(i);
    CHECK(relative_distance(found[i], wanted[i]) < 2e-6);
  }
}

}  // namespace boot_test
