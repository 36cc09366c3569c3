// SPDX-License-Identifier: MIT
// The captured step of boot::cuda with activations in bf16 against PyTorch's on the same card: the same network, batch and
// work, alternating rounds in one run. The worst of U-Nets and batches counts. Both sides time their plans first. A case
// that an earlier run of this program has finished is not run again, so a run that was cut off can be continued.
//
// Memory is what either side's allocator had given out at most: the driver's pool here, PyTorch's own there.
#include "measure/measure.hpp"
#include "measure/peer.hpp"
#include "measure/peer_networks.hpp"
#include "measure/peer_step.hpp"
#include "measure/torch_peer.hpp"

#include <boot/bench/statistics.hpp>
#include <boot/train/distiller.hpp>
#include <boot_cuda.cuh>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using boot::bf16;
using boot::cuda;
using boot::measure::json;

/// The library's step: replayed by the loop.
class own_step {
 public:
  own_step(const cuda& dev, const boot::unet2d& network, std::int64_t batch)
      : dev_(dev),
        batch_(batch),
        teacher_(dev, network, boot::prediction{boot::prediction_kind::v}, 1),
        student_(boot::student_of(dev, teacher_)),
        objective_(teacher_, student_, schedule_, boot::measure::peer_objective(schedule_)),
        trainer_(dev, objective_,
                 {.steps = std::int64_t{1} << 40,
                  .batch = batch,
                  .seed = 3,
                  .rate = {.peak = boot::measure::peer_rate},
                  .optimizer = boot::measure::peer_optimizer(),
                  .sample_every = std::int64_t{1} << 40,
                  .progress = boot::progress_mode::off,
                  .handle_signals = false}),
        forecast_(trainer_.plan().run_bytes) {}

  /// Bytes that plan() forecasts for the run, and that it holds.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> held() { return {forecast_, trainer_.run(done_).live_bytes}; }
  /// Mean seconds of `steps` steps, the device's end included.
  double operator()(std::int64_t steps) {
    boot::synchronize(dev_);
    const auto begin = std::chrono::steady_clock::now();
    done_ += steps;
    loss_ = trainer_.run(done_).loss.total;
    boot::synchronize(dev_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(steps);
  }
  [[nodiscard]] double loss() const { return loss_; }
  [[nodiscard]] std::int64_t replayed() const { return trainer_.replayed_steps(); }
  /// Matrix products of one step, 2 per multiply-add.
  [[nodiscard]] double flop() const {
    const auto inner =
        batch_ - static_cast<std::int64_t>(boot::measure::peer_boundary_fraction * static_cast<double>(batch_));
    const auto target = student_.plan(dev_, inner, boot::no_condition{}, false, true, false);
    const auto taught = teacher_.plan(dev_, batch_, boot::no_condition{}, false, false, false);
    const auto trained = student_.plan(dev_, batch_, boot::no_condition{}, true, true, false);
    return target.forward_flop + taught.forward_flop + trained.forward_flop + trained.backward_flop;
  }

 private:
  using model = boot::network_model<boot::unet2d, cuda, float, bf16>;
  cuda dev_;
  std::int64_t batch_;
  boot::cosine_schedule schedule_;
  model teacher_, student_;
  boot::bootstrap<model, model, boot::cosine_schedule> objective_;
  boot::distiller<boot::bootstrap<model, model, boot::cosine_schedule>, cuda> trainer_;
  std::int64_t forecast_ = 0, done_ = 0;
  double loss_ = 0;
};

/// What all cases share.
struct surroundings {
  boot::measure::measure_report& report;
  std::string python, script;
  std::int64_t steps;
  int rounds, autotune;
};

/// The ratio of one case to the fastest of `variants`, and of its memory to that variant's.
struct comparison {
  double time = 0, memory = 0;
};

json measured(const surroundings& s, const char* name, const boot::unet2d& network, std::int64_t batch,
              const std::vector<const char*>& variants) {
  // A process per case: PyTorch keeps what it built, and its peak counts from the start.
  boot::measure::peer torch({s.python, s.script, "--serve", "--case", name, "--device", "cuda"},
                            {.ready_seconds = 120, .request_seconds = 400});
  const auto ask = [&](const char* variant, std::int64_t warmup) {
    return torch.request(nlohmann::json{{"case", name},
                                        {"variant", variant},
                                        {"batch", batch},
                                        {"boundary_fraction", boot::measure::peer_boundary_fraction},
                                        {"steps", s.steps},
                                        {"warmup", warmup}});
  };
  const std::string label = fmt::format("{}, batch {}", name, batch);
  struct contender {
    const char* variant;
    std::vector<double> seconds;
    double flop = 0, bytes = 0;
  };
  std::vector<contender> contenders;
  for (const char* const variant : variants) {
    const nlohmann::json answer = ask(variant, 5);
    if (answer.contains("unavailable")) {
      s.report.beside(fmt::format("{}: {} is unavailable", label, variant), answer["unavailable"]);
      continue;
    }
    contenders.push_back(
        {variant, {}, answer.at("flop_per_step").get<double>(), answer.at("peak_device_bytes").get<double>()});
  }
  boot::require(!contenders.empty(), "measure cuda_torch: {}: no variant of the peer runs", label);

  const boot::cuda_stream stream;  // its scratch memory and plans are this case's own
  cuda dev = stream.device();
  dev.autotune = s.autotune;
  const auto before = boot::cuda_pool_use().used_bytes;
  own_step own(dev, network, batch);
  const double flop_ratio = own.flop() / contenders.front().flop;
  boot::require(flop_ratio >= 0.99 && flop_ratio <= 1.01,
                "measure cuda_torch: {}: our step has {} FLOP, {:.4f} times the peer's; 0.99 to 1.01 is allowed", label,
                own.flop(), flop_ratio);
  static_cast<void>(own(10));    // written, captured, rehearsed
  boot::reset_cuda_pool_peak();  // what timing plans took is gone by now
  const auto warm = own.replayed();
  std::vector<double> seconds;
  for (int round = 0; round < s.rounds; ++round) {
    const bool first = round % 2 == 0;
    if (first) seconds.push_back(own(s.steps));
    for (contender& one : contenders) one.seconds.push_back(ask(one.variant, 0).at("median").get<double>());
    if (!first) seconds.push_back(own(s.steps));
  }
  boot::require(own.replayed() - warm == s.steps * s.rounds && std::isfinite(own.loss()),
                "measure cuda_torch: {}: {} of {} steps were replayed, the last loss is {}", label,
                own.replayed() - warm, s.steps * s.rounds, own.loss());
  const auto median = [](const std::vector<double>& v) { return boot::bench::summarize(v).median; };
  const contender* fastest = contenders.data();
  for (const contender& one : contenders)
    if (median(one.seconds) < median(fastest->seconds)) fastest = &one;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < seconds.size(); ++i) ratios.push_back(seconds[i] / fastest->seconds[i]);
  const auto bytes = static_cast<double>(boot::cuda_pool_use().peak_bytes - before);
  const auto [forecast, held] = own.held();
  json all = {{"milliseconds", 1e3 * median(seconds)},
              {"bytes", bytes},
              {"flop_ratio", flop_ratio},
              {"against", fastest->variant},
              {"time", boot::bench::summarize(ratios).median},
              {"memory", bytes / fastest->bytes},
              {"bytes_held", held},
              {"bytes_forecast", forecast},
              {"tflop_per_second", own.flop() / median(seconds) * 1e-12}};
  for (const contender& one : contenders) {
    all[std::string(one.variant) + "_milliseconds"] = 1e3 * median(one.seconds);
    all[std::string(one.variant) + "_bytes"] = one.bytes;
  }
  s.report.progress("{}: {}", label, all.dump());
  all["torch_version"] = torch.ready().value("torch_version", "unknown");
  return all;
}

comparison compare(const surroundings& s, const char* name, const boot::unet2d& network, std::int64_t batch,
                   const std::vector<const char*>& variants) {
  std::string label = fmt::format("{}, batch {}", name, batch);
  for (const char* const variant : variants) label = fmt::format("{}, {}", label, variant);
  const json all = s.report.cached(label + " on " + boot::cuda_device_name(),
                                   [&] { return measured(s, name, network, batch, variants); });
  s.report.beside(label, all);
  return {all.at("time"), all.at("memory")};
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_torch",
      {{"step_vs_eager_bf16", "<= .5", "captured bf16 step / PyTorch's bf16, worst of the U-Nets and batches"},
       {"memory_vs_torch", "<= .7", "peak device bytes of that step / PyTorch's"},
       {"step_vs_cudagraph_bf16", "<= .85", "the same step / the faster of compile_bf16 and cudagraph_bf16"}});
  const boot::measure::torch_peer torch(report);
  std::vector<std::string> cases{"tiny32", "cifar10"};
  std::vector<std::int64_t> batches{64, 256};
  std::int64_t steps = 10;
  int rounds = 5, autotune = 10;
  report.app().add_option("--case", cases, "tiny32, cifar10 (both)")->check(CLI::IsMember({"tiny32", "cifar10"}));
  report.app().add_option("--batch", batches, "samples per step (64 and 256)")->check(CLI::PositiveNumber);
  report.app().add_option("--steps", steps, "steps of each side in a round")->check(CLI::PositiveNumber);
  report.app().add_option("--rounds", rounds, "alternating rounds")->check(CLI::PositiveNumber);
  report.app().add_option("--autotune", autotune, "plans of ours that are timed (10), as PyTorch times its own");
  if (const auto status = report.parse(argc, argv)) return *status;
  boot::require(boot::cuda_device_count() > 0, "measure cuda_torch: no CUDA device; it compares steps on one");
  report.config("card", boot::cuda_device_name());
  report.config("cases", cases);
  report.config("batches", batches);
  report.setting("steps", steps);
  report.setting("rounds", rounds);
  report.setting("autotune", autotune);
  const surroundings s{report, torch.python(), torch.script("boot_torch.py"), steps, rounds, autotune};
  comparison eager, graphs;
  const auto worse = [](comparison& worst, const comparison& one) {
    worst = {std::max(worst.time, one.time), std::max(worst.memory, one.memory)};
  };
  for (const std::string& name : cases)
    for (const std::int64_t batch : batches) {
      const boot::unet2d network = name == "cifar10" ? boot::measure::cifar10() : boot::measure::tiny32();
      if (report.wants_any({"step_vs_eager_bf16", "memory_vs_torch"}))
        worse(eager, compare(s, name.c_str(), network, batch, {"bf16"}));
      if (report.wants("step_vs_cudagraph_bf16"))
        worse(graphs, compare(s, name.c_str(), network, batch, {"compile_bf16", "cudagraph_bf16"}));
    }
  if (report.wants("step_vs_eager_bf16")) report.row("step_vs_eager_bf16", eager.time);
  if (report.wants("memory_vs_torch")) report.row("memory_vs_torch", eager.memory);
  if (report.wants("step_vs_cudagraph_bf16")) report.row("step_vs_cudagraph_bf16", graphs.time);
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
