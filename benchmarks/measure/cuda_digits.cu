// SPDX-License-Identifier: MIT
// Digits end to end on a GPU: the example's teacher from its file, a student distilled on boot::cuda with the example's
// settings, and its samples, made on the device, judged by the host as `./run measure digits` judges the CPU's.
#include "digits/distillation.hpp"
#include "digits/evaluation.hpp"
#include "measure/measure.hpp"

#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot_cuda.cuh>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using boot::cpu;
using boot::cuda;
using boot::measure::json;

json to_json(const digits::figures& f) {
  return {{"pixels", f.pixels},       {"features", f.features}, {"rms", f.rms},
          {"precision", f.precision}, {"recall", f.recall},     {"class_share", f.class_share}};
}

/// Figures of a student and of what it is compared with.
struct outcome {
  digits::figures student, ddim4, ddim;
  double floor_share = 0;  ///< of the ODE's own samples
};

/// Distils on the device with activations of type A and judges on the host; `ddim_steps`: what pixels and features are
/// compared with.
template <class Network, class A>
outcome measure_network(boot::measure::measure_report& report, const cuda& dev, std::int64_t ddim_steps) {
  using choice = digits::choice<Network>;
  const std::string file = (report.root() / "examples/data" / choice::teacher_file).string();
  const std::int64_t steps = report.quick() ? 200 : choice::student.steps;

  boot::network_model<Network, cuda, float, A> teacher(dev, choice::network(), {boot::prediction_kind::v});
  boot::load_parameters(dev, file, teacher.parameters());
  auto student = boot::student_of(dev, teacher);
  const digits::distillation_options example;
  boot::bootstrap loss(teacher, student, digits::schedule(),
                       boot::bootstrap_options{.delta = example.delta,
                                               .boundary_fraction = example.boundary_fraction,
                                               .target = example.target,
                                               .weight = example.weight},
                       boot::label_source<cuda>(digits::classes));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = choice::student.batch,
                           .rate = {.peak = choice::student.rate},
                           .optimizer = {.averages = {{.decay = example.ema}}},
                           .report_every = std::max<std::int64_t>(1, steps / 10)}};
  const auto begin = std::chrono::steady_clock::now();
  const auto result = trainer.run();
  boot::synchronize(dev);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  boot::require(result.finished, "measure cuda_digits: stopped after {} of {} steps", result.step, steps);

  const cpu host = report.device();
  auto reference = digits::new_teacher<Network>(host);
  boot::load_parameters(file, reference.parameters());
  const auto& weights = std::as_const(reference).parameters();
  const std::uint64_t hash = boot::content_hash(weights.layout(), weights.values());
  digits::evaluator<digits::model<Network>> judge(host, reference,
                                                  digits::load((report.root() / "examples/data").string()), hash,
                                                  report.cache_folder().string(), digits::evaluation<Network>(true));
  // One call of the student on the device, from the judge's noise.
  const auto ids =
      boot::tensor_of<std::int32_t>(dev, std::span<const std::int32_t>(judge.labels()), {std::ssize(judge.labels())});
  const auto host_noise = boot::to_host(host, boot::view<const float, cpu>(judge.start()));
  const auto noise = boot::tensor_of<float>(dev, std::span<const float>(host_noise), judge.start().extents());
  boot::tensor<float, cuda> made(dev, judge.start().extents());
  boot::one_step_sample(dev, trainer.average_model(), digits::schedule(), boot::class_labels<cuda>{ids.get(), false},
                        noise.get(), {}, made.get());
  const auto numbers = boot::to_host(dev, std::as_const(made).get());
  const auto judged = [&](const digits::samples& s) { return judge(host, s); };
  const auto ddim = [&](std::int64_t n) {
    digits::samples to(host, judge.start().extents());
    boot::ddim_sample(host, reference, digits::schedule(), digits::view_of(judge.labels()), judge.start(), {.steps = n},
                      to.get());
    return judged(to);
  };
  outcome o;
  o.student = judged(boot::tensor_of<float>(host, std::span<const float>(numbers), judge.start().extents()));
  o.ddim4 = ddim(4);
  o.ddim = ddim(ddim_steps);
  o.floor_share = judged(judge.endpoints()).class_share;
  const char* const name = std::is_same_v<A, boot::bf16> ? "unet, bf16" : "mlp";
  json figures = to_json(o.student);
  figures["seconds"] = seconds;
  figures["steps"] = steps;
  figures["replayed_steps"] = trainer.replayed_steps();
  report.beside(fmt::format("{}: student", name), figures);
  report.beside(fmt::format("{}: DDIM-4", name), to_json(o.ddim4));
  report.beside(fmt::format("{}: DDIM-{}", name, ddim_steps), to_json(o.ddim));
  return o;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_digits",
      {{"pixels_vs_ddim10", "<= .78", "MLP in float: Frechet distance to the ODE in pixels, student / DDIM-10"},
       {"features_vs_ddim10", "<= .65", "the same in the classifier's features"},
       {"class_share_drop", "<= .01", "share given the asked class: ODE's minus student's"},
       {"unet_pixels_vs_ddim8", "<= .7", "U-Net with activations in bf16: pixels, student / DDIM-8"}});
  if (const auto status = report.parse(argc, argv)) return *status;
  boot::require(boot::cuda_device_count() > 0, "measure cuda_digits: no CUDA device; it trains on one");
  const boot::cuda_stream stream;
  report.config("card", boot::cuda_device_name());
  if (report.wants_any({"pixels_vs_ddim10", "features_vs_ddim10", "class_share_drop"})) {
    const outcome o = measure_network<boot::mlp, float>(report, stream.device(), 10);
    const auto put = [&](const char* key, double value) {
      if (report.wants(key)) report.row(key, value);
    };
    put("pixels_vs_ddim10", o.student.pixels / o.ddim.pixels);
    put("features_vs_ddim10", o.student.features / o.ddim.features);
    put("class_share_drop", o.floor_share - o.student.class_share);
  }
  if (report.wants("unet_pixels_vs_ddim8")) {
    const outcome o = measure_network<boot::unet2d, boot::bf16>(report, stream.device(), 8);
    report.row("unet_pixels_vs_ddim8", o.student.pixels / o.ddim.pixels);
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
