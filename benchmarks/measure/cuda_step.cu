// SPDX-License-Identifier: MIT
// Training steps of boot::cuda: their numbers against boot::cpu's, and what a replayed step costs the host.
//
// first_step_vs_cpu and drift_ratio: digits8 of the peer in float32 without TF32, the same seed on both devices. After 200
// steps the distance of the student's parameters is told as a multiple of the distance that a last bit in the initial
// parameters leads to on the CPU: training is chaotic, and that is what rounding alone does.
// host_us_per_step: CPU time of the training thread over replayed steps, whose device work is far longer.
#include "measure/measure.hpp"
#include "measure/peer_networks.hpp"
#include "measure/peer_step.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/train/distiller.hpp>
#include <boot_cuda.cuh>

#include <vector>

namespace {

using boot::cpu;
using boot::cuda;

/// Teacher, student, objective and the loop around them; the parameters of the loop are the peer's.
template <class D, class Network>
class training {
 public:
  training(const D& dev, const Network& network, std::int64_t batch, std::int64_t steps)
      : dev_(dev),
        teacher_(dev, network, boot::prediction{boot::prediction_kind::v}, 1),
        student_(boot::student_of(dev, teacher_)),
        objective_(teacher_, student_, schedule_, boot::measure::peer_objective(schedule_)),
        trainer_(dev, objective_,
                 {.steps = steps,
                  .batch = batch,
                  .seed = 3,
                  .rate = {.peak = boot::measure::peer_rate},
                  .optimizer = boot::measure::peer_optimizer(),
                  .sample_every = steps,
                  .progress = boot::progress_mode::off,
                  .handle_signals = false}) {}

  /// Goes on until `steps` steps are done; the loss of the last one.
  double run_until(std::int64_t steps) { return trainer_.run(steps).loss.total; }
  [[nodiscard]] std::int64_t replayed() const { return trainer_.replayed_steps(); }
  [[nodiscard]] std::vector<float> parameters() const {
    return boot::to_host(dev_, std::as_const(student_).parameters().values());
  }
  /// Moves every initial parameter by one unit in its last place; on the host.
  void move_parameters() {
    const auto values = student_.parameters().values();
    for (std::int64_t i = 0; i < values.size(); ++i) values.data()[i] = std::nextafter(values.data()[i], 2.0f);
  }

 private:
  using model = boot::network_model<Network, D, float>;
  D dev_;
  boot::cosine_schedule schedule_;
  model teacher_, student_;
  boot::bootstrap<model, model, boot::cosine_schedule> objective_;
  boot::distiller<boot::bootstrap<model, model, boot::cosine_schedule>, D> trainer_;
};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  boot::require(a.size() == b.size() && !a.empty(), "measure cuda_step: {} and {} parameters", a.size(), b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return std::sqrt(sum);
}

double thread_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Wall and host time of a replayed step.
struct step_time {
  double milliseconds = 0, host_microseconds = 0;
};

template <class Network>
step_time replayed_step(const cuda& dev, const Network& network, std::int64_t batch, std::int64_t steps) {
  training<cuda, Network> one(dev, network, batch, 2 * steps);
  static_cast<void>(one.run_until(steps));
  boot::synchronize(dev);
  const std::int64_t before = one.replayed();
  const double host = thread_seconds(), wall = wall_seconds();
  static_cast<void>(one.run_until(2 * steps));
  boot::synchronize(dev);
  const step_time t{1e3 * (wall_seconds() - wall) / static_cast<double>(steps),
                    1e6 * (thread_seconds() - host) / static_cast<double>(steps)};
  boot::require(one.replayed() - before == steps, "measure cuda_step: {} of {} steps were replayed",
                one.replayed() - before, steps);
  return t;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_step",
      {{"first_step_vs_cpu", "<= 1e-5", "relative difference of the first step's losses, float32 on both devices"},
       {"drift_ratio", "<= 3", "distance of the parameters after 200 steps / what a last bit leads to on the CPU"},
       {"host_us_per_step", "<= 20", "microseconds of the host's thread per replayed step, tiny32, batch 64"}});
  if (const auto status = report.parse(argc, argv)) return *status;
  const boot::cuda_stream stream;
  const cuda dev = stream.device();
  report.config("card", boot::cuda_device_name());
  const std::int64_t steps = report.quick() ? 20 : 200, batch = 64;
  report.config("steps", steps);

  if (report.wants("first_step_vs_cpu") || report.wants("drift_ratio")) {
    const auto network = boot::measure::digits8();
    training<cuda, boot::unet2d> device(dev, network, batch, steps);
    training<cpu, boot::unet2d> host(cpu{}, network, batch, steps), moved(cpu{}, network, batch, steps);
    moved.move_parameters();
    const double have = device.run_until(1), want = host.run_until(1);
    report.row("first_step_vs_cpu", std::abs(have / want - 1), fmt::format("{:.9g} against {:.9g}", have, want));
    static_cast<void>(device.run_until(steps));
    static_cast<void>(host.run_until(steps));
    report.progress("the CPU's {} steps are done, once more from parameters moved by a last bit", steps);
    static_cast<void>(moved.run_until(steps));
    const double drift = distance(device.parameters(), host.parameters());
    const double unit = distance(moved.parameters(), host.parameters());
    boot::require(unit > 0, "measure cuda_step: moving the initial parameters changed nothing");
    report.row("drift_ratio", drift / unit, fmt::format("{:.3g} against {:.3g}", drift, unit));
  }
  if (report.wants("host_us_per_step")) {
    const auto network = boot::measure::tiny32();
    const step_time t = replayed_step(dev, network, batch, steps);
    report.row("host_us_per_step", t.host_microseconds, fmt::format("a step takes {:.3f} ms", t.milliseconds));
    report.beside("tiny32, batch 64, float32: milliseconds", t.milliseconds);
    cuda fast = dev;
    fast.tf32 = true;
    report.beside("tiny32, batch 64, TF32: milliseconds", replayed_step(fast, network, batch, steps).milliseconds);
    report.beside("tiny32, batch 256, TF32: milliseconds", replayed_step(fast, network, 256, steps).milliseconds);
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
