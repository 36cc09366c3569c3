// SPDX-License-Identifier: MIT
/// Every objective on another device against boot::cpu: the loss and the gradient of a batch.
#pragma once

#include "support/catch.hpp"
#include "support/distance.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/model/guided.hpp>
#include <boot/model/mlp.hpp>
#include <boot/model/student.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/objective/progressive_distillation.hpp>
#include <boot/objective/sources.hpp>
#include <boot/schedule/cosine.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace boot_test {

/// Per objective the gradient of the student's parameters, and the loss.
template <class D>
std::vector<std::vector<float>> gradients_of_all(const D& dev) {
  using network = boot::network_model<boot::mlp, D, float>;
  const auto make = [&] {
    return network(dev, boot::mlp({.features = 5, .width = 8, .hidden_layers = 1, .classes = 3}),
                   {boot::prediction_kind::v}, 5);
  };
  const boot::cosine_schedule plan({.t_min = 0.02, .t_max = 0.98});
  const network inner = make();
  const auto teacher = boot::guided(inner, 2.0);
  network student = boot::student_of(dev, inner);
  const boot::label_source<D> labels(3);
  std::vector<std::vector<float>> all;
  const auto run = [&](auto&& objective, network& trained) {
    boot::fill_zero(dev, trained.parameters().gradient());
    const boot::loss_report loss = objective(dev, boot::batch_request{.seed = 3, .step = 1, .count = 3});
    all.push_back(boot::to_host(dev, trained.parameters().gradient()));
    REQUIRE(std::isfinite(loss.total));
    all.back().push_back(static_cast<float>(loss.total));
  };
  run(boot::bootstrap(teacher, student, plan, {}, labels), student);
  run(boot::fixed_point(teacher, student, plan, {}, labels), student);
  run(boot::knowledge_distillation(teacher, student, plan, {.steps = 2}, labels), student);
  run(boot::progressive_distillation(teacher, student, plan, {.first_steps = 2}, labels), student);
  std::vector<float> x(20);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) / 10;
  const auto data = boot::tensor_of<float>(dev, std::span<const float>(x), {4, 5});
  network own = make();
  run(boot::denoising(own, plan, data.get(), boot::denoising_options{}, boot::data_labels<D>({0, 1, 2, 1})), own);
  return all;
}

template <class D>
void check_objectives(const D& dev) {
  const auto found = gradients_of_all(dev), wanted = gradients_of_all(boot::cpu{});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CAPTURE(i);
    CHECK(relative_distance(found[i], wanted[i]) < 5e-6);
  }
}

}  // namespace boot_test
