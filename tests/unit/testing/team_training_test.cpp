// SPDX-License-Identifier: MIT
/// Whole training steps with every kernel run by teams of threads: the same losses and weights as boot::cpu's own loops.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/optimizer.hpp>
#include <boot/model/guided.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/team/embedding.hpp>
#include <boot/nn/team/layer_norm.hpp>
#include <boot/nn/team/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/sources.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/team_device.hpp>
#include <boot/testing/team_products.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct outcome {
  std::vector<double> losses;
  std::vector<double> weights, average;
};

// Three steps of BOOT with a guided, class-conditional teacher, all on one device.
template <class T, class D>
outcome train(const D& dev, boot::target_solver target) {
  using network = boot::network_model<boot::mlp, D, T>;
  const network inner(dev, boot::mlp({.features = 3, .width = 24, .hidden_layers = 2, .classes = 4, .normalise = true}),
                      {boot::prediction_kind::v}, 5);
  const auto teacher = boot::guided(inner, 2.0);
  network student = boot::student_of(dev, inner);
  const boot::cosine_schedule schedule({.t_min = 0.02, .t_max = 0.98});
  boot::bootstrap loss(teacher, student, schedule, {.delta = 0.1, .target = target}, boot::label_source<D>(4));
  boot::adamw<T, D> optimizer(dev, student.parameters(), {.weight_decay = 0.01, .clip_norm = 0.5, .averages = {{}}});
  outcome result;
  for (std::int64_t step = 0; step < 3; ++step) {
    boot::fill_zero(dev, student.parameters().gradient());
    result.losses.push_back(loss(dev, {.seed = 11, .step = step, .first = 0, .count = 10}).total);
    CHECK_FALSE(optimizer.step(dev, student.parameters(), 1e-2).skipped);
  }
  for (const T w : boot::to_host(dev, student.parameters().values())) result.weights.push_back(static_cast<double>(w));
  for (const T w : boot::to_host(dev, optimizer.average())) result.average.push_back(static_cast<double>(w));
  return result;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double off = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    off += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(off / size);  // NaN stays NaN
}

}  // namespace

TEST_CASE("Three steps of BOOT by teams give boot::cpu's losses, weights and averages", "[testing][team]") {
  const auto target = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  const outcome want = train<double>(boot::cpu{1}, target), have = train<double>(boot::testing::team_device{}, target);
  CHECK(want.losses.front() > 0);
  CHECK(distance(have.losses, want.losses) < 1e-10);
  CHECK(distance(have.weights, want.weights) < 1e-10);
  CHECK(distance(have.average, want.average) < 1e-10);
  const outcome narrow = train<float>(boot::testing::team_device{}, target);
  CHECK(distance(narrow.losses, want.losses) < 1e-5);
}
