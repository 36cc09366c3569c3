// SPDX-License-Identifier: MIT
/// One full BOOT step against PyTorch's: the same network, batch and work, alternating rounds, and the same loss.
#include "measure.hpp"
#include "peer.hpp"
#include "peer_networks.hpp"
#include "peer_step.hpp"
#include "torch_peer.hpp"

#include <boot/bench/statistics.hpp>
#include <boot/config.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>

#if BOOT_HAS_X86
#  include <xmmintrin.h>
#endif

#include <cstring>

namespace {

namespace fs = std::filesystem;
using boot::cpu;
using boot::measure::json;
using boot::measure::peer_boundary_fraction;
using boot::measure::shell_word;

constexpr const char* target_name = "target_embedding";  // the peer's files call it class_embedding

/// Flushes denormals to zero on every thread of the pool, as the peer does on its own.
void flush_denormals([[maybe_unused]] const cpu& dev) {
#if BOOT_HAS_X86
  const auto set = [] { _mm_setcsr(_mm_getcsr() | 0x8040u); };  // FTZ and DAZ
  set();
#  if BOOT_HAS_OPENMP
#    pragma omp parallel num_threads(dev.thread_count())
  set();
#  endif
#endif
}

/// What both sides of a comparison are made of, and how much of it is measured.
template <class Network>
struct step_case {
  const char* name;                   ///< the peer's, and the row's key
  Network network;                    ///< the teacher's
  std::int64_t batch;                 ///< of a step
  int steps, rounds;                  ///< steps of each side in a round, unless the command line says otherwise
  std::vector<const char*> variants;  ///< the peer's float32 ones
};

/// Teacher, student, objective and optimiser: the library's own step.
template <class Network>
class own_step {
 public:
  using model = boot::network_model<Network, cpu, float>;

  own_step(const cpu& dev, const Network& network, std::int64_t batch)
      : dev_(dev),
        batch_(batch),
        teacher_(dev, network, boot::prediction{boot::prediction_kind::v}, 1),
        student_(boot::student_of(dev, teacher_)),
        objective_(teacher_, student_, schedule_, boot::measure::peer_objective(schedule_)),
        optimizer_(dev, student_.parameters(), boot::measure::peer_optimizer()) {}

  /// Seconds of one step: noise, target, loss, backward, clipping, AdamW and the average.
  double operator()() {
    const auto begin = std::chrono::steady_clock::now();
    boot::fill_zero(dev_, student_.parameters().gradient());
    report_ = objective_(dev_, {.seed = 1, .step = step_++, .first = 0, .count = batch_});
    static_cast<void>(optimizer_.step(dev_, student_.parameters(), boot::measure::peer_rate));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  /// Median seconds of `steps` steps.
  double median(int steps) {
    std::vector<double> seconds;
    for (int i = 0; i < steps; ++i) seconds.push_back((*this)());
    return boot::bench::summarize(std::move(seconds)).median;
  }
  /// Loss of the last step.
  [[nodiscard]] double loss() const { return report_.total; }
  /// Matrix products of one step, 2 per multiply-add, as the plans of its three passes count them.
  [[nodiscard]] double flop() const {
    const auto inner = batch_ - static_cast<std::int64_t>(peer_boundary_fraction * static_cast<double>(batch_));
    const auto target = student_.plan(dev_, inner, boot::no_condition{}, false, true, false);
    const auto taught = teacher_.plan(dev_, batch_, boot::no_condition{}, false, false, false);
    const auto trained = student_.plan(dev_, batch_, boot::no_condition{}, true, true, false);
    return target.forward_flop + taught.forward_flop + trained.forward_flop + trained.backward_flop;
  }
  /// Parameters of the student.
  [[nodiscard]] std::int64_t parameters() const { return student_.parameters().layout().count(); }

 private:
  cpu dev_;
  std::int64_t batch_;
  boot::cosine_schedule schedule_;
  model teacher_, student_;
  boot::bootstrap<model, model, boot::cosine_schedule> objective_;
  boot::adamw<float, cpu> optimizer_;
  boot::loss_report report_;
  std::int64_t step_ = 0;
};

/// The name a parameter has in the peer's files.
std::string peer_name(const std::string& prefix, std::string name) {
  if (name.starts_with(target_name)) name = "class_embedding" + name.substr(std::strlen(target_name));
  return prefix + name;
}

/// The last three axes of `values` from channels, height, width (or input channels, k, k) to channels last.
std::vector<float> channels_last(std::vector<float> values, std::int64_t outer, std::int64_t channels,
                                 std::int64_t pixels) {
  std::vector<float> out(values.size());
  for (std::int64_t i = 0; i < outer; ++i)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t q = 0; q < pixels; ++q)
        out[static_cast<std::size_t>((i * pixels + q) * channels + c)] =
            values[static_cast<std::size_t>((i * channels + c) * pixels + q)];
  return out;
}

/// The peer's tensor of a parameter, in our order of the axes.
std::vector<float> peer_values(const boot::safetensors_file& file, const std::string& prefix,
                               const boot::parameter_entry& e) {
  const std::string name = peer_name(prefix, e.name);
  std::vector<float> values = file.read_floats(name);
  boot::require(static_cast<std::int64_t>(values.size()) == e.extents.size(),
                "measure step: tensor '{}' of '{}' has {} elements, needs {}; the peer's case is another network", name,
                file.path(), values.size(), e.extents.size());
  if (e.order == boot::file_order::as_is) return values;
  return channels_last(std::move(values), e.extents[0], e.extents[3], e.extents[1] * e.extents[2]);
}

template <class Network>
void load(const boot::safetensors_file& file, const std::string& prefix, boot::network_model<Network, cpu, float>& to) {
  for (const auto& e : to.parameters().layout().entries()) {
    const auto values = peer_values(file, prefix, e);
    std::copy(values.begin(), values.end(), to.parameters().values().data() + e.offset);
  }
}

/// How near our objective comes to the step that the peer wrote down.
struct agreement {
  double loss = 0, peer_loss = 0, loss_error = 0;  ///< relative
  double gradient_error = 0;  ///< worst tensor: the difference over the larger of its norm and 1e-3 of all
  std::string worst;          ///< which tensor that is
};

template <class Network>
agreement replay(const cpu& dev, const Network& network, std::int64_t batch, const std::string& path) {
  const auto file = boot::safetensors_file::open(path);
  boot::network_model<Network, cpu, float> teacher(dev, network, boot::prediction{boot::prediction_kind::v}, 1);
  auto student = boot::student_of(dev, teacher);
  load(file, "teacher.", teacher);
  load(file, "student.", student);
  const boot::cosine_schedule schedule;
  const boot::shape one = network.sample_shape();
  const auto t = file.read_floats("in.t");
  auto eps = file.read_floats("in.eps");
  boot::require(
      static_cast<std::int64_t>(t.size()) == batch && static_cast<std::int64_t>(eps.size()) == batch * one.size(),
      "measure step: '{}' holds {} times and {} noise values; needs {} and {}", path, t.size(), eps.size(), batch,
      batch * one.size());
  if (one.rank() == 3) eps = channels_last(std::move(eps), batch, one[2], one[0] * one[1]);
  // The times are handed out in the order in which the objective asks for them: that of the batch.
  auto options = boot::measure::peer_objective(schedule);
  std::size_t next = 0;
  options.time.own = [&](double, double) {
    return (static_cast<double>(t[next++]) - schedule.t_min()) / (schedule.t_max() - schedule.t_min());
  };
  boot::bootstrap objective(teacher, student, schedule, options);
  boot::fill_zero(dev, student.parameters().gradient());
  const boot::view<const float, cpu> noise(eps.data(), one.batched(batch));
  agreement a;
  a.loss = objective(dev, {.seed = 0, .step = 0, .first = 0, .count = batch}, noise).total;
  a.peer_loss = static_cast<double>(file.read_floats("out.loss").at(0));
  a.loss_error = std::abs(a.loss - a.peer_loss) / std::abs(a.peer_loss);
  struct tensor_error {
    std::string name;
    double difference = 0, norm = 0;  // squared
  };
  std::vector<tensor_error> tensors;
  double whole = 0;
  for (const auto& e : student.parameters().layout().entries()) {
    const auto wanted = peer_values(file, "grad.", e);
    const float* const got = student.parameters().gradient().data() + e.offset;
    tensor_error& of_tensor = tensors.emplace_back(tensor_error{.name = e.name});
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const double w = static_cast<double>(wanted[i]), d = static_cast<double>(got[i]) - w;
      of_tensor.difference += d * d;
      of_tensor.norm += w * w;
    }
    whole += of_tensor.norm;
  }
  for (const tensor_error& of_tensor : tensors) {  // the key's bias in attention has gradient 0 but for rounding
    const double error = std::sqrt(of_tensor.difference / std::max(of_tensor.norm, 1e-6 * whole));
    if (error <= a.gradient_error) continue;
    a.gradient_error = error;
    a.worst = of_tensor.name;
  }
  return a;
}

/// One variant of the peer over all rounds.
struct contender {
  std::string variant;
  std::vector<double> seconds;
  double flop = 0;
};

/// What a case needs to be run.
struct surroundings {
  cpu dev;
  std::string python, script;
  int rounds = 0, steps = 0;  ///< 0: the case's own
};

/// Measures one case and fills its row.
template <class Network>
void measure_case(boot::measure::measure_report& report, const surroundings& s, const step_case<Network>& c) {
  const cpu dev = s.dev;
  const int steps = s.steps > 0 ? s.steps : c.steps;
  int rounds = s.rounds > 0 ? s.rounds : c.rounds;
  if (report.quick()) rounds = std::min(rounds, 6);

  // The same step gives the same loss, before anything is timed.
  const fs::path dump = report.cache_folder() / (std::string(c.name) + ".safetensors");
  boot::require(
      boot::measure::output_of(fmt::format("{} {} --case {} --threads {} --boundary-fraction {} --dump {} 1>&2",
                                           shell_word(s.python), shell_word(s.script), c.name, dev.threads,
                                           peer_boundary_fraction, shell_word(dump.string())))
          .has_value(),
      "measure step: '{}' could not write a step into '{}'; its messages are above", s.script, dump.string());
  const agreement same = replay(dev, c.network, c.batch, dump.string());
  report.progress("{}: loss {} against {} (relative error {:.2g}); worst gradient {} with {:.2g}", c.name, same.loss,
                  same.peer_loss, same.loss_error, same.worst, same.gradient_error);
  boot::require(
      same.loss_error <= 1e-4,
      "measure step: our loss {} differs from the peer's {} by {:.3g} relative, more than 1e-4: the two do not "
      "do the same work, so their times must not be compared",
      same.loss, same.peer_loss, same.loss_error);

  own_step<Network> own(dev, c.network, c.batch);
  boot::measure::peer torch(
      {s.python, s.script, "--serve", "--case", c.name, "--threads", std::to_string(dev.threads)});
  const auto ask = [&](const std::string& variant, int count, int warmup) {
    return torch.request(nlohmann::json{{"case", c.name},
                                        {"variant", variant},
                                        {"batch", c.batch},
                                        {"boundary_fraction", peer_boundary_fraction},
                                        {"steps", count},
                                        {"warmup", warmup}});
  };
  json config;
  std::vector<contender> contenders;
  for (const char* const variant : c.variants) {
    const nlohmann::json answer = ask(variant, steps, std::min(steps, 10));
    if (answer.contains("unavailable")) {
      report.progress("variant {} is unavailable: {}", variant, answer["unavailable"].dump());
      config[std::string("unavailable_") + variant] = answer["unavailable"];
      continue;
    }
    boot::require(answer.at("threads").get<int>() == dev.threads,
                  "measure step: the peer runs on {} threads, we on {}; give both the same",
                  answer.at("threads").dump(), dev.threads);
    contenders.push_back({variant, {}, answer.at("flop_per_step").get<double>()});
  }
  boot::require(!contenders.empty(), "measure step: no variant of the peer runs; its reasons are above");
  const double flop_ratio = own.flop() / contenders.front().flop;
  boot::require(flop_ratio <= 1.01, "measure step: our step has {} FLOP, {:.4f} times the peer's; 1.01 is allowed",
                own.flop(), flop_ratio);

  static_cast<void>(own.median(std::min(steps, 10)));
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const bool first = round % 2 == 0;
    if (first) seconds.push_back(own.median(steps));
    for (contender& one : contenders)
      one.seconds.push_back(ask(one.variant, steps, 0).at("median").template get<double>());
    if (!first) seconds.push_back(own.median(steps));
  }
  const auto median = [](const std::vector<double>& v) { return boot::bench::summarize(v).median; };
  const contender* fastest = contenders.data();
  for (const contender& one : contenders)
    if (median(one.seconds) < median(fastest->seconds)) fastest = &one;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < seconds.size(); ++i) ratios.push_back(seconds[i] / fastest->seconds[i]);
  const auto ratio = boot::bench::summarize(ratios);

  config["batch"] = c.batch;
  config["rounds"] = rounds;
  config["steps_per_round"] = steps;
  config["fastest_variant"] = fastest->variant;
  config["flop_per_step"] = own.flop();
  config["peer_flop_per_step"] = fastest->flop;
  config["flop_ratio"] = flop_ratio;
  config["parameters"] = own.parameters();
  config["replayed_loss"] = {{"own", same.loss}, {"peer", same.peer_loss}, {"relative_error", same.loss_error}};
  config["replayed_gradient"] = {{"worst_tensor", same.worst}, {"relative_error", same.gradient_error}};
  config["last_loss"] = own.loss();
  report.config(c.name, config);
  report.config("torch_version", torch.ready().value("torch_version", "unknown"));
  report.beside(fmt::format("{} own_milliseconds", c.name), 1e3 * median(seconds));
  for (const contender& one : contenders)
    report.beside(fmt::format("{} torch_{}_milliseconds", c.name, one.variant), 1e3 * median(one.seconds));
  report.row(c.name, ratio.median,
             fmt::format("{:.2f} ms against {:.2f} ms of {}, quartiles {:.0f} % apart, {:.3f} of its FLOP",
                         1e3 * median(seconds), 1e3 * median(fastest->seconds), fastest->variant,
                         100 * ratio.relative_spread(), flop_ratio));
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "step", {{"mlp8", "<= 1.0", "one full BOOT step of an MLP / the same in PyTorch's fastest fp32 variant"},
               {"digits8", "<= 1.3", "the same of a U-Net on 256 images of 8 x 8"},
               {"tiny32", "<= 1.3", "the same of a U-Net on 16 images of 32 x 32"}});
  const boot::measure::torch_peer torch(report);
  surroundings s;
  report.app().add_option("--rounds", s.rounds, "alternating rounds (20, U-Nets 10)")->check(CLI::PositiveNumber);
  report.app()
      .add_option("--steps", s.steps, "steps of each side in a round (20, U-Nets 4 and 2)")
      ->check(CLI::PositiveNumber);
  if (const auto status = report.parse(argc, argv)) return *status;
  if (const char* const policy = std::getenv("OMP_WAIT_POLICY"); policy != nullptr)
    boot::require(
        std::string_view(policy) != "passive" && std::string_view(policy) != "PASSIVE",
        "measure step: OMP_WAIT_POLICY is passive, with which waking threads costs more than the work between "
        "two barriers; unset it");
  s.dev = {.threads = report.options().threads > 0 ? report.options().threads : 2};
  s.script = torch.script("boot_torch.py");
  s.python = torch.python();
  flush_denormals(s.dev);
  report.config("boundary_fraction", peer_boundary_fraction);
  report.config("step_threads", s.dev.threads);
  report.config(
      "exact_savings",
      "the source time t_max is that of all samples: its embedding is computed for one row instead of one per "
      "sample, forward and backward");
  if (report.wants("mlp8"))
    measure_case(report, s, step_case<boot::mlp>{"mlp8", boot::measure::mlp8(), 256, 20, 20, {"eager", "compile"}});
  const std::vector<const char*> image_variants{"eager", "channels_last", "compile"};
  if (report.wants("digits8"))
    measure_case(report, s, step_case<boot::unet2d>{"digits8", boot::measure::digits8(), 256, 4, 10, image_variants});
  if (report.wants("tiny32"))
    measure_case(report, s, step_case<boot::unet2d>{"tiny32", boot::measure::tiny32(), 16, 2, 10, image_variants});
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
