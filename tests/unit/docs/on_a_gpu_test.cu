// SPDX-License-Identifier: MIT
// The example of docs/on_a_gpu.md.
#include "support/catch.hpp"

#include <boot/io/parameters.hpp>
#include <boot/model/mlp.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>
#include <boot_cuda.cuh>

#include <cmath>
#include <string>
#include <vector>

namespace {

// example: run
template <class Network>
std::vector<float> distil(const Network& network, const std::string& teacher_file) {
  const boot::cuda_stream stream;  // lives longest: memory is given back in its order
  const boot::cuda dev = stream.device();
  using model = boot::network_model<Network, boot::cuda, float, boot::bf16>;  // activations in bf16, weights in float
  model teacher(dev, network, {boot::prediction_kind::v});
  if (!teacher_file.empty()) boot::load_parameters(dev, teacher_file, teacher.parameters());
  model student = boot::student_of(dev, teacher);
  const boot::cosine_schedule schedule;
  boot::bootstrap loss(teacher, student, schedule);
  boot::distiller trainer{dev, loss, {.steps = 100, .batch = 64}};
  fmt::print("{}", boot::to_string(trainer.plan()));  // bytes and seconds, before anything is trained
  trainer.run();

  boot::tensor<float, boot::cuda> images(dev, network.sample_shape().batched(16));
  boot::one_step_sample(dev, trainer.average_model(), schedule, boot::no_condition{}, boot::drawn_noise{1}, {},
                        images.get());
  return boot::to_host(dev, images.get());
}
// example-end: run

}  // namespace

TEST_CASE("the program of the GPU page trains and samples", "[docs][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const auto images = distil(boot::mlp({.features = 64, .width = 128, .hidden_layers = 2}), "");
  REQUIRE(images.size() == 16 * 64);
  for (const float v : images) REQUIRE(std::isfinite(v));
}

TEST_CASE("without a device the program of the GPU page says so", "[docs][cuda]") {
  if (boot::cuda_device_count() > 0) SKIP("this machine has a device");
  CHECK_THROWS_WITH(distil(boot::mlp({.features = 4, .width = 8, .hidden_layers = 1}), ""),
                    Catch::Matchers::ContainsSubstring("boot: CUDA: no device"));
}
