// SPDX-License-Identifier: MIT
/// Distils a digits teacher into a one-step student without data, and shows what one student call is worth.
#include "digits/distillation.hpp"
#include "digits/evaluation.hpp"

#include <boot/io/file.hpp>
#include <boot/io/image.hpp>
#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/dpm_solver.hpp>
#include <boot/sampler/one_step.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

struct settings {
  std::string data = std::string(BOOT_SOURCE_DIR) + "/examples/data";
  std::string out = "out/digits";
  std::string network = "mlp", objective = "bootstrap";
  std::string teacher;
  bool from_scratch = false, quick = false, heun = false;
  double guidance = 1;
  int threads = 0;
  std::optional<std::int64_t> teacher_steps, steps, batch;  // unset: the network's own, digits::choice
  std::optional<double> rate;
  digits::distillation_options distillation;
};

const std::map<std::string, digits::objective> objectives = {
    {"bootstrap", digits::objective::bootstrap},
    {"fixed_point", digits::objective::fixed_point},
    {"knowledge_distillation", digits::objective::knowledge_distillation},
    {"progressive_distillation", digits::objective::progressive_distillation}};

struct row {
  std::string name;
  double calls;
  digits::figures figures;
};

void print_table(const std::vector<row>& rows) {
  fmt::print("\n{:<22}{:>7} {:>10}{:>10} {:>8}{:>8}  {:>9}{:>8}{:>7} {:>10}{:>9}\n", "", "teacher", "Frechet to ODE",
             "", "held-out", "", "paired", "preci-", "", "", "asked");
  fmt::print("{:<22}{:>7} {:>10}{:>10} {:>8}{:>8}  {:>9}{:>8}{:>7} {:>10}{:>9}\n", "", "calls", "pixels", "features",
             "pixels", "feat.", "rms", "sion", "recall", "coverage", "class");
  for (const auto& [name, calls, f] : rows)
    fmt::print("{:<22}{:>7g} {:>10.4f}{:>10.4f} {:>8.3f}{:>8.3f}  {:>9.4f}{:>8.3f}{:>7.3f} {:>10.3f}{:>9.4f}\n", name,
               calls, f.pixels, f.features, f.held_out_pixels, f.held_out_features, f.rms, f.precision, f.recall,
               f.coverage, f.class_share);
}

/// The first ten of each row are one class each: the same noise and labels in every picture.
void write_grid(const std::string& path, const digits::samples& s) {
  constexpr std::int64_t shown = 80;
  const boot::view<const float, boot::cpu> first(s.data(), {shown, 8, 8, 1});
  boot::write_png(path, boot::sample_grid(first, {.columns = 10, .lo = -1, .hi = 1, .scale = 5, .gap = 3}));
}

/// Teacher calls across, Frechet distance to the ODE up, both logarithmic; the student's one call as a line across.
void write_curve(const std::string& path, const std::vector<row>& rows, const digits::figures& student) {
  constexpr double width = 520, height = 320, left = 60, bottom = 45, top = 20;
  const auto x_of = [](double calls) { return left + std::log(calls) / std::log(64.0) * (width - left - 20); };
  const auto y_of = [](double d) {
    return height - bottom - (std::log10(std::max(d, 0.01)) + 2) / 3 * (height - bottom - top);
  };
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0:g} {1:g}' font-family='sans-serif' font-size='12'>\n"
      "<rect width='{0:g}' height='{1:g}' fill='white'/>\n",
      width, height);
  for (const double d : {0.01, 0.1, 1.0, 10.0})
    svg +=
        fmt::format("<path d='M{:g} {:g}H{:g}' stroke='#ddd'/><text x='{:g}' y='{:g}' text-anchor='end'>{:g}</text>\n",
                    left, y_of(d), width - 20, left - 6, y_of(d) + 4, d);
  for (const int n : {1, 2, 4, 8, 16, 32, 64})
    svg += fmt::format("<text x='{:g}' y='{:g}' text-anchor='middle'>{}</text>\n", x_of(n), height - bottom + 18, n);
  svg += fmt::format("<text x='{:g}' y='{:g}' text-anchor='middle'>network calls per sample</text>\n",
                     (left + width) / 2, height - 8);
  svg += fmt::format(
      "<text x='14' y='{:g}' text-anchor='middle' transform='rotate(-90 14 {:g})'>Frechet distance to the "
      "teacher's ODE</text>\n",
      height / 2 - 10, height / 2 - 10);
  const auto draw = [&](double digits::figures::*member, const char* colour, const char* name, double label) {
    std::string points;
    for (const auto& r : rows)
      if (r.name.rfind("DDIM", 0) == 0) points += fmt::format("{:.1f},{:.1f} ", x_of(r.calls), y_of(r.figures.*member));
    const double y = y_of(student.*member);
    svg += fmt::format(
        "<polyline points='{0}' fill='none' stroke='{1}' stroke-width='2'/>\n"
        "<path d='M{2:g} {3:g}H{4:g}' stroke='{1}' stroke-dasharray='4 4'/><circle cx='{2:g}' cy='{3:g}' "
        "r='5' fill='{1}'/>\n<text x='{5:g}' y='{6:g}' fill='{1}'>{7}: DDIM, and the student's one call "
        "(dot)</text>\n",
        points, colour, x_of(1), y, width - 20, left + 130, label, name);
  };
  draw(&digits::figures::pixels, "#2a5db0", "pixels", top + 14);
  draw(&digits::figures::features, "#b0482a", "features", top + 32);
  svg += "</svg>\n";
  boot::atomic_write_file(path, svg);
}

/// N of the DDIM-N whose distance equals `value`, between the measured rows; log-log.
double worth(const std::vector<row>& rows, double value, double digits::figures::*member) {
  double calls = 0, distance = 0;
  for (const auto& r : rows) {
    if (r.name.rfind("DDIM", 0) != 0) continue;
    const double d = r.figures.*member;
    if (d <= value && calls > 0)
      return std::exp(std::log(calls) +
                      std::log(r.calls / calls) * std::log(value / distance) / std::log(d / distance));
    if (d <= value) return r.calls;
    calls = r.calls, distance = d;
  }
  return calls;
}

/// Distils `teacher`, which is `network` or made of it, and compares the student with the teacher's own samplers.
template <class Network, class Teacher>
void run(const boot::cpu& dev, const settings& s, const digits::model<Network>& network, const Teacher& teacher,
         const digits::data_set& data) {
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t hash = boot::content_hash(network.parameters().layout(), network.parameters().values());
  hash ^= boot::content_hash(std::as_bytes(std::span(&s.guidance, 1)));
  const digits::training_options& training = s.distillation.training;
  fmt::print("Distilling the {} by {}{}: {} steps of {} samples, no data.\n", s.network, s.objective,
             s.heun ? " with a Heun target" : "", training.steps, training.batch);
  const auto distilled = digits::distil(dev, teacher, network, s.distillation);
  boot::save_parameters(s.out + "/student.safetensors", distilled.student.parameters().layout(),
                        distilled.student.parameters().values());
  fmt::print("Distilled in {:.0f} s with {:.2g} teacher calls. Now the teacher's own ODE, once per teacher.\n",
             distilled.seconds, distilled.teacher_samples);

  digits::evaluator<Teacher> evaluate(dev, teacher, data, hash, s.out + "/cache", digits::evaluation<Network>(s.quick));
  const auto labels = digits::view_of(evaluate.labels());
  const auto schedule = digits::schedule();
  std::vector<row> rows;
  digits::samples made(dev, evaluate.start().extents());
  rows.push_back({"teacher's ODE", 0, evaluate(dev, evaluate.endpoints())});
  write_grid(s.out + "/teacher_ode.png", evaluate.endpoints());
  const std::vector<std::int64_t> steps =
      s.quick ? std::vector<std::int64_t>{1, 4, 10, 25} : std::vector<std::int64_t>{1, 2, 4, 8, 10, 16, 25, 50};
  for (const std::int64_t n : steps) {
    boot::ddim_sample(dev, teacher, schedule, labels, evaluate.start(), {.steps = n}, made.get());
    rows.push_back({fmt::format("DDIM-{}", n), static_cast<double>(n), evaluate(dev, made)});
    if (n == 1 || n == 10) write_grid(fmt::format("{}/ddim_{}.png", s.out, n), made);
  }
  boot::dpm_solver_sample(dev, teacher, schedule, labels, evaluate.start(), {.steps = 10}, made.get());
  rows.push_back({"DPM-Solver++(2M)-10", 10, evaluate(dev, made)});
  boot::heun_sample(dev, teacher, schedule, labels, evaluate.start(), {.steps = 5}, made.get());
  rows.push_back({"Heun-5", 10, evaluate(dev, made)});
  boot::one_step_sample(dev, distilled.student, schedule, labels, evaluate.start(), {}, made.get());
  const digits::figures student = evaluate(dev, made);
  write_grid(s.out + "/student.png", made);
  write_curve(s.out + "/curve.svg", rows, student);
  auto shown = rows;
  shown.push_back({"student, ONE call", 0, student});
  print_table(shown);
  fmt::print(
      "\nOne student call is worth {:.1f} teacher steps in pixels, {:.1f} in features (Frechet distance, against "
      "DDIM).\n"
      "Training images to held-out ones: {:.3f} in pixels, {:.3f} in features. Classifier: {:.3f} on held-out images.\n"
      "Pictures (same noise and labels in each): {}/student.png, ddim_1.png, ddim_10.png, teacher_ode.png, curve.svg\n"
      "All in {:.0f} s.\n",
      worth(rows, student.pixels, &digits::figures::pixels), worth(rows, student.features, &digits::figures::features),
      evaluate.train_to_held_out_pixels, evaluate.train_to_held_out_features, evaluate.classifier_accuracy, s.out,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

/// The teacher, trained here or read from its file.
template <class Network>
digits::model<Network> make_teacher(const boot::cpu& dev, const settings& s, const digits::data_set& data) {
  std::string file = s.teacher.empty() ? s.data + "/" + digits::choice<Network>::teacher_file : s.teacher;
  auto network = digits::new_teacher<Network>(dev);
  if (s.from_scratch) {
    digits::training_options training = digits::choice<Network>::teacher;
    training.steps = s.teacher_steps.value_or(s.quick ? 300 : training.steps);
    fmt::print("Training the teacher on {} images: {} steps of {}.\n", data.train.labels.size(), training.steps,
               training.batch);
    network = digits::train_teacher<Network>(dev, data.train, training, s.out + "/teacher");
    file = s.out + "/teacher.safetensors";
    boot::save_parameters(file, network.parameters().layout(), std::as_const(network).parameters().values(),
                          {.dtype = boot::file_dtype::bf16});
  }
  // What is distilled is what was written: a run from the file gives the same student.
  boot::load_parameters(file, network.parameters());
  return network;
}

template <class Network>
void run_network(settings s) {
  digits::training_options& training = s.distillation.training;
  training = digits::choice<Network>::student;
  if (s.quick) training.steps = 150;
  training.steps = s.steps.value_or(training.steps);
  training.batch = s.batch.value_or(training.batch);
  training.rate = s.rate.value_or(training.rate);
  const boot::cpu dev{s.threads};
  const auto data = digits::load(s.data);
  const auto network = make_teacher<Network>(dev, s, data);
  if (s.guidance == 1) {
    run<Network>(dev, s, network, network, data);
  } else {
    const boot::guided teacher(network, s.guidance);
    run<Network>(dev, s, network, teacher, data);
  }
}

int digits_main(int argc, char** argv) {
  settings s;
  CLI::App app("Handwritten digits, 8x8: a class-conditional teacher and its one-step student.");
  app.add_option("--network", s.network,
                 "of teacher and student: mlp, or unet: convolutions and attention, some ten times slower")
      ->capture_default_str()
      ->check(CLI::IsMember({"mlp", "unet"}));
  app.add_option("--objective", s.objective,
                 "what the student learns from. bootstrap: one teacher step from its own output (BOOT). fixed_point: "
                 "the same with a derivative for the step. knowledge_distillation: the ends of trajectories that the "
                 "teacher solved beforehand. progressive_distillation: 32 teacher steps, halved phase by phase")
      ->capture_default_str()
      ->check(CLI::IsMember(objectives));
  app.add_option("--data", s.data, "folder of digits.csv.gz and the teachers")->capture_default_str();
  app.add_option("--out", s.out, "folder for pictures, logs and the student")->capture_default_str();
  app.add_option("--teacher", s.teacher, "teacher file; default: the network's own beside the data");
  app.add_flag("--from-scratch", s.from_scratch,
               "train the teacher first, from the images, and write OUT/teacher.safetensors");
  app.add_option("--teacher-steps", s.teacher_steps, "steps of that training; default: 3000")
      ->check(CLI::PositiveNumber);
  app.add_option("--guidance", s.guidance, "guidance scale w of the teacher, 1: none")->capture_default_str();
  app.add_flag("--heun", s.heun,
               "Heun target of bootstrap and knowledge_distillation: two teacher calls per step, a better student");
  app.add_option("--steps", s.steps, "distillation steps; default: mlp 3000, unet 1600")->check(CLI::PositiveNumber);
  app.add_option("--batch", s.batch, "samples per step; default: mlp 256, unet 128")->check(CLI::PositiveNumber);
  app.add_option("--rate", s.rate, "peak learning rate; default: mlp 3e-3, unet 2e-3");
  app.add_option("--delta", s.distillation.delta, "bootstrap step, share of the time range")->capture_default_str();
  app.add_option("--seed", s.distillation.seed, "of the distillation")->capture_default_str();
  app.add_option("--threads", s.threads, "0: all")->capture_default_str();
  app.add_flag("--quick", s.quick, "a short run to see that everything works; its figures mean little");
  CLI11_PARSE(app, argc, argv);
  s.distillation.objective = objectives.at(s.objective);
  if (s.heun) s.distillation.target = boot::target_solver::heun;
  std::filesystem::create_directories(s.out);
  s.distillation.folder = s.out;
  if (s.network == "unet") {
    run_network<boot::unet2d>(s);
  } else {
    run_network<boot::mlp>(s);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return digits_main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
