// SPDX-License-Identifier: MIT
/// What one student call is worth on real digits, against the teacher's own ODE; worst of the seeds.
#include "digits/distillation.hpp"
#include "digits/evaluation.hpp"
#include "measure/measure.hpp"

#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/dpm_solver.hpp>
#include <boot/sampler/one_step.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace {

using boot::measure::json;
using evaluator = digits::evaluator<digits::network>;

json to_json(const digits::figures& f) {
  return {{"pixels", f.pixels},
          {"features", f.features},
          {"held_out_pixels", f.held_out_pixels},
          {"held_out_features", f.held_out_features},
          {"rms", f.rms},
          {"precision", f.precision},
          {"recall", f.recall},
          {"coverage", f.coverage},
          {"class_share", f.class_share}};
}

class measurement {
 public:
  measurement(boot::measure::measure_report& report, digits::network teacher, std::string hash)
      : report_(report), dev_(report.device()), teacher_(std::move(teacher)), hash_(std::move(hash)) {}

  /// Figures of a solver with the teacher, cached.
  json solver(const std::string& name, const boot::sampler_options& options, int kind) {
    return report_.cached(fmt::format("{} teacher={}", name, hash_), [&] {
      auto& e = evaluate();
      digits::samples made(dev_, e.start().extents());
      const auto labels = digits::view_of(e.labels());
      if (kind == 0) boot::ddim_sample(dev_, teacher_, digits::schedule(), labels, e.start(), options, made.get());
      if (kind == 1)
        boot::dpm_solver_sample(dev_, teacher_, digits::schedule(), labels, e.start(), options, made.get());
      if (kind == 2) boot::heun_sample(dev_, teacher_, digits::schedule(), labels, e.start(), options, made.get());
      return to_json(e(dev_, made));
    });
  }
  json ddim(std::int64_t n) { return solver(fmt::format("DDIM-{}", n), {.steps = n}, 0); }
  /// Figures of the reference itself: the ODE's endpoints for the paired noise, against independent ODE samples.
  json floor() {
    return report_.cached(fmt::format("floor teacher={}", hash_), [&] {
      auto& e = evaluate();
      json f = to_json(e(dev_, e.endpoints()));
      f["train_to_held_out_pixels"] = e.train_to_held_out_pixels;
      f["train_to_held_out_features"] = e.train_to_held_out_features;
      f["classifier_accuracy"] = e.classifier_accuracy;
      return f;
    });
  }
  /// Figures of one distillation.
  json student(digits::distillation_options options) {
    const std::string key =
        fmt::format("student seed={} target={} teacher={} steps={}", options.seed,
                    options.target == boot::target_solver::heun ? "heun" : "euler", hash_, options.steps);
    return report_.cached(key, [&] {
      const auto distilled = digits::distil(dev_, teacher_, teacher_, options);
      auto& e = evaluate();
      digits::samples made(dev_, e.start().extents());
      boot::one_step_sample(dev_, distilled.student, digits::schedule(), digits::view_of(e.labels()), e.start(), {},
                            made.get());
      json f = to_json(e(dev_, made));
      f["seconds"] = distilled.seconds;
      f["teacher_samples"] = distilled.teacher_samples;
      return f;
    });
  }

 private:
  evaluator& evaluate() {
    if (!evaluator_)
      evaluator_ =
          std::make_unique<evaluator>(dev_, teacher_, digits::load((report_.root() / "examples/data").string()),
                                      boot::content_hash(std::as_const(teacher_).parameters().layout(),
                                                         std::as_const(teacher_).parameters().values()),
                                      report_.cache_folder().string(), report_.quick() ? 2048 : 8192,
                                      report_.quick() ? 4096 : 20000, report_.quick());
    return *evaluator_;
  }

  boot::measure::measure_report& report_;
  boot::cpu dev_;
  digits::network teacher_;
  std::string hash_;
  std::unique_ptr<evaluator> evaluator_;
};

int measure(int argc, char** argv) {
  boot::measure::measure_report report(
      "digits",
      {{"teacher_ok", "== 1", "class share >= .97, DDIM-50 <= 1.5 floors, DDIM-10 >= 3 DDIM-50 (pixels)"},
       {"pixels_vs_ddim10", "<= .78", "Frechet distance to the ODE in pixels, student / DDIM-10"},
       {"features_vs_ddim10", "<= .65", "the same in the classifier's features"},
       {"rms_vs_ddim4", "<= .85", "paired RMS to the ODE endpoint, student / DDIM-4"},
       {"precision", ">= .85", "k-NN precision against the ODE set, k = 5, pixels"},
       {"class_share_drop", "<= .01", "share given the asked class: ODE's minus student's"},
       {"heun_pixels_vs_ddim10", "<= .5", "Heun target: pixels"},
       {"heun_features_vs_ddim10", "<= .42", "Heun target: features"}},
      {0, 1, 2});
  digits::distillation_options options;
  std::string file;
  report.app().add_option("--teacher", file, "teacher file; default: the committed one");
  report.app().add_option("--steps", options.steps, "distillation steps")->check(CLI::PositiveNumber);
  report.app().add_option("--delta", options.delta, "bootstrap step");
  report.app().add_option("--rate", options.rate, "peak learning rate");
  report.app().add_option("--ema", options.ema, "decay of the average");
  report.app().add_option("--batch", options.batch, "samples per step");
  report.app().add_option("--boundary-fraction", options.boundary_fraction, "share of the batch at t_max");
  if (const auto status = report.parse(argc, argv)) return *status;
  if (report.quick()) options.steps = std::min<std::int64_t>(options.steps, 200);
  if (file.empty()) file = (report.root() / "examples/data/digits_teacher.safetensors").string();
  report.setting("steps", options.steps);
  report.setting("batch", options.batch);
  report.setting("delta", options.delta);
  report.setting("rate", options.rate);
  report.setting("ema", options.ema);
  report.setting("boundary_fraction", options.boundary_fraction);
  report.setting("weight", "upwind");

  digits::network teacher = digits::new_teacher(report.device());
  boot::load_parameters(file, teacher.parameters());
  const std::string hash = fmt::format("{:016x}", boot::content_hash(std::as_const(teacher).parameters().layout(),
                                                                     std::as_const(teacher).parameters().values()));
  report.config("teacher", hash);
  measurement m(report, std::move(teacher), hash);

  const json floor = m.floor();
  report.beside("floor", floor);
  const json four = m.ddim(4), ten = m.ddim(10);
  report.beside("DDIM-4", four);
  report.beside("DDIM-10", ten);
  if (!report.quick()) {
    report.beside("DDIM-25", m.ddim(25));
    report.beside("DPM-Solver++(2M)-10", m.solver("2M-10", {.steps = 10}, 1));
    report.beside("Heun-5", m.solver("Heun-5", {.steps = 5}, 2));
  }
  if (report.wants("teacher_ok")) {
    const json fifty = m.ddim(50);
    report.beside("DDIM-50", fifty);
    const bool ok = floor["class_share"] >= 0.97 &&
                    fifty["pixels"].get<double>() <= 1.5 * floor["pixels"].get<double>() &&
                    ten["pixels"].get<double>() >= 3 * fifty["pixels"].get<double>();
    report.row(
        "teacher_ok", ok ? 1 : 0,
        fmt::format("share {:.4f}, DDIM-50 / floor {:.2f}, DDIM-10 / DDIM-50 {:.2f}",
                    floor["class_share"].get<double>(), fifty["pixels"].get<double>() / floor["pixels"].get<double>(),
                    ten["pixels"].get<double>() / fifty["pixels"].get<double>()));
  }
  const auto ratio = [](const json& a, const json& b, const char* key) {
    return a[key].get<double>() / b[key].get<double>();
  };
  for (const auto target : {boot::target_solver::euler, boot::target_solver::heun}) {
    const bool heun = target == boot::target_solver::heun;
    if (heun ? !report.wants_any({"heun_pixels_vs_ddim10", "heun_features_vs_ddim10"})
             : !report.wants_any(
                   {"pixels_vs_ddim10", "features_vs_ddim10", "rms_vs_ddim4", "precision", "class_share_drop"}))
      continue;
    double pixels = 0, features = 0, rms = 0, precision = 1, drop = -1;
    for (const std::uint64_t seed : report.seeds()) {
      options.seed = seed;
      options.target = target;
      const json f = m.student(options);
      report.beside(fmt::format("{} seed {}", heun ? "heun" : "euler", seed), f);
      pixels = std::max(pixels, ratio(f, ten, "pixels"));
      features = std::max(features, ratio(f, ten, "features"));
      rms = std::max(rms, ratio(f, four, "rms"));
      precision = std::min(precision, f["precision"].get<double>());
      drop = std::max(drop, floor["class_share"].get<double>() - f["class_share"].get<double>());
    }
    const std::string prefix = heun ? "heun_" : "";
    const auto put = [&](const std::string& key, double value) {
      if (report.wants(key)) report.row(key, value);
    };
    put(prefix + "pixels_vs_ddim10", pixels);
    put(prefix + "features_vs_ddim10", features);
    if (heun) continue;
    put("rms_vs_ddim4", rms);
    put("precision", precision);
    put("class_share_drop", drop);
  }
  return report.finish();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return measure(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
