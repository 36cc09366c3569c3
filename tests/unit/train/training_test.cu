// SPDX-License-Identifier: MIT
// Distillation on boot::cuda: replayed steps have the bits of plain ones, and the losses are boot::cpu's.
#include "checkpoint_moves.hpp"
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/sources.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>
#include <boot_cuda.cuh>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct outcome {
  std::vector<float> weights, average;
  std::vector<double> losses;
  std::vector<std::string> messages;
  std::int64_t replayed = 0;
};

template <class D>
outcome train(const D& dev, bool capture, std::int64_t steps) {
  const boot::network_model<boot::mlp, D, float> inner(
      dev, boot::mlp({.features = 8, .width = 64, .hidden_layers = 2, .classes = 3}), {boot::prediction_kind::v}, 5);
  auto student = boot::student_of(dev, inner);
  boot::bootstrap loss(inner, student, boot::cosine_schedule({.t_min = 0.02, .t_max = 0.98}), {.delta = 0.05},
                       boot::label_source<D>(3));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = 64,
                           .seed = 7,
                           .rate = {.peak = 1e-3},
                           .sample_every = 10,
                           .progress = boot::progress_mode::off,
                           .handle_signals = false,
                           .capture = capture}};
  outcome result;
  trainer.on_message([&](std::string_view text) { result.messages.emplace_back(text); });
  trainer.on_sample([&](const boot::step_info& info) { result.losses.push_back(info.loss.total); });
  result.losses.push_back(trainer.run(1).loss.total);
  trainer.run();
  result.weights = boot::to_host(dev, student.parameters().values());
  result.average = boot::to_host(dev, trainer.optimizer().average());
  result.replayed = trainer.replayed_steps();
  return result;
}

}  // namespace

TEST_CASE("replayed steps on a device have the bits of plain ones", "[train][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const outcome plain = train(stream.device(), false, 100), captured = train(stream.device(), true, 100),
                again = train(stream.device(), true, 100);
  CHECK(plain.replayed == 0);
  CHECK(captured.replayed > 90);
  CHECK(captured.messages.empty());
  CHECK(captured.weights == plain.weights);
  CHECK(captured.average == plain.average);
  CHECK(captured.losses == plain.losses);
  CHECK(again.weights == captured.weights);
}

TEST_CASE("plan() on a device forecasts what the run holds there", "[train][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const boot::network_model<boot::mlp, boot::cuda, float> inner(
      dev, boot::mlp({.features = 64, .width = 512, .hidden_layers = 4}), {boot::prediction_kind::v}, 5);
  auto student = boot::student_of(dev, inner);
  boot::bootstrap loss(inner, student, boot::cosine_schedule{});
  boot::distiller trainer{dev, loss, {.steps = 20, .batch = 256, .progress = boot::progress_mode::off}};
  const boot::training_plan forecast = trainer.plan();
  const auto used = boot::cuda_pool_use();
  const boot::run_result r = trainer.run();
  CHECK(trainer.replayed_steps() == 18);
  CHECK(std::abs(static_cast<double>(r.live_bytes) / static_cast<double>(forecast.run_bytes) - 1) < 0.1);
  CHECK(used.used_bytes > 0);  // the driver's own count, rounded up block by block
  CHECK(boot::cuda_pool_use().peak_bytes >= r.live_bytes);
}

TEST_CASE("the first step on a device has the loss of boot::cpu", "[train][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const outcome device = train(stream.device(), true, 20), host = train(boot::cpu{}, true, 20);
  CHECK(std::abs(device.losses[0] / host.losses[0] - 1) < 1e-5);
  REQUIRE(device.losses.size() == host.losses.size());
  for (std::size_t i = 1; i < device.losses.size(); ++i) CHECK(std::abs(device.losses[i] / host.losses[i] - 1) < 1e-2);
}

TEST_CASE("a run goes on on another device, and is resumed exactly on its own", "[train][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  boot_test::check_checkpoint_moves(stream.device(), boot::cpu{});
  boot_test::check_checkpoint_moves(boot::cpu{}, stream.device());
}

TEST_CASE("without a device a training says so", "[train][cuda]") {
  if (boot::cuda_device_count() > 0) SKIP("this machine has a device");
  CHECK_THROWS_WITH(train(boot::cuda{}, true, 1), Catch::Matchers::ContainsSubstring("boot: CUDA: no device"));
}
