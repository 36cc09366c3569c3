// SPDX-License-Identifier: MIT
// The tabular student keeps the Student contract, and a few hundred steps on a small table reach the teacher's own chain.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/optim/learning_rate.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/tabular.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using table = boot::testing::tabular<float>;
static_assert(boot::Student<table, boot::cpu> && boot::Student<boot::testing::tabular<double>, boot::cpu>);
const boot::cpu dev;
const boot::cosine_schedule schedule;

}  // namespace

TEST_CASE("rows are found by their noise, in any order, and gradients go back to them", "[testing][tabular]") {
  table student(dev, schedule, {2}, 3, 4, 5);
  CHECK(student.sample_shape() == boot::shape{2});
  CHECK(student.position(0) == 1);
  CHECK(student.position(4) == 0);
  const float sigma = static_cast<float>(schedule.sigma(schedule.t_max()));
  std::vector<float> x;
  for (const std::int64_t row : {2, 0, 2})
    for (int j = 0; j < 2; ++j) x.push_back(sigma * student.noise()[2 * row + j]);
  const double range = schedule.t_max() - schedule.t_min();
  std::vector<double> t;
  for (const int k : {1, 4, 3}) t.push_back(schedule.t_max() - range * k / 4);
  boot::times_buffer<boot::cpu, float> from, to;
  const auto& source = from.set(dev, student, schedule.t_max(), 3);
  const auto& target = to.set(dev, student, t);
  const boot::view<const float, boot::cpu> input{x.data(), {3, 2}};
  boot::tensor<float, boot::cpu> out(dev, {3, 2});
  student.predict(dev, input, source, target, boot::no_condition{}, out.get());
  for (std::int64_t j = 0; j < 2; ++j) {
    CHECK(out.get()[j] == student.at(2, 1)[j]);
    CHECK(out.get()[2 + j] == student.at(0, 4)[j]);
    CHECK(out.get()[4 + j] == student.at(2, 3)[j]);
  }
  auto tape = student.record(dev, input, source, target, boot::no_condition{});
  const std::vector<float> slope{1, 2, 3, 4, 5, 6};
  tape.backward(dev, {slope.data(), {3, 2}});
  float sum = 0;
  for (const float g : boot::to_host(dev, student.parameters().gradient())) sum += g;
  CHECK(sum == 21);
  CHECK(student.parameters().gradient()[(2 * 5 + 3) * 2 + 1] == 6);

  x[0] += 1;
  CHECK_THROWS_WITH(student.predict(dev, input, source, target, boot::no_condition{}, out.get()),
                    ContainsSubstring("not the start of any of its 3 noises"));
  x[0] -= 1;
  CHECK_THROWS_WITH(student.predict(dev, input, source, to.set(dev, student, 0.3, 3), boot::no_condition{}, out.get()),
                    ContainsSubstring("not on its grid of 4 steps"));
  CHECK_THROWS_AS(student.at(3, 0), boot::error);
  CHECK_THROWS_WITH(table(dev, schedule, {2}, 0, 4), ContainsSubstring("all must be positive"));
}

TEST_CASE("BOOT on a table ends at the teacher's DDIM chain", "[testing][tabular]") {
  constexpr std::int64_t rows = 6, steps = 5;
  const boot::gaussian_mixture teacher(schedule, {{1, {1.2, 0}, .3}, {2, {-.8, .9}, .4}});
  boot::testing::tabular<double> student(dev, schedule, {2}, rows, steps, 5);
  boot::bootstrap_options inner{.delta = 1.0 / steps, .boundary_weight = 0};
  inner.time.own = [](double, double progress) { return progress; };
  boot::bootstrap loss(teacher, student, schedule, inner);
  boot::bootstrap edge(teacher, student, schedule, boot::bootstrap_options{.boundary_fraction = 1});
  boot::adamw<double, boot::cpu> optimiser(dev, student.parameters(),
                                           {.epsilon = 1e-12, .weight_decay = 0, .clip_norm = 0, .averages = {}});
  boot::batch_request request{.seed = 5, .count = rows};
  for (int step = 0; step < 800; ++step) {
    boot::fill_zero(dev, student.parameters().gradient());
    for (std::int64_t k = 0; k < steps; ++k) {
      request.progress = student.position(k);
      static_cast<void>(loss(dev, request));
    }
    static_cast<void>(edge(dev, request));
    static_cast<void>(
        optimiser.step(dev, student.parameters(), boot::learning_rate({.peak = 0.05, .warmup_steps = 0}, step, 800)));
  }
  boot::times_buffer<boot::cpu, double> buffer;
  boot::tensor<double, boot::cpu> f(dev, {1, 2});
  for (std::int64_t m = 0; m < rows; ++m) {
    const double eps[2] = {student.noise()[2 * m], student.noise()[2 * m + 1]};
    double y[2] = {0, 0};
    for (std::int64_t k = 0; k <= steps; ++k) {
      const double range = schedule.t_max() - schedule.t_min();
      const double t = schedule.t_max() - range * static_cast<double>(k) / steps, a = schedule.alpha(t),
                   s = schedule.sigma(t);
      for (std::int64_t j = 0; k > 0 && j < 2; ++j) CHECK(student.at(m, k)[j] == Catch::Approx(y[j]).margin(1e-6));
      const double x[2] = {a * y[0] + s * eps[0], a * y[1] + s * eps[1]};
      teacher.predict(dev, boot::view<const double, boot::cpu>{x, {1, 2}}, buffer.set(dev, teacher, t, 1),
                      boot::no_condition{}, f.get());
      const double u = t - range / steps;
      for (std::int64_t j = 0; j < 2; ++j) {
        if (k == 0) CHECK(student.at(m, 0)[j] == Catch::Approx(f.get()[j]).margin(1e-6));
        if (k == 0) y[j] = f.get()[j];  // alpha is 0 at t_max, so the first step lands on f as well
        if (k > 0 && k < steps) y[j] += (1 - a * schedule.sigma(u) / (s * schedule.alpha(u))) * (f.get()[j] - y[j]);
      }
    }
  }
}
