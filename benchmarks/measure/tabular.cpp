// SPDX-License-Identifier: MIT
// The objective against the chain it must converge to: a table of free vectors, no network. 64 noises, 25 steps, the
// mixture of eight Gaussians on a circle; Adam .05 with cosine decay, 2,000 full-batch steps. What correct and wrong
// objectives reach: docs/method.md.
#include "measure/measure.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/optim/learning_rate.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>
#include <boot/testing/tabular.hpp>

#include <array>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace {

constexpr std::size_t noises = 64, grid = 25, modes = 8;
constexpr double deviation = 0.12, peak_rate = 0.05;
const double radius = std::sqrt(2 * (1 - deviation * deviation));

using point = std::array<double, 2>;

struct level {
  double alpha, sigma;
};

// The formulas of this file are its own: nothing below, up to reference_chain(), calls the library.
// alpha(1) must be 0 and not 6e-17: the Heun factor 1 + D/ln(1 - D) nears its limit with the logarithm only.
level cosine_level(double t) { return {std::sin(std::numbers::pi * (1 - t) / 2), std::sin(std::numbers::pi * t / 2)}; }
level flow_level(double t) { return {1 - t, t}; }
level linear_level(double t) {
  const double b = 0.1 * t + 0.5 * 19.9 * t * t;
  return {std::exp(-b / 2), std::sqrt(-std::expm1(-b))};
}

point mode(std::size_t k) {
  const double angle = static_cast<double>(k) * std::numbers::pi / 4;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// E[x0 | x] of the mixture.
point clean_signal(const point& x, level l) {
  static const std::array<point, modes> centres = [] {
    std::array<point, modes> c;
    for (std::size_t k = 0; k < modes; ++k) c[k] = mode(k);
    return c;
  }();
  const double variance = l.alpha * l.alpha * deviation * deviation + l.sigma * l.sigma;
  const double gain = l.alpha * deviation * deviation / variance;
  std::array<double, modes> p;
  double best = -1e300, total = 0;
  for (std::size_t k = 0; k < modes; ++k) {
    const double dx = x[0] - l.alpha * centres[k][0], dy = x[1] - l.alpha * centres[k][1];
    p[k] = -0.5 * (dx * dx + dy * dy) / variance;
    best = std::max(best, p[k]);
  }
  for (double& v : p) total += v = std::exp(v - best);
  point f{gain * x[0], gain * x[1]};
  for (std::size_t k = 0; k < modes; ++k)
    for (std::size_t j = 0; j < 2; ++j) f[j] += p[k] / total * (1 - gain * l.alpha) * centres[k][j];
  return f;
}

point renoised(const point& y, const point& eps, level l) {
  return {l.alpha * y[0] + l.sigma * eps[0], l.alpha * y[1] + l.sigma * eps[1]};
}

// y at every grid time, from t_max down: DDIM steps in signal space, or exponential Heun steps.
std::vector<point> reference_chain(const point& eps, const std::vector<level>& levels, bool heun) {
  std::vector<point> y{clean_signal({levels[0].sigma * eps[0], levels[0].sigma * eps[1]}, levels[0])};
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    const level a = levels[i], b = levels[i + 1];
    const double d = 1 - a.alpha * b.sigma / (a.sigma * b.alpha);
    const double h = d >= 1 ? 1 : 1 + d / std::log1p(-d);
    const point now = y.back(), f = clean_signal(renoised(now, eps, a), a);
    point next{now[0] + d * (f[0] - now[0]), now[1] + d * (f[1] - now[1])};
    if (heun) {
      const point g = clean_signal(renoised(next, eps, b), b);
      for (std::size_t j = 0; j < 2; ++j) next[j] += h * (g[j] - f[j]);
    }
    y.push_back(next);
  }
  return y;
}

std::vector<level> grid_levels(double t_min, double t_max, level (*at)(double)) {
  std::vector<level> levels;
  for (std::size_t k = 0; k <= grid; ++k)
    levels.push_back(at(t_max - (t_max - t_min) * static_cast<double>(k) / static_cast<double>(grid)));
  return levels;
}

// Worst over t of the RMS over the noises, relative to the RMS of the chain's endpoint. NaN counts as infinite.
template <class Table>
double worst_error(const Table& table, const std::vector<std::vector<point>>& chains) {
  double end = 0, worst = 0;
  for (const auto& chain : chains) end += chain[grid][0] * chain[grid][0] + chain[grid][1] * chain[grid][1];
  for (std::size_t k = 0; k <= grid; ++k) {
    double square = 0;
    for (std::size_t m = 0; m < noises; ++m)
      for (std::size_t j = 0; j < 2; ++j) square += std::pow(table(m, k, j) - chains[m][k][j], 2);
    if (!std::isfinite(square)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::sqrt(square / end));
  }
  return worst;
}

// The library: its objective, its optimiser and its rate, in fp32. Full batch: one call per grid time and one for the
// boundary add their gradients before each update. All have the same seed and step, so the 64 noises stay.
template <class Schedule>
double library_error(const boot::cpu& dev, const Schedule& schedule, level (*at)(double), bool heun, std::uint64_t seed,
                     int steps) {
  std::vector<boot::mixture_component> components;
  for (std::size_t k = 0; k < modes; ++k) components.push_back({1, {mode(k)[0], mode(k)[1]}, deviation, 0});
  const boot::gaussian_mixture<Schedule> teacher(schedule, components);
  boot::testing::tabular<float> student(dev, schedule, {2}, noises, grid, seed);

  boot::bootstrap_options inner;
  inner.delta = 1.0 / grid;
  inner.boundary_weight = 0;
  inner.target = heun ? boot::target_solver::heun : boot::target_solver::euler;
  inner.time.own = [](double, double progress) { return progress; };
  boot::bootstrap_options edge;
  edge.boundary_fraction = 1;
  boot::bootstrap chain_loss(teacher, student, schedule, inner), boundary_loss(teacher, student, schedule, edge);
  boot::adamw<float, boot::cpu> optimiser(dev, student.parameters(),
                                          {.epsilon = 1e-12, .weight_decay = 0, .clip_norm = 0, .averages = {}});
  const boot::learning_rate_options rate{.peak = peak_rate, .warmup_steps = 0};
  for (int step = 0; step < steps; ++step) {
    boot::fill_zero(dev, student.parameters().gradient());
    boot::batch_request request{.seed = seed, .step = 0, .first = 0, .count = noises, .total = noises};
    for (std::size_t k = 0; k < grid; ++k) {
      request.progress = student.position(static_cast<std::int64_t>(k));
      static_cast<void>(chain_loss(dev, request));
    }
    static_cast<void>(boundary_loss(dev, request));
    static_cast<void>(optimiser.step(dev, student.parameters(), boot::learning_rate(rate, step, steps)));
  }

  const std::vector<level> levels = grid_levels(schedule.t_min(), schedule.t_max(), at);
  std::vector<std::vector<point>> chains;
  for (std::size_t m = 0; m < noises; ++m) {
    const auto i = static_cast<std::int64_t>(2 * m);
    chains.push_back(reference_chain(
        {static_cast<double>(student.noise()[i]), static_cast<double>(student.noise()[i + 1])}, levels, heun));
  }
  return worst_error(
      [&](std::size_t m, std::size_t k, std::size_t j) {
        return static_cast<double>(
            student.at(static_cast<std::int64_t>(m), static_cast<std::int64_t>(k))[static_cast<std::int64_t>(j)]);
      },
      chains);
}

enum class mutant { none, step_sign, linear_step, signal_at_s, fresh_noise, no_stop_gradient, no_boundary };
constexpr std::array<std::pair<mutant, const char*>, 6> mutants{{{mutant::step_sign, "D's sign"},
                                                                 {mutant::linear_step, "D = lambda' delta"},
                                                                 {mutant::signal_at_s, "f at s"},
                                                                 {mutant::fresh_noise, "fresh noise in x^"},
                                                                 {mutant::no_stop_gradient, "no stop-gradient"},
                                                                 {mutant::no_boundary, "no boundary"}}};

// The same training written out in float64, with one mistake: does the comparison with the chain see it? Cosine on
// [.001, .999], so that lambda' stays finite; Euler.
double engine_error(mutant wrong, std::uint64_t seed, int steps) {
  constexpr double t_min = 0.001, t_max = 0.999, beta = 0.5;
  const std::vector<level> levels = grid_levels(t_min, t_max, cosine_level);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<point> eps(noises), y(noises * (grid + 1)), gradient(y.size()), first(y.size()), second(y.size());
  for (point& e : eps) e = {normal(random), normal(random)};
  for (point& v : y) v = {normal(random), normal(random)};
  std::vector<std::vector<point>> chains;
  for (const point& e : eps) chains.push_back(reference_chain(e, levels, false));
  for (int it = 0; it < steps; ++it) {
    std::fill(gradient.begin(), gradient.end(), point{});
    for (std::size_t m = 0; m < noises; ++m) {
      for (std::size_t k = 0; k < grid; ++k) {
        const level a = levels[k], b = levels[k + 1];
        const double exact = 1 - a.alpha * b.sigma / (a.sigma * b.alpha), delta = (t_max - t_min) / grid;
        const double t = t_max - delta * static_cast<double>(k);
        double d = exact;
        if (wrong == mutant::step_sign) d = -exact;
        if (wrong == mutant::linear_step) d = std::numbers::pi / std::sin(std::numbers::pi * t) * delta;
        const level read = wrong == mutant::signal_at_s ? b : a;
        const point noise = wrong == mutant::fresh_noise ? point{normal(random), normal(random)} : eps[m];
        const point now = y[m * (grid + 1) + k], next = y[m * (grid + 1) + k + 1];
        const auto residual = [&](const point& from) {
          const point f = clean_signal(renoised(from, noise, a), read);
          return point{next[0] - from[0] - d * (f[0] - from[0]), next[1] - from[1] - d * (f[1] - from[1])};
        };
        const point r = residual(now);
        const double weight = 1 / (d * d);
        for (std::size_t j = 0; j < 2; ++j) gradient[m * (grid + 1) + k + 1][j] += weight * r[j];
        if (wrong != mutant::no_stop_gradient) continue;
        constexpr double h = 1e-5;  // the derivative through the target, by central differences
        for (std::size_t j = 0; j < 2; ++j) {
          point up = now, down = now;
          up[j] += h;
          down[j] -= h;
          const point ru = residual(up), rd = residual(down);
          gradient[m * (grid + 1) + k][j] += weight * (r[0] * (ru[0] - rd[0]) + r[1] * (ru[1] - rd[1])) / (2 * h);
        }
      }
      if (wrong == mutant::no_boundary) continue;
      for (std::size_t j = 0; j < 2; ++j)
        gradient[m * (grid + 1)][j] += beta * (y[m * (grid + 1)][j] - chains[m][0][j]);
    }
    const double rate = peak_rate * 0.5 * (1 + std::cos(std::numbers::pi * it / steps));
    const double c1 = 1 - std::pow(0.9, it + 1), c2 = 1 - std::pow(0.999, it + 1);
    for (std::size_t i = 0; i < y.size(); ++i)
      for (std::size_t j = 0; j < 2; ++j) {
        const double g = gradient[i][j];
        first[i][j] += 0.1 * (g - first[i][j]);
        second[i][j] += 0.001 * (g * g - second[i][j]);
        y[i][j] -= rate * first[i][j] / c1 / (std::sqrt(second[i][j] / c2) + 1e-8);
      }
  }
  return worst_error([&](std::size_t m, std::size_t k, std::size_t j) { return y[m * (grid + 1) + k][j]; }, chains);
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "tabular",
      {{"worst_fp32", "<= 1e-4", "distance to the 25-step DDIM chain, worst over t, schedules and seeds"},
       {"worst_heun", "<= 1e-4", "distance to the 25-step Heun chain, worst over t, schedules and seeds"},
       {"mutants_caught", "== 6", "broken engines whose distance is above 1e-3"}},
      {1, 2});
  if (const auto status = report.parse(argc, argv)) return *status;
  const int steps = report.quick() ? 600 : 2000;
  report.setting("steps", steps);
  report.config("weighting", "upwind");
  const boot::cpu dev = report.device();
  for (const bool heun : {false, true}) {
    const std::string row = heun ? "worst_heun" : "worst_fp32";
    if (!report.wants(row)) continue;
    double worst = 0;
    for (const std::uint64_t seed : report.seeds()) {
      const auto run = [&](const char* name, const auto& schedule, level (*at)(double)) {
        const std::string key = fmt::format("{} {} seed={}", heun ? "heun" : "euler", name, seed);
        const double error = report.cached(key, [&] { return library_error(dev, schedule, at, heun, seed, steps); });
        report.beside(key, error);
        worst = error <= worst ? worst : error;
      };
      run("cosine", boot::cosine_schedule{}, cosine_level);
      run("flow", boot::flow_schedule{}, flow_level);
      run("linear", boot::linear_schedule{}, linear_level);
    }
    report.row(row, worst);
  }
  if (report.wants("mutants_caught")) {
    const std::uint64_t seed = report.seeds().front();
    const double control = report.cached("control", [&] { return engine_error(mutant::none, seed, steps); });
    report.beside("engine without a mistake", control);
    int caught = 0;
    for (const auto& [wrong, name] : mutants) {
      const double error = report.cached(name, [&, w = wrong] { return engine_error(w, seed, steps); });
      report.beside(fmt::format("engine with {}", name), std::isfinite(error) ? error : 1e300);
      caught += error > 1e-3 ? 1 : 0;
    }
    // Engines that are all far off would prove nothing: the same code without a mistake must be on the chain.
    report.row("mutants_caught", control <= 1e-4 ? caught : 0, fmt::format("without a mistake {:.2g}", control));
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
