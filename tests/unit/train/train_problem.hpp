// SPDX-License-Identifier: MIT
/// A small problem for the tests of training: an exact mixture teacher, a narrow mlp, and ways to break them on demand.
#pragma once

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace boot_test {

using schedule = boot::cosine_schedule;
inline const boot::cpu one_thread{1};  // tests fork: no team of threads may be running

/// A fresh seed for every run of the tests; shown by INFO where it matters.
inline std::uint64_t fresh_seed() {
  std::random_device source;
  return (static_cast<std::uint64_t>(source()) << 32) | source();
}

/// The mixture teacher, NaN on chosen steps; `now` follows the run.
struct moody_teacher {
  boot::gaussian_mixture<schedule> inner;
  const std::set<std::int64_t>* bad = nullptr;
  const std::int64_t* now = nullptr;

  template <boot::ComputeScalar T>
  void predict(const boot::cpu& dev, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& t,
               const boot::no_condition& c, boot::view<T, boot::cpu> out) const {
    inner.predict(dev, x, t, c, out);
    if (bad != nullptr && bad->count(*now) > 0) out[out.size() / 2] = std::numeric_limits<T>::quiet_NaN();
  }
  [[nodiscard]] boot::prediction prediction() const { return inner.prediction(); }
  [[nodiscard]] boot::shape sample_shape() const { return inner.sample_shape(); }
};

using network = boot::network_model<boot::mlp>;
using base_loss = boot::bootstrap<moody_teacher, network, schedule>;

/// The bootstrap objective with a memory of its own: it counts begin_step() calls and sums what it saw.
struct remembering_loss : base_loss {
  using base_loss::base_loss;
  std::int64_t* now = nullptr;
  std::int64_t begun = 0;
  double seen = 0;
  std::vector<double> table = std::vector<double>(3, 0.0);
  std::string words = "first";
  int restored_calls = 0;

  void begin_step(const boot::cpu&, std::int64_t step, std::int64_t) {
    *now = step;
    ++begun;
    seen += 1 / static_cast<double>(step + 1);
    table[static_cast<std::size_t>(step % 3)] += seen;
  }
  [[nodiscard]] std::string fingerprint() const { return words; }
  template <class V>
  void visit_state(V& v) {
    v("begun", begun);
    v("seen", seen);
    v("table", boot::view<double, boot::cpu>(table.data(), {3}));
  }
  void restored(const boot::cpu&) { ++restored_calls; }
};

/// Everything one run needs.
struct problem {
  schedule times{{0.001, 0.999}};
  std::set<std::int64_t> bad;
  std::int64_t now = 0;
  moody_teacher teacher;
  network student;
  remembering_loss loss;

  explicit problem(std::uint64_t weights, std::int64_t width = 16)
      : teacher{boot::gaussian_mixture<schedule>(times, {{1, {1.0, 0.3}, 0.2, 0}, {2, {-0.8, -0.5}, 0.3, 1}}), &bad,
                &now},
        student(one_thread,
                boot::mlp({.features = 2,
                           .width = width,
                           .hidden_layers = 2,
                           .time = {.features = 8, .max_period = 8},
                           .time_scale = 8,
                           .target_time = true}),
                {boot::prediction_kind::v}, weights),
        loss(teacher, student, times,
             {.delta = 0.05, .boundary_fraction = 0.25, .time = {.kind = boot::time_distribution::progressive}}) {
    loss.now = &now;
  }
};

/// Options of a short run with everything on that has a state.
inline boot::distiller_options short_run(std::int64_t steps, std::uint64_t seed, std::int64_t batch = 24) {
  return {.steps = steps,
          .batch = batch,
          .seed = seed,
          .rate = {.peak = 3e-3, .warmup_steps = 4},
          .optimizer = {.averages = {{.decay = 0.9}, {.relative_width = 0.1}}},
          .accumulation = 2,
          .log_every = 4,
          .progress = boot::progress_mode::off};
}

/// The bits of a flat array.
template <class T>
std::string bits(boot::view<T, boot::cpu> v) {
  return {reinterpret_cast<const char*>(v.data()), static_cast<std::size_t>(v.size()) * sizeof(T)};
}
/// The bits of everything a run leaves behind in memory.
template <class Trainer>
std::string state_bits(Trainer& t) {
  std::string all = bits(t.student().parameters().values()) + bits(t.optimizer().first_moment()) +
                    bits(t.optimizer().second_moment());
  for (std::size_t i = 0; i < t.optimizer().average_count(); ++i) all += bits(t.optimizer().average(i));
  return all + std::to_string(t.optimizer().updates()) + "/" + std::to_string(t.step());
}

}  // namespace boot_test
