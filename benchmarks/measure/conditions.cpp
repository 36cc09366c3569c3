// SPDX-License-Identifier: MIT
/// Whether students keep their conditions: prompts with guidance, and a cascade of two students; worst of the seeds.
#include "conditions/cascade.hpp"
#include "conditions/prompts.hpp"
#include "measure/measure.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <string>

namespace {

using boot::measure::json;

json to_json(const conditions::negative_shares& s) {
  return {{"unwanted", s.unwanted}, {"asked", s.asked}, {"unwanted_without", s.unwanted_without}};
}

json to_json(const conditions::prompt_figures& f) {
  return {{"guided_share", f.guided_share()},
          {"mixture", f.mixture},
          {"teacher_w1", f.teacher_unguided},
          {"teacher", f.teacher},
          {"student", f.student},
          {"student_w1", f.student_unguided},
          {"student_wrong_prompt", f.student_wrong},
          {"student_error", f.student_error},
          {"ddim4_error", f.ddim4_error},
          {"teacher_negative", to_json(f.teacher_away)},
          {"student_negative", to_json(f.student_away)},
          {"teacher_seconds", f.teacher_seconds},
          {"student_seconds", f.student_seconds}};
}

json to_json(const conditions::cascade_figures& f) {
  return {{"ratio", f.ratio()},
          {"student", f.student},
          {"ddim10", f.ddim10},
          {"floor", f.floor},
          {"second_on_data", f.on_data},
          {"wrong_class", f.wrong_class},
          {"first_student", f.first_student},
          {"first_ddim10", f.first_ddim10},
          {"seconds", f.seconds}};
}

int measure(int argc, char** argv) {
  boot::measure::measure_report report(
      "conditions",
      {{"guided_share", ">= .95", "share of samples with the asked content, student / teacher's guided DDIM-50"},
       {"cascade_vs_two_teachers", "<= .9", "Frechet to the two-teacher cascade, student cascade / DDIM-10 cascade"}},
      {0, 1});
  conditions::prompt_settings prompts;
  conditions::cascade_settings cascade;
  report.app().add_option("--prompts-steps", prompts.steps, "prompts: distillation steps")->check(CLI::PositiveNumber);
  report.app()
      .add_option("--prompts-teacher-steps", prompts.teacher_steps, "prompts: teacher's training steps")
      ->check(CLI::PositiveNumber);
  report.app()
      .add_option("--cascade-steps", cascade.student_steps, "cascade: distillation steps of each student")
      ->check(CLI::PositiveNumber);
  report.app()
      .add_option("--cascade-teacher-steps", cascade.teacher_steps, "cascade: training steps of each teacher")
      ->check(CLI::PositiveNumber);
  if (const auto status = report.parse(argc, argv)) return *status;
  prompts.quick = cascade.quick = report.quick();
  cascade.data = (report.root() / "examples/data").string();
  report.setting("prompts", {{"word_steps", prompts.word_steps},
                             {"teacher_steps", prompts.teacher_steps},
                             {"steps", prompts.steps},
                             {"batch", prompts.batch},
                             {"teacher_rate", prompts.teacher_rate},
                             {"rate", prompts.rate},
                             {"delta", prompts.delta},
                             {"dropout", prompts.dropout},
                             {"w_min", prompts.w_min},
                             {"w_max", prompts.w_max},
                             {"negative_share", prompts.negative_share},
                             {"samples", prompts.samples}});
  report.setting("cascade", {{"teacher_steps", cascade.teacher_steps},
                             {"student_steps", cascade.student_steps},
                             {"first_width", cascade.first_width},
                             {"second_width", cascade.second_width},
                             {"samples", cascade.samples},
                             {"most_noise", cascade.most_noise},
                             {"noise", cascade.noise}});
  const boot::cpu dev = report.device();

  if (report.wants("guided_share")) {
    double worst = 1e300;
    for (const std::uint64_t seed : report.seeds()) {
      const json f = report.cached(fmt::format("prompts seed={}", seed), [&] {
        report.progress("prompts, seed {}: word vectors, teacher, student; minutes of silence", seed);
        auto s = prompts;
        s.seed = seed;
        return to_json(conditions::run_prompts(dev, s));
      });
      report.beside(fmt::format("prompts seed {}", seed), f);
      worst = std::min(worst, f["guided_share"].get<double>());
    }
    report.row("guided_share", worst);
  }
  if (report.wants("cascade_vs_two_teachers")) {
    double worst = 0;
    for (const std::uint64_t seed : report.seeds()) {
      const json f = report.cached(fmt::format("cascade seed={}", seed), [&] {
        report.progress("cascade, seed {}: two teachers, two students", seed);
        auto s = cascade;
        s.seed = seed;
        return to_json(conditions::run_cascade(dev, s));
      });
      report.beside(fmt::format("cascade seed {}", seed), f);
      worst = std::max(worst, f["ratio"].get<double>());
    }
    report.row("cascade_vs_two_teachers", worst);
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
