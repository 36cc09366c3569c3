// SPDX-License-Identifier: MIT
/// One-step students of exact teachers against DDIM of the same teacher, on noise neither has seen; worst of the seeds.
#include "gaussian_mixture/problems.hpp"
#include "measure/measure.hpp"

#include <boot.hpp>
#include <boot/metric/endpoint_error.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using boot::measure::json;
using boot::measure::measure_report;
using labels_and_scale = boot::conditions<boot::class_labels<boot::cpu>, boot::guidance_scale<boot::cpu>>;
using wide_labels_and_scale = boot::conditions<boot::class_labels<boot::cpu>, boot::guidance_scale<boot::cpu, double>>;
using network = boot::network_model<boot::mlp, boot::cpu>;

constexpr double t_min = 0.001, t_max = 0.999;

/// The recipe: three hidden layers of 128, v output, 512 samples a step and 128 more at the boundary.
struct recipe {
  std::int64_t steps = 4000;
  double rate = 1e-3;
  boot::target_solver target = boot::target_solver::euler;
  bool fixed_point = false;
};

network new_student(const boot::cpu& dev, std::int64_t dimension, std::uint64_t seed, std::int32_t classes = 0,
                    double guidance_input = 0) {
  boot::mlp_options o;
  o.features = dimension;
  o.width = 128;
  o.hidden_layers = 3;
  o.classes = classes;
  // Low frequencies, 1 to 8 radians over the range: the student must be smooth in the target time.
  o.time = {.features = 32, .max_period = 8};
  o.time_scale = 8;
  o.target_time = true;
  o.guidance_scale_input = guidance_input;
  return network(dev, boot::mlp(o), {boot::prediction_kind::v}, seed);
}

/// Trains the objective's student and gives its average.
template <class Objective>
network train(const boot::cpu& dev, Objective& loss, const recipe& r, std::uint64_t seed) {
  boot::distiller trainer{dev,
                          loss,
                          {.steps = r.steps,
                           .batch = 640,
                           .seed = seed,
                           .rate = {.peak = r.rate},
                           .optimizer = {.weight_decay = 0, .averages = {{.decay = 0.999}}},
                           .progress = boot::progress_mode::off,
                           .handle_signals = false}};  // a stopped run must not count as a trained one
  trainer.run();
  return loss.student().clone(dev, trainer.optimizer().average(0));
}

template <class T>
boot::tensor<T, boot::cpu> noise(const boot::cpu& dev, std::int64_t n, std::int64_t dimension) {
  boot::tensor<T, boot::cpu> eps(dev, {n, dimension});
  std::vector<std::int64_t> numbers;
  for (std::int64_t i = 0; i < n; ++i) numbers.push_back(i);
  boot::fill_noise(dev, boot::counter_key{777, boot::stream::noise, 0}, std::span<const std::int64_t>(numbers),
                   eps.get());
  return eps;
}

boot::tensor<float, boot::cpu> narrowed(const boot::cpu& dev, const boot::tensor<double, boot::cpu>& x) {
  boot::tensor<float, boot::cpu> y(dev, x.extents());
  for (std::int64_t i = 0; i < x.size(); ++i) y.data()[i] = static_cast<float>(x.data()[i]);
  return y;
}

/// Endpoints of the ODE (1,000 Heun steps uniform in log-SNR) and of DDIM-N, float64, from the same noise.
template <class Teacher, class Schedule, class C>
struct reference {
  boot::tensor<float, boot::cpu> truth, ddim;
  double ddim_error = 0;

  reference(const boot::cpu& dev, const Teacher& teacher, const Schedule& schedule, const C& condition, std::int64_t n,
            std::int64_t dimension, std::int64_t ddim_steps, std::int64_t ode_steps) {
    const auto eps = noise<double>(dev, n, dimension);
    boot::tensor<double, boot::cpu> y(dev, eps.extents());
    boot::heun_sample(dev, teacher, schedule, condition, eps,
                      {.steps = ode_steps, .spacing = boot::time_spacing::lambda}, y.get());
    truth = narrowed(dev, y);
    boot::ddim_sample(dev, teacher, schedule, condition, eps, {.steps = ddim_steps}, y.get());
    ddim = narrowed(dev, y);
    ddim_error = boot::endpoint_error(dev, ddim, truth).relative;
  }
};

double mode_deviation(const problems::components& modes, const boot::tensor<float, boot::cpu>& a,
                      const boot::tensor<float, boot::cpu>& b) {
  const auto shares = [&](const boot::tensor<float, boot::cpu>& x) {
    std::vector<double> share(modes.size());
    const auto d = static_cast<std::int64_t>(modes.front().mean.size()), n = x.extents().batch();
    for (std::int64_t i = 0; i < n; ++i) {
      std::size_t nearest = 0;
      double best = 1e300;
      for (std::size_t k = 0; k < modes.size(); ++k) {
        double distance = 0;
        for (std::int64_t j = 0; j < d; ++j) {
          const double r = static_cast<double>(x.data()[i * d + j]) - modes[k].mean[static_cast<std::size_t>(j)];
          distance += r * r;
        }
        if (distance < best) best = distance, nearest = k;
      }
      share[nearest] += 1.0 / static_cast<double>(n);
    }
    return share;
  };
  const auto p = shares(a), q = shares(b);
  double worst = 0;
  for (std::size_t k = 0; k < p.size(); ++k) worst = std::max(worst, std::abs(p[k] - q[k]));
  return worst;
}

class mixtures {
 public:
  explicit mixtures(measure_report& report) : report_(report), dev_(report.device()) {}

  /// {student error, DDIM-N error, mode deviation, refined error} of one problem and seed.
  template <class Teacher, class Schedule>
  json run(const std::string& name, const Teacher& teacher, const Schedule& schedule, std::int64_t ddim_steps, recipe r,
           std::uint64_t seed, const problems::components* modes = nullptr) {
    if (report_.quick()) r.steps = 300;
    const std::string key = fmt::format("{} ddim={} seed={} steps={} rate={} heun={} fixed={}", name, ddim_steps, seed,
                                        r.steps, r.rate, r.target == boot::target_solver::heun, r.fixed_point);
    return report_.cached(key, [&] {
      const std::int64_t d = teacher.sample_shape().size();
      const reference<Teacher, Schedule, boot::no_condition> ref(dev_, teacher, schedule, {}, samples(), d, ddim_steps,
                                                                 report_.quick() ? 200 : 1000);
      network student = new_student(dev_, d, seed);
      const network trained = [&] {
        if (r.fixed_point) {
          boot::fixed_point loss(teacher, student, schedule, boot::fixed_point_options{.boundary_fraction = 0.2});
          return train(dev_, loss, r, seed);
        }
        boot::bootstrap loss(teacher, student, schedule,
                             boot::bootstrap_options{.boundary_fraction = 0.2, .target = r.target});
        return train(dev_, loss, r, seed);
      }();
      const auto eps = noise<float>(dev_, samples(), d);
      boot::tensor<float, boot::cpu> y(dev_, eps.extents());
      boot::one_step_sample(dev_, trained, schedule, boot::no_condition{}, eps, {}, y.get());
      json result{{"student", boot::endpoint_error(dev_, y, ref.truth).relative}, {"ddim", ref.ddim_error}};
      if (modes != nullptr) {
        result["mode_deviation"] = mode_deviation(*modes, y, ref.truth);
        boot::refined_sample(dev_, trained, teacher, schedule, boot::no_condition{}, eps, {.t_middle = 0.1}, y.get());
        result["refined"] = boot::endpoint_error(dev_, y, ref.truth).relative;
      }
      return result;
    });
  }

  /// Errors at w = 1..4 of a student that takes the guidance scale as an input, against DDIM-4 at the same scale.
  json run_guided(std::uint64_t seed) {
    const std::int64_t steps = report_.quick() ? 300 : 8000;
    return report_.cached(fmt::format("guided seed={} steps={}", seed, steps), [&] {
      const boot::cosine_schedule schedule({.t_min = t_min, .t_max = t_max});
      const boot::gaussian_mixture exact(schedule, problems::circle(4));
      const boot::guided teacher(exact);
      network student = new_student(dev_, 2, seed, 4, 2);
      boot::bootstrap loss(teacher, student, schedule, boot::bootstrap_options{.boundary_fraction = 0.2},
                           boot::guided_label_source<boot::cpu>(4, 1.0, 4.0));
      const network trained = train(dev_, loss, {.steps = steps}, seed);
      json result;
      std::vector<std::int32_t> labels(static_cast<std::size_t>(samples()));
      for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int32_t>(i % 4);
      const boot::class_labels<boot::cpu> ids{{labels.data(), {samples()}}};
      for (const int w : {1, 2, 3, 4}) {
        const std::vector<double> wide(labels.size(), w);
        const std::vector<float> narrow(labels.size(), static_cast<float>(w));
        const wide_labels_and_scale wide_condition(ids,
                                                   boot::guidance_scale<boot::cpu, double>{{wide.data(), {samples()}}});
        const labels_and_scale condition(ids, boot::guidance_scale<boot::cpu>{{narrow.data(), {samples()}}});
        const reference<boot::guided<boot::gaussian_mixture<boot::cosine_schedule>>, boot::cosine_schedule,
                        wide_labels_and_scale>
            ref(dev_, teacher, schedule, wide_condition, samples(), 2, 4, report_.quick() ? 200 : 1000);
        const auto eps = noise<float>(dev_, samples(), 2);
        boot::tensor<float, boot::cpu> y(dev_, eps.extents());
        boot::one_step_sample(dev_, trained, schedule, condition, eps, {}, y.get());
        result[std::to_string(w)] = {{"student", boot::endpoint_error(dev_, y, ref.truth).relative},
                                     {"ddim", ref.ddim_error}};
      }
      return result;
    });
  }

  /// Worst ratio student / DDIM-N over the seeds.
  template <class Teacher, class Schedule>
  double worst(const std::string& name, const Teacher& teacher, const Schedule& schedule, std::int64_t ddim_steps,
               const recipe& r) {
    double ratio = 0;
    for (const std::uint64_t seed : report_.seeds()) {
      const json f = run(name, teacher, schedule, ddim_steps, r, seed);
      report_.beside(fmt::format("{}{}{} seed {}", name, r.target == boot::target_solver::heun ? " heun" : "",
                                 r.fixed_point ? " fixed point" : "", seed),
                     f);
      ratio = std::max(ratio, f["student"].get<double>() / f["ddim"].get<double>());
    }
    return ratio;
  }

 private:
  [[nodiscard]] std::int64_t samples() const { return report_.quick() ? 1024 : 8192; }

  measure_report& report_;
  boot::cpu dev_;
};

template <class Schedule>
double custom(mixtures& m, const Schedule& schedule, const measure_report& report, std::int64_t modes,
              std::int64_t dimension) {
  double worst = 0;
  for (const std::uint64_t seed : report.seeds()) {
    const auto components = problems::random_mixture(modes, dimension, seed);
    const boot::gaussian_mixture teacher(schedule, components);
    const json f = m.run(fmt::format("custom {} modes, {}-D", modes, dimension), teacher, schedule, 4, {}, seed);
    worst = std::max(worst, f["student"].get<double>() / f["ddim"].get<double>());
  }
  return worst;
}

int measure(int argc, char** argv) {
  measure_report report(
      "mixture",
      {{"gmm2_cosine_vs_ddim4", "<= .85", "8 modes on a circle, cosine: student / DDIM-4"},
       {"gmm2_flow_vs_ddim4", "<= .95", "the same, flow schedule"},
       {"gmm2_linear_vs_ddim8", "<= .85", "the same, linear schedule: student / DDIM-8"},
       {"gauss_vs_ddim16", "<= .9", "8-D Gaussian: student / DDIM-16"},
       {"gauss_heun_vs_euler", "<= .6", "8-D Gaussian: Heun target / Euler target"},
       {"gmm16_vs_ddim4", "<= .8", "5 modes in 16 dimensions: student / DDIM-4"},
       {"mode_deviation", "<= .02", "largest difference of a mode's share from the ODE's"},
       {"guided_vs_ddim4", "<= .7", "4 classes, w in [1, 4] given to the student, worst of w = 1..4"},
       {"fixed_point_gauss_vs_ddim32", "<= .85", "upwind fixed point, 8-D Gaussian: student / DDIM-32"},
       {"refined_vs_student", "<= .85", "one teacher call at t = .1 / student alone"},
       {"custom_vs_ddim4", "<= .9", "a random mixture: --modes, --dimension, --schedule", true}},
      {0, 1, 2});
  std::int64_t modes = 6, dimension = 4;
  std::string schedule_name = "cosine";
  auto* modes_option =
      report.app().add_option("--modes", modes, "custom mixture: components")->check(CLI::PositiveNumber);
  auto* dimension_option =
      report.app().add_option("--dimension", dimension, "custom mixture: coordinates")->check(CLI::PositiveNumber);
  auto* schedule_option = report.app()
                              .add_option("--schedule", schedule_name, "custom mixture: cosine, flow or linear")
                              ->check(CLI::IsMember({"cosine", "flow", "linear"}));
  if (const auto status = report.parse(argc, argv)) return *status;
  if (modes_option->count() + dimension_option->count() + schedule_option->count() > 0)
    report.only({"custom_vs_ddim4"});
  report.setting("modes", modes);
  report.setting("dimension", dimension);
  report.setting("schedule", schedule_name);

  mixtures m(report);
  const boot::cosine_schedule cosine({.t_min = t_min, .t_max = t_max});
  const boot::flow_schedule flow({.t_min = t_min, .t_max = t_max});
  const boot::linear_schedule linear({.t_min = t_min, .t_max = t_max});
  const auto circle = problems::circle();
  if (report.wants_any({"gmm2_cosine_vs_ddim4", "mode_deviation", "refined_vs_student"})) {
    const boot::gaussian_mixture teacher(cosine, circle);
    double ratio = 0, deviation = 0, refined = 0;
    for (const std::uint64_t seed : report.seeds()) {
      const json f = m.run("gmm2 cosine", teacher, cosine, 4, {}, seed, &circle);
      report.beside(fmt::format("gmm2 cosine seed {}", seed), f);
      ratio = std::max(ratio, f["student"].get<double>() / f["ddim"].get<double>());
      deviation = std::max(deviation, f["mode_deviation"].get<double>());
      refined = std::max(refined, f["refined"].get<double>() / f["student"].get<double>());
    }
    if (report.wants("gmm2_cosine_vs_ddim4")) report.row("gmm2_cosine_vs_ddim4", ratio);
    if (report.wants("mode_deviation")) report.row("mode_deviation", deviation);
    if (report.wants("refined_vs_student")) report.row("refined_vs_student", refined);
  }
  if (report.wants("gmm2_flow_vs_ddim4"))
    report.row("gmm2_flow_vs_ddim4", m.worst("gmm2 flow", boot::gaussian_mixture(flow, circle), flow, 4, {}));
  if (report.wants("gmm2_linear_vs_ddim8"))
    report.row("gmm2_linear_vs_ddim8", m.worst("gmm2 linear", boot::gaussian_mixture(linear, circle), linear, 8, {}));
  if (report.wants("gmm16_vs_ddim4"))
    report.row("gmm16_vs_ddim4",
               m.worst("gmm16 cosine", boot::gaussian_mixture(cosine, problems::five_in_16()), cosine, 4, {}));
  const auto [mean, deviation] = problems::wide_gaussian();
  const boot::gaussian gauss(cosine, mean, deviation);
  if (report.wants("gauss_vs_ddim16")) report.row("gauss_vs_ddim16", m.worst("gauss", gauss, cosine, 16, {}));
  if (report.wants("gauss_heun_vs_euler")) {
    double ratio = 0;
    for (const std::uint64_t seed : report.seeds()) {
      const json euler = m.run("gauss", gauss, cosine, 16, {}, seed);
      const json heun = m.run("gauss", gauss, cosine, 16, {.target = boot::target_solver::heun}, seed);
      report.beside(fmt::format("gauss heun seed {}", seed), heun);
      ratio = std::max(ratio, heun["student"].get<double>() / euler["student"].get<double>());
    }
    report.row("gauss_heun_vs_euler", ratio);
  }
  if (report.wants("fixed_point_gauss_vs_ddim32"))
    report.row("fixed_point_gauss_vs_ddim32", m.worst("gauss", gauss, cosine, 32, {.fixed_point = true}));
  if (report.wants("guided_vs_ddim4")) {
    double ratio = 0;
    for (const std::uint64_t seed : report.seeds()) {
      const json f = m.run_guided(seed);
      report.beside(fmt::format("guided seed {}", seed), f);
      for (const auto& [w, e] : f.items())
        ratio = std::max(ratio, e["student"].get<double>() / e["ddim"].get<double>());
    }
    report.row("guided_vs_ddim4", ratio);
  }
  if (report.wants("custom_vs_ddim4")) {
    const double worst = schedule_name == "flow"     ? custom(m, flow, report, modes, dimension)
                         : schedule_name == "linear" ? custom(m, linear, report, modes, dimension)
                                                     : custom(m, cosine, report, modes, dimension);
    report.row("custom_vs_ddim4", worst);
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
