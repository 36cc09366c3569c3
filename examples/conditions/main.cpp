// SPDX-License-Identifier: MIT
/// Students under conditions: prompts with guidance and negative prompts, and a cascade of two students.
#include "conditions/cascade.hpp"
#include "conditions/prompts.hpp"

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

namespace {

void print(const conditions::prompt_figures& f) {
  fmt::print("\nShare of samples with the asked content\n");
  fmt::print("  {:<44}{:>8.4f}\n", "the mixture's own samples", f.mixture);
  fmt::print("  {:<44}{:>8.4f}\n", "teacher, DDIM-50, without guidance (w = 1)", f.teacher_unguided);
  fmt::print("  {:<44}{:>8.4f}\n", "teacher, DDIM-50, w per sample", f.teacher);
  fmt::print("  {:<44}{:>8.4f}   {:.3f} of the teacher's\n", "student, ONE call, w per sample", f.student,
             f.guided_share());
  fmt::print("  {:<44}{:>8.4f}\n", "student, asked for w = 1", f.student_unguided);
  fmt::print("  {:<44}{:>8.4f}\n", "student, given another prompt", f.student_wrong);
  fmt::print("\nDistance to the teacher's DDIM-50 from the same noise: student {:.4f}, DDIM-4 {:.4f}\n",
             f.student_error, f.ddim4_error);
  fmt::print("\n{:<46}{:>9}{:>11}{:>24}\n", "A word asked for, another one not wanted", "asked", "unwanted",
             "unwanted, if not told");
  const auto line = [](const char* name, const conditions::negative_shares& s) {
    fmt::print("  {:<44}{:>9.4f}{:>11.4f}{:>24.4f}\n", name, s.asked, s.unwanted, s.unwanted_without);
  };
  line("teacher, DDIM-50, negative prompt", f.teacher_away);
  line("student, ONE call", f.student_away);
  fmt::print("\nTrained in {:.0f} s (teacher) and {:.0f} s (student).\n", f.teacher_seconds, f.student_seconds);
}

void print(const conditions::cascade_figures& f, bool controls) {
  fmt::print("\n{:<46}{:>9}{:>9}\n", "Frechet distance to the teachers' cascade", "8x8", "4x4");
  fmt::print("  {:<44}{:>9.4f}\n", "the teachers' cascade again, other noise", f.floor);
  fmt::print("  {:<44}{:>9.4f}{:>9.4f}\n", "teachers, DDIM-10: twenty calls", f.ddim10, f.first_ddim10);
  fmt::print("  {:<44}{:>9.4f}{:>9.4f}   {:.3f} of DDIM-10's\n", "students: TWO calls", f.student, f.first_student,
             f.ratio());
  if (controls) {
    fmt::print("  {:<44}{:>9.4f}\n", "students, the second distilled on data images", f.on_data);
    fmt::print("  {:<44}{:>9.4f}\n", "students, images of another class than asked", f.wrong_class);
  }
  fmt::print("\nDistilled in {:.0f} s.\n", f.seconds);
}

int run(int argc, char** argv) {
  conditions::prompt_settings prompts;
  conditions::cascade_settings cascade;
  cascade.data = std::string(BOOT_SOURCE_DIR) + "/examples/data";
  std::vector<std::string> parts;
  std::string out = "out/conditions";
  std::uint64_t seed = 0;
  int threads = 0;
  bool quick = false;
  CLI::App app(
      "One-step students under conditions.\n"
      "  prompts  words that name a component of an exact mixture; cross-attention, guidance, negative prompts\n"
      "  cascade  digits of 4x4 pixels, enlarged to 8x8 by a second student that reads the first one's images");
  app.add_option("part", parts, "prompts, cascade; both unless given")->check(CLI::IsMember({"prompts", "cascade"}));
  app.add_option("--out", out, "folder for logs and pictures")->capture_default_str();
  app.add_option("--seed", seed, "of everything random")->capture_default_str();
  app.add_option("--threads", threads, "0: all")->capture_default_str()->check(CLI::NonNegativeNumber);
  app.add_flag("--quick", quick, "a short run to see that everything works; its figures mean little");
  app.add_option("--prompts-steps", prompts.steps, "prompts: distillation steps")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--prompts-teacher-steps", prompts.teacher_steps, "prompts: teacher's training steps")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--cascade-steps", cascade.student_steps, "cascade: distillation steps of each student")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--cascade-teacher-steps", cascade.teacher_steps, "cascade: training steps of each teacher")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--data", cascade.data, "cascade: folder of digits.csv.gz")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const boot::cpu dev{threads};
  const auto wanted = [&](const char* part) {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  };
  prompts.seed = cascade.seed = seed;
  prompts.quick = cascade.quick = quick;
  if (wanted("prompts")) {
    prompts.out = out + "/prompts";
    std::filesystem::create_directories(prompts.out);
    print(conditions::run_prompts(dev, prompts));
    fmt::print("Picture: {}/prompts.svg: the teacher's samples and the student's, by prompt.\n", prompts.out);
  }
  if (wanted("cascade")) {
    fmt::print("{}A cascade: 4x4 digits, then 8x8.\n", wanted("prompts") ? "\n" : "");
    std::fflush(stdout);
    cascade.out = out + "/cascade";
    std::filesystem::create_directories(cascade.out);
    print(conditions::run_cascade(dev, cascade), cascade.controls);
    fmt::print("Picture: {}/cascade.png: two rows of the students, small and large, then two of the teachers.\n",
               cascade.out);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
