// SPDX-License-Identifier: MIT
// The bits of one training, whatever the number of threads and however the noise of a batch is made: an unlabelled
// mixture in 16 dimensions, a normalised mlp, a Heun target, two averages, accumulation 2, progressive time. And
// unet_bit_equal, the same with a U-Net as teacher and student, on images of 8 x 8, with bf16 activations.
//
// Five runs are compared with a sixth, bit by bit: parameters, both moments, both averages, every step's loss and
// gradient norm, and 512 samples drawn at the end.
//   1, 2, 3 threads      the whole batch's noise in one call (the first repeats the reference)
//   2 splits             the noise of a part in two and in three calls over uneven ranges of its samples
// Splitting the batch itself (accumulation) is no part of this: a gradient is a sum over samples, and floating-point
// sums in another order have other bits. The noise, times and conditions of the parts are the same bits; that is what
// the splits show.
#include "measure/measure.hpp"
#include "measure/peer_networks.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace {
std::vector<double> noise_cuts;  // where the calls below cut a batch, as shares of it
int noise_calls = 0;             // pieces made, so that the run can prove it was cut
}  // namespace

namespace boot::inline v0 {
/// The overload that the objective finds for float on the host, better than the library's template: the same noise, made
/// in pieces. For this program only.
inline void fill_noise(const cpu& dev, const counter_key& key, std::span<const std::int64_t> samples,
                       view<float, cpu> out) {
  std::int64_t begin = 0;
  const auto piece = [&](std::int64_t end) {
    fill_noise<float>(dev, key, samples.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                      out.rows(begin, end - begin));
    begin = end;
    ++noise_calls;
  };
  for (const double cut : noise_cuts) piece(static_cast<std::int64_t>(cut * static_cast<double>(out.batch())));
  piece(out.batch());
}
}  // namespace boot::inline v0

namespace {

using boot::cpu;

struct outcome {
  std::string bits;
  int pieces = 0;  // noise calls
  double first_loss = 0, last_loss = 0;
};

template <class T>
void append_bits(std::string& to, const T* values, std::int64_t n) {
  to.append(reinterpret_cast<const char*>(values), static_cast<std::size_t>(n) * sizeof(T));
}

const boot::cosine_schedule times({0.001, 0.999});

/// The bits of a whole training.
template <class Teacher, class Student>
outcome train(const cpu& dev, const Teacher& teacher, Student& student, const std::vector<double>& cuts,
              std::uint64_t seed, std::int64_t batch, std::int64_t steps) {
  boot::bootstrap loss{teacher,
                       student,
                       times,
                       {.target = boot::target_solver::heun, .time = {.kind = boot::time_distribution::progressive}}};
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = batch,
                           .seed = seed,
                           .rate = {.peak = 1e-3},
                           .optimizer = {.averages = {{.decay = 0.99}, {.relative_width = 0.1}}},
                           .accumulation = 2,
                           .progress = boot::progress_mode::off}};
  outcome o;
  trainer.on_step([&](const boot::step_info& i) {
    for (const double v : {i.loss.total, i.loss.part[0].second, i.loss.part[1].second, i.gradient_norm})
      append_bits(o.bits, &v, 1);
    if (i.step == 0) o.first_loss = i.loss.total;
    o.last_loss = i.loss.total;
  });
  noise_cuts = cuts;
  noise_calls = 0;
  trainer.run();
  o.pieces = noise_calls;
  noise_cuts.clear();
  const auto add = [&](boot::view<float, cpu> v) { append_bits(o.bits, v.data(), v.size()); };
  add(student.parameters().values());
  add(trainer.optimizer().first_moment());
  add(trainer.optimizer().second_moment());
  for (std::size_t i = 0; i < trainer.optimizer().average_count(); ++i) add(trainer.optimizer().average(i));
  // Samples of the averaged student: the network's raw output at t_min for fresh noise.
  constexpr std::int64_t count = 512;
  std::vector<std::int64_t> numbers(count);
  for (std::int64_t i = 0; i < count; ++i) numbers[static_cast<std::size_t>(i)] = i;
  const boot::shape all = student.sample_shape().batched(count);
  boot::tensor<float, cpu> noise(dev, all), out(dev, all);
  boot::fill_noise(dev, {seed + 1, boot::stream::noise, 0}, std::span<const std::int64_t>(numbers), noise.get());
  const auto sampler = trainer.average_model(0);
  boot::times_buffer<cpu, float> from, to;
  sampler.predict(dev, std::as_const(noise).get(), from.set(dev, sampler, times.t_max(), count),
                  to.set(dev, sampler, times.t_min(), count), boot::no_condition{}, out.get());
  add(out.get());
  return o;
}

outcome train_mlp(int threads, const std::vector<double>& cuts, std::uint64_t seed, bool quick) {
  const cpu dev{threads};
  constexpr std::int64_t features = 16;
  std::vector<boot::mixture_component> components;
  for (std::uint64_t k = 0; k < 6; ++k) {
    boot::mixture_component c{1, std::vector<double>(features), 0.2, 0};
    for (std::uint64_t i = 0; i < features; ++i)
      c.mean[i] = 0.9 * static_cast<double>(boot::normal({seed, boot::stream::test, 0}, k, i));
    components.push_back(c);
  }
  const boot::gaussian_mixture teacher(times, components);
  boot::network_model student(dev,
                              boot::mlp({.features = features,
                                         .width = 192,
                                         .hidden_layers = 3,
                                         .time_scale = 1000,
                                         .target_time = true,
                                         .normalise = true}),
                              {boot::prediction_kind::v}, seed);
  // The batch is no multiple of anything: pieces of all sizes.
  return train(dev, teacher, student, cuts, seed, 403, quick ? 20 : 400);
}

outcome train_unet(int threads, const std::vector<double>& cuts, std::uint64_t seed, bool quick) {
  const cpu dev{threads};
  const auto teacher = boot::network_model<boot::unet2d, cpu, float, boot::bf16>(dev, boot::measure::digits8(),
                                                                                 {boot::prediction_kind::v}, seed);
  auto student = boot::student_of(dev, teacher, 0, seed + 1);
  return train(dev, teacher, student, cuts, seed, 27, quick ? 10 : 50);
}

/// Runs that equal a reference in every bit; worst of the seeds.
template <class Train>
int runs_equal(boot::measure::measure_report& report, const char* network, const Train& train_once) {
  struct run_spec {
    const char* name;
    int threads;
    std::vector<double> cuts;
  };
  const std::vector<run_spec> runs{{"1 thread", 1, {}},
                                   {"2 threads", 2, {}},
                                   {"3 threads", 3, {}},
                                   {"noise in 2 calls", 2, {0.37}},
                                   {"noise in 3 calls", 2, {0.11, 0.8}}};
  int worst = static_cast<int>(runs.size());
  for (const std::uint64_t seed : report.seeds()) {
    const outcome reference = train_once(1, {}, seed, report.quick());
    report.progress("{} seed {}: the reference went from loss {:.4g} to {:.4g}", network, seed, reference.first_loss,
                    reference.last_loss);
    report.config(fmt::format("{} compared bytes per run", network), reference.bits.size());
    int equal = 0;
    for (const run_spec& r : runs) {
      const outcome o = train_once(r.threads, r.cuts, seed, report.quick());
      const bool same = o.bits == reference.bits;
      boot::require(o.pieces == reference.pieces * static_cast<int>(r.cuts.size() + 1),
                    "measure threads: the noise was made in {} calls, {} were wanted: the split did not take place",
                    o.pieces, reference.pieces * static_cast<int>(r.cuts.size() + 1));
      equal += same ? 1 : 0;
      report.progress("{} seed {}, {}: {}", network, seed, r.name, same ? "equal" : "DIFFERENT");
      report.beside(fmt::format("{}, {}, seed {}: equal", network, r.name, seed), same ? 1 : 0);
    }
    worst = equal < worst ? equal : worst;
    // The comparison must be able to fail: another seed has other bits, and as many.
    const outcome other = train_once(2, {}, seed + 1000, report.quick());
    boot::require(other.bits.size() == reference.bits.size() && other.bits != reference.bits,
                  "measure threads: another seed gave the same bits; the comparison sees nothing");
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "threads",
      {{"bit_equal", "== 5", "runs on 1, 2, 3 threads and 2 noise splits that equal one in every bit: MLP"},
       {"unet_bit_equal", "== 5", "the same: U-Net, bf16 activations"}},
      {1});
  if (const auto status = report.parse(argc, argv)) return *status;
  report.config("openmp", BOOT_HAS_OPENMP);
  if (report.wants("bit_equal")) report.row("bit_equal", runs_equal(report, "mlp", train_mlp));
  if (report.wants("unet_bit_equal")) report.row("unet_bit_equal", runs_equal(report, "unet", train_unet));
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
