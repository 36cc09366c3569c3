// SPDX-License-Identifier: MIT
/// Memory of a training run: BOOT on the U-Net tiny32 with 16 images, through boot::distiller, against the same steps in
/// PyTorch, and against what the dry run had said.
///
/// Every figure comes from a process of its own, started by this one, which builds nothing itself: a peak of resident
/// memory belongs to a whole process, and getrusage(), which the peer asks, hands it on to the programs a process starts.
#include "measure.hpp"
#include "peer_networks.hpp"
#include "peer_step.hpp"
#include "torch_peer.hpp"

#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/train/distiller.hpp>

#include <string_view>

namespace {

using boot::cpu;
using boot::measure::json;
using boot::measure::shell_word;

constexpr std::int64_t batch = 16;

/// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes.
std::int64_t process_bytes(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::stoll(line.substr(name.size() + 1)) * 1024;
  boot::fail("measure memory: no {} in /proc/self/status; this measure needs Linux", name);
}

/// Teacher, student, objective and loop with a U-Net that computes as Model does.
template <class Model>
struct training {
  using objective_type = boot::bootstrap<Model, Model, boot::cosine_schedule>;

  static boot::unet2d network(bool recompute) {
    boot::unet2d_options o = boot::measure::tiny32().options();
    o.recompute = recompute;
    return boot::unet2d(o);
  }
  training(const cpu& dev, bool recompute, std::int64_t steps)
      : teacher(dev, network(recompute), {boot::prediction_kind::v}, 1),
        student(boot::student_of(dev, teacher)),
        objective(teacher, student, {}, boot::measure::peer_objective({})),
        trainer(dev, objective,
                {.steps = steps,
                 .batch = batch,
                 .seed = 1,
                 .rate = {.peak = boot::measure::peer_rate, .warmup_steps = 0, .decay = boot::rate_decay::constant},
                 .optimizer = boot::measure::peer_optimizer(),
                 .progress = boot::progress_mode::off}) {}

  Model teacher, student;
  objective_type objective;
  boot::distiller<objective_type, cpu> trainer;
};

/// A way to train: what activations are stored in, and whether blocks are computed again instead of kept.
struct way {
  std::string activations = "f32";
  bool recompute = false;

  [[nodiscard]] std::string name() const { return activations + (recompute ? ", recomputed blocks" : ""); }
};

/// Prints the dry run of a training as JSON: its parts, their sum by shapes alone, and what it says is in use.
template <class Model>
json dry_run(training<Model>& t) {
  const cpu dev = t.trainer.device();
  const auto bytes = [&](const Model& m, bool recorded, bool uniform_target) {
    return m.plan(dev, batch, boot::no_condition{}, recorded, true, uniform_target).bytes;
  };
  const std::int64_t teacher = bytes(t.teacher, false, true), recorded = bytes(t.student, true, false);
  const boot::training_plan p = t.trainer.plan();
  const std::int64_t state = 2 * p.weight_bytes + p.gradient_bytes + p.moment_bytes + p.average_bytes;
  return {{"in_use", p.live_bytes},
          {"by_shapes", state + std::max(recorded, teacher)},  // one after the other, in the same memory
          {"weights_student_and_teacher", 2 * p.weight_bytes},
          {"gradient", p.gradient_bytes},
          {"moments", p.moment_bytes},
          {"average", p.average_bytes},
          {"activations_student", recorded},
          {"activations_teacher", teacher}};
}

/// What a process of its own does: `task` is "plan" or "train".
template <class Model>
json answer(const std::string& task, const way& w, const cpu& dev, std::int64_t steps) {
  const std::int64_t at_start = process_bytes("VmHWM");
  training<Model> t(dev, w.recompute, steps);
  if (task == "plan") return dry_run(t);
  const boot::run_result result = t.trainer.run();
  return {{"counted", boot::memory_use<cpu>().peak_bytes},
          {"growth", process_bytes("VmHWM") - at_start},
          {"at_start", at_start},
          {"loss", result.loss.total}};
}

/// The last line that a command prints, read as JSON.
json last_line(const std::string& command) {
  const auto out = boot::measure::output_of(command);
  boot::require(out.has_value(), "measure memory: '{}' failed; its messages are above", command);
  json line = json::parse(out->substr(out->rfind('\n') + 1), nullptr, false);
  boot::require(line.is_object(), "measure memory: '{}' ended with what is no JSON: {}", command, *out);
  return line;
}

/// What both sides are given.
struct surroundings {
  cpu dev;
  std::int64_t steps = 6;
};

json ask_own(const surroundings& s, const char* task, const way& w) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  return last_line(fmt::format("{} --child {} {} {} {} {}", shell_word(self), task, w.activations, w.recompute ? 1 : 0,
                               s.dev.threads, s.steps));
}

/// PyTorch's growth in its float32 variants; the smallest one.
std::int64_t smallest_peer_growth(boot::measure::measure_report& report, const boot::measure::torch_peer& torch,
                                  const surroundings& s) {
  const std::string command =
      fmt::format("{} {} --case tiny32 --batch {} --boundary-fraction {} --threads {} --warmup 1 --steps {} --variant ",
                  shell_word(torch.python()), shell_word(torch.script("boot_torch.py")), batch,
                  boot::measure::peer_boundary_fraction, s.dev.threads, s.steps - 1);
  std::int64_t smallest = 0;
  for (const char* const variant : {"eager", "channels_last"}) {
    const json line = last_line(command + variant);
    boot::require(!line.contains("unavailable"), "measure memory: PyTorch cannot run its variant {}: {}", variant,
                  line.value("unavailable", ""));
    const auto imported = line.at("imported_rss_bytes").get<std::int64_t>();
    const std::int64_t growth = line.at("peak_rss_bytes").get<std::int64_t>() - imported;
    report.beside(fmt::format("torch {}, growth", variant), growth);
    report.beside(fmt::format("torch {}, after the imports", variant), imported);
    report.config("torch_version", line.value("torch_version", "unknown"));
    report.progress("torch {}: {} over {}", variant, boot::bytes_text(growth), boot::bytes_text(imported));
    if (smallest == 0 || growth < smallest) smallest = growth;
  }
  return smallest;
}

int child(const std::vector<std::string>& arguments) {
  const way w{.activations = arguments[1], .recompute = arguments[2] == "1"};
  const cpu dev{.threads = std::stoi(arguments[3])};
  const std::int64_t steps = std::stoll(arguments[4]);
  const json line = w.activations == "bf16"
                        ? answer<boot::network_model<boot::unet2d, cpu, float, boot::bf16>>(arguments[0], w, dev, steps)
                        : answer<boot::network_model<boot::unet2d, cpu, float>>(arguments[0], w, dev, steps);
  fmt::print("{}\n", line.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 7 && std::string_view(argv[1]) == "--child") return child({argv + 2, argv + argc});
  boot::measure::measure_report report(
      "memory",
      {{"growth_vs_torch", "<= 0.5",
        "peak growth over the resident size at the start, tiny32, 16 images / PyTorch's smaller fp32 variant"},
       {"forecast_off", "<= 0.1",
        "|forecast - what the allocator counted| / counted; the worse of shapes alone and the dry run"}});
  const boot::measure::torch_peer torch(report);
  surroundings s;
  way chosen;
  report.app().add_option("--steps", s.steps, "training steps of each side (6)")->check(CLI::Range(2, 1000));
  report.app().add_option("--activations", chosen.activations, "f32 or bf16")->check(CLI::IsMember({"f32", "bf16"}));
  report.app().add_flag("--recompute", chosen.recompute, "compute blocks again instead of keeping their activations");
  if (const auto status = report.parse(argc, argv)) return *status;
  s.dev = {.threads = report.options().threads > 0 ? report.options().threads : 2};
  if (report.quick()) s.steps = 2;

  json trained;
  for (const way& w : {way{"f32", false}, way{"f32", true}, way{"bf16", false}, way{"bf16", true}}) {
    const bool rows = w.name() == chosen.name();
    if (!rows && report.quick()) continue;
    const json planned = ask_own(s, "plan", w), run = ask_own(s, "train", w);
    const auto counted = run.at("counted").get<double>();
    const auto off = [&](const char* forecast) { return std::abs(planned.at(forecast).get<double>() / counted - 1); };
    const double by_shapes = off("by_shapes"), in_use = off("in_use");
    report.progress("{}: {} more resident, {} counted, forecast {} by shapes, {} by the dry run", w.name(),
                    boot::bytes_text(run.at("growth").get<std::int64_t>()),
                    boot::bytes_text(static_cast<std::int64_t>(counted)),
                    boot::bytes_text(planned.at("by_shapes").get<std::int64_t>()),
                    boot::bytes_text(planned.at("in_use").get<std::int64_t>()));
    report.beside(w.name(), json{{"planned", planned}, {"trained", run}});
    if (!rows) continue;
    trained = run;
    report.row("forecast_off", std::max(by_shapes, in_use),
               fmt::format("shapes alone {:.3g}, dry run {:.3g}", by_shapes, in_use));
  }
  report.config("case", "tiny32");
  report.config("batch", batch);
  report.config("steps", s.steps);
  report.config("run_threads", s.dev.threads);
  report.config("activations", chosen.activations);
  report.config("recompute", chosen.recompute);
  if (report.wants("growth_vs_torch")) {
    const std::int64_t theirs = smallest_peer_growth(report, torch, s), ours = trained.at("growth").get<std::int64_t>();
    report.row("growth_vs_torch", static_cast<double>(ours) / static_cast<double>(theirs),
               fmt::format("{} against {}", boot::bytes_text(ours), boot::bytes_text(theirs)));
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
