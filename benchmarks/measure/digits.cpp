// SPDX-License-Identifier: MIT
/// What one student call is worth on real digits, against the teacher's own ODE; worst of the seeds.
#include "digits/distillation.hpp"
#include "digits/evaluation.hpp"
#include "measure/measure.hpp"

#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/dpm_solver.hpp>
#include <boot/sampler/one_step.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

using boot::measure::json;

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

double number(const json& figures, const char* key) { return figures[key].get<double>(); }
double ratio(const json& a, const json& b, const char* key) { return number(a, key) / number(b, key); }

enum class solver { ddim, dpm_solver, heun };

/// Figures of one network's teacher and of students, each kept once it is there.
template <class Network>
class measurement {
 public:
  measurement(boot::measure::measure_report& report, std::string file)
      : report_(report), dev_(report.device()), teacher_(digits::new_teacher<Network>(dev_)) {
    if (file.empty()) file = (report.root() / "examples/data" / digits::choice<Network>::teacher_file).string();
    boot::load_parameters(file, teacher_.parameters());
    const auto& weights = std::as_const(teacher_).parameters();
    hash_ = boot::content_hash(weights.layout(), weights.values());
  }

  /// Names the teacher.
  [[nodiscard]] std::string hash() const { return fmt::format("{:016x}", hash_); }

  /// Figures of a solver with the teacher.
  json sampled(const std::string& name, solver kind, std::int64_t steps) {
    return report_.cached(fmt::format("{} teacher={}", name, hash()), [&] {
      auto& e = evaluate();
      digits::samples made(dev_, e.start().extents());
      const auto labels = digits::view_of(e.labels());
      const auto schedule = digits::schedule();
      const boot::sampler_options o{.steps = steps};
      if (kind == solver::ddim) boot::ddim_sample(dev_, teacher_, schedule, labels, e.start(), o, made.get());
      if (kind == solver::dpm_solver)
        boot::dpm_solver_sample(dev_, teacher_, schedule, labels, e.start(), o, made.get());
      if (kind == solver::heun) boot::heun_sample(dev_, teacher_, schedule, labels, e.start(), o, made.get());
      return to_json(e(dev_, made));
    });
  }
  json ddim(std::int64_t n) { return sampled(fmt::format("DDIM-{}", n), solver::ddim, n); }
  /// Figures of the reference itself: the ODE's endpoints for the paired noise, against independent ODE samples.
  json floor() {
    return report_.cached(fmt::format("floor teacher={}", hash()), [&] {
      auto& e = evaluate();
      json f = to_json(e(dev_, e.endpoints()));
      f["train_to_held_out_pixels"] = e.train_to_held_out_pixels;
      f["train_to_held_out_features"] = e.train_to_held_out_features;
      f["classifier_accuracy"] = e.classifier_accuracy;
      return f;
    });
  }
  /// Figures of one distillation.
  json student(const digits::distillation_options& options) {
    const std::string key =
        fmt::format("student seed={} target={} teacher={} steps={}", options.seed,
                    options.target == boot::target_solver::heun ? "heun" : "euler", hash(), options.training.steps);
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
  using model = digits::model<Network>;

  digits::evaluator<model>& evaluate() {
    if (!evaluator_)
      evaluator_ = std::make_unique<digits::evaluator<model>>(
          dev_, teacher_, digits::load((report_.root() / "examples/data").string()), hash_,
          report_.cache_folder().string(), digits::evaluation<Network>(report_.quick()));
    return *evaluator_;
  }

  boot::measure::measure_report& report_;
  boot::cpu dev_;
  model teacher_;
  std::uint64_t hash_ = 0;
  std::unique_ptr<digits::evaluator<model>> evaluator_;
};

/// Rows of the students distilled in one way, by their keys; an empty key: no such row.
struct student_rows {
  std::string name;            ///< in what is put beside
  boot::target_solver target;  ///< of the bootstrap
  std::string pixels, features, rms = {}, precision = {}, class_share_drop = {};
};

/// What is measured of a network.
struct network_rows {
  std::string prefix;                  ///< of what is put beside
  std::string teacher_ok;              ///< key of the row
  std::int64_t ddim;                   ///< students are compared with DDIM of this many steps
  bool other_solvers;                  ///< some more, beside
  std::vector<std::uint64_t> seeds;    ///< the worst one counts
  std::vector<student_rows> students;  ///< by target
};

template <class Network>
void measure_network(boot::measure::measure_report& report, const network_rows& rows, const std::string& file,
                     digits::distillation_options options) {
  const auto wanted = [&](const std::string& key) { return !key.empty() && report.wants(key); };
  const auto any_wanted = [&](const student_rows& s) {
    return wanted(s.pixels) || wanted(s.features) || wanted(s.rms) || wanted(s.precision) || wanted(s.class_share_drop);
  };
  if (!wanted(rows.teacher_ok) && std::none_of(rows.students.begin(), rows.students.end(), any_wanted)) return;
  const auto beside = [&](const std::string& key, const json& figures) { report.beside(rows.prefix + key, figures); };

  measurement<Network> m(report, file);
  report.config(rows.prefix + "teacher", m.hash());
  const json floor = m.floor(), four = m.ddim(4), compared = m.ddim(rows.ddim);
  beside("floor", floor);
  beside("DDIM-4", four);
  beside(fmt::format("DDIM-{}", rows.ddim), compared);
  if (rows.other_solvers && !report.quick()) {
    beside("DDIM-25", m.ddim(25));
    beside("DPM-Solver++(2M)-10", m.sampled("2M-10", solver::dpm_solver, 10));
    beside("Heun-5", m.sampled("Heun-5", solver::heun, 5));
  }
  if (wanted(rows.teacher_ok)) {
    const json ten = m.ddim(10), fifty = m.ddim(50);
    beside("DDIM-10", ten);
    beside("DDIM-50", fifty);
    const double share = number(floor, "class_share"), above_floor = ratio(fifty, floor, "pixels"),
                 ten_to_fifty = ratio(ten, fifty, "pixels");
    report.row(rows.teacher_ok, share >= 0.97 && above_floor <= 1.5 && ten_to_fifty >= 3 ? 1 : 0,
               fmt::format("share {:.4f}, DDIM-50 / floor {:.2f}, DDIM-10 / DDIM-50 {:.2f}", share, above_floor,
                           ten_to_fifty));
  }
  for (const student_rows& s : rows.students) {
    if (!any_wanted(s)) continue;
    double pixels = 0, features = 0, rms = 0, precision = 1, drop = -1;
    for (const std::uint64_t seed : rows.seeds) {
      options.seed = seed;
      options.target = s.target;
      const json f = m.student(options);
      beside(fmt::format("{} seed {}", s.name, seed), f);
      pixels = std::max(pixels, ratio(f, compared, "pixels"));
      features = std::max(features, ratio(f, compared, "features"));
      rms = std::max(rms, ratio(f, four, "rms"));
      precision = std::min(precision, number(f, "precision"));
      drop = std::max(drop, number(floor, "class_share") - number(f, "class_share"));
    }
    const auto put = [&](const std::string& key, double value) {
      if (wanted(key)) report.row(key, value);
    };
    put(s.pixels, pixels);
    put(s.features, features);
    put(s.rms, rms);
    put(s.precision, precision);
    put(s.class_share_drop, drop);
  }
}

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
       {"heun_features_vs_ddim10", "<= .42", "Heun target: features"},
       {"unet_teacher_ok", "== 1", "U-Net: as teacher_ok"},
       {"unet_pixels_vs_ddim8", "<= .7", "U-Net, two seeds: pixels, student / DDIM-8"},
       {"unet_features_vs_ddim8", "<= .72", "U-Net: features"},
       {"unet_rms_vs_ddim4", "<= 1.0", "U-Net: paired RMS"},
       {"unet_precision", ">= .85", "U-Net: precision"}},
      {0, 1, 2});
  digits::distillation_options options;
  std::string file, unet_file;
  std::optional<std::int64_t> steps, batch;
  std::optional<double> rate;
  report.app().add_option("--teacher", file, "the MLP's teacher file; default: the committed one");
  report.app().add_option("--unet-teacher", unet_file, "the U-Net's teacher file; default: the committed one");
  report.app()
      .add_option("--steps", steps, "distillation steps; default: the network's own")
      ->check(CLI::PositiveNumber);
  report.app().add_option("--batch", batch, "samples per step; default: the network's own")->check(CLI::PositiveNumber);
  report.app().add_option("--rate", rate, "peak learning rate; default: the network's own");
  report.app().add_option("--delta", options.delta, "bootstrap step");
  report.app().add_option("--ema", options.ema, "decay of the average");
  report.app().add_option("--boundary-fraction", options.boundary_fraction, "share of the batch at t_max");
  if (const auto status = report.parse(argc, argv)) return *status;
  const auto training = [&](digits::training_options own, const std::string& prefix) {
    own = {steps.value_or(own.steps), batch.value_or(own.batch), rate.value_or(own.rate)};
    if (report.quick()) own.steps = std::min<std::int64_t>(own.steps, 200);
    report.setting(prefix + "steps", own.steps);
    report.setting(prefix + "batch", own.batch);
    report.setting(prefix + "rate", own.rate);
    return own;
  };
  const auto mlp_training = training(digits::choice<boot::mlp>::student, "");
  const auto unet_training = training(digits::choice<boot::unet2d>::student, "unet_");
  report.setting("delta", options.delta);
  report.setting("ema", options.ema);
  report.setting("boundary_fraction", options.boundary_fraction);
  report.setting("weight", "upwind");

  using boot::target_solver;
  const network_rows mlp{"",
                         "teacher_ok",
                         10,
                         true,
                         report.seeds(),
                         {{"euler", target_solver::euler, "pixels_vs_ddim10", "features_vs_ddim10", "rms_vs_ddim4",
                           "precision", "class_share_drop"},
                          {"heun", target_solver::heun, "heun_pixels_vs_ddim10", "heun_features_vs_ddim10"}}};
  // A seed of the U-Net takes minutes: two of them are run unless --seed says otherwise.
  const network_rows unet{"unet ",
                          "unet_teacher_ok",
                          8,
                          false,
                          report.seeds_were_given() ? report.seeds() : std::vector<std::uint64_t>{0, 1},
                          {{"euler", target_solver::euler, "unet_pixels_vs_ddim8", "unet_features_vs_ddim8",
                            "unet_rms_vs_ddim4", "unet_precision"}}};
  options.training = mlp_training;
  measure_network<boot::mlp>(report, mlp, file, options);
  options.training = unet_training;
  measure_network<boot::unet2d>(report, unet, unet_file, options);
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
