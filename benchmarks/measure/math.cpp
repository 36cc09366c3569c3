// SPDX-License-Identifier: MIT
/// The mathematics against the truth: order of the steps on the exact Gaussian, rounding of the fused loss kernel.
#include "measure.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/model/gaussian.hpp>
#include <boot/objective/weighting.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/heun.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <limits>
#include <map>
#include <numeric>

namespace {

using boot::cpu;
using boot::prediction_kind;

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Random numbers of the measure: a function of the seed and of how many were taken before.
class numbers {
 public:
  numbers(std::uint64_t seed, std::uint64_t sample) : key_{seed, boot::stream::test, 0}, sample_(sample) {}
  double normal() { return static_cast<double>(boot::normal(key_, sample_, at_++)); }
  double uniform() { return static_cast<double>(boot::uniform({key_.seed, key_.s, 1}, sample_, at_++)); }

 private:
  boot::counter_key key_;
  std::uint64_t sample_, at_ = 0;
};

/// Slope of the least-squares line through (x, y).
double slope_of(const std::vector<double>& x, const std::vector<double>& y) {
  const double n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n,
               mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double above = 0, below = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    above += (x[i] - mean_x) * (y[i] - mean_y);
    below += (x[i] - mean_x) * (x[i] - mean_x);
  }
  return above / below;
}

struct slopes {
  double euler, heun;
};

/// Slopes of log(local error) against log(step in lambda).
///
/// From the exact y_t on the trajectory of each noise (boot::gaussian::signal) ONE step of the library's own sampler, in
/// float64, goes to s; its error is the RMS, over noises and coordinates, of y_s minus the exact y_s. Steps in lambda are
/// 1/16, 1/32 .. 1/256, s = time_of_lambda(lambda_t - step). One slope for every starting time: eight between 5 % and 99 % of
/// the range of t. What is kept is the slope farthest from the order that is due.
template <class Schedule>
slopes measure_slopes(const Schedule& schedule, std::uint64_t seed) {
  const cpu dev{1};
  constexpr std::int64_t noises = 256, dimension = 8;
  numbers random(seed, 0);
  std::vector<double> mean, deviation;
  for (std::int64_t j = 0; j < dimension; ++j) {
    mean.push_back(0.5 * random.normal());
    deviation.push_back(0.05 * std::pow(40.0, static_cast<double>(j) / (dimension - 1)));
  }
  const boot::gaussian teacher(schedule, mean, deviation);
  boot::tensor<double, cpu> eps(dev, {noises, dimension}), y(dev, {noises, dimension}), exact(dev, {noises, dimension});
  for (std::int64_t i = 0; i < eps.size(); ++i) eps.data()[i] = random.normal();
  const boot::view<const double, cpu> noise = eps;

  const auto error_of = [&](double t, double s, bool heun) {
    teacher.signal(noise, t, y.get());
    teacher.signal(noise, s, exact.get());
    const boot::sampler_options options{.times = {t, s}, .start = boot::trajectory_start::signal};
    if (heun) {
      boot::heun_sample(dev, teacher, schedule, boot::no_condition{}, noise, options, y.get());
    } else {
      boot::ddim_sample(dev, teacher, schedule, boot::no_condition{}, noise, options, y.get());
    }
    double sum = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) sum += std::pow(y.data()[i] - exact.data()[i], 2);
    return std::sqrt(sum / static_cast<double>(y.size()));
  };
  slopes worst{2, 3};
  for (const double position : {0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99}) {
    const double t = schedule.t_min() + position * (schedule.t_max() - schedule.t_min());
    std::vector<double> step, euler, heun;
    for (const double h : {1.0 / 16, 1.0 / 32, 1.0 / 64, 1.0 / 128, 1.0 / 256}) {
      const double s = boot::time_of_lambda(schedule, boot::schedule_lambda(schedule, t) - h);
      step.push_back(std::log(h));
      euler.push_back(std::log(error_of(t, s, false)));
      heun.push_back(std::log(error_of(t, s, true)));
    }
    const double e = slope_of(step, euler), h = slope_of(step, heun);
    if (!(std::abs(e - 2) < std::abs(worst.euler - 2))) worst.euler = e;
    if (!(std::abs(h - 3) < std::abs(worst.heun - 3))) worst.heun = h;
  }
  return worst;
}

struct bounds {
  double gradient = 0, loss = 0;
};

/// Errors of the fused kernel (bootstrap_euler_op through for_each_element, fp32) in units of their bounds, worst of `cases`
/// elements of one prediction kind on one schedule.
///
/// Samples of 40 elements (vector body and remainder). Each has its own t and s = t - .04 of the range, a quarter of the
/// times each at and near either end, the rest between; guidance none or a scale up to 8; weight 1/|D| or 1/D^2. Coefficients
/// are float64 on the host and rounded to fp32 by the table of rows, as in training; the reference uses them unrounded, with
/// the fp32 values of y_s, y_t, x^ and the raw outputs taken as exact. Half of the samples are random: y_s, y_t and raw
/// outputs standard normal. The other half is near convergence: y_s = y_t + .02 D noise and raw outputs that mean
/// f = y_t + .02 noise. x^ = alpha y_t + sigma eps, stored as fp32.
///
/// The gradient is taken before its factor 2/(elements batch), so it is g = w r, and its bound is
///   B = 8 2^-24 w (|y_s| + |y_t| + D (|a x| + |b| (|out_n| + guidance (|out_c| + |out_n|)) + |y_t|)).
/// The loss of a sample, sum w r^2, gets the same bound propagated: an error B/w of r is one of 2 |r| B + B^2/w of w r^2;
/// summed over the elements.
template <class Schedule>
bounds measure_bounds(const Schedule& schedule, boot::prediction kind, std::int64_t cases, std::uint64_t seed) {
  constexpr std::int64_t n = 40;
  constexpr double unit = 0x1p-24;
  const cpu dev{1};
  const std::int64_t batch = cases / n;
  const auto size = static_cast<std::size_t>(batch * n);
  std::vector<float> y_s(size), y_t(size), x(size), out_c(size), out_n(size), gradient(size, NAN);
  std::vector<float> sums(static_cast<std::size_t>(batch), NAN);
  std::vector<boot::bootstrap_row<float>> rows(static_cast<std::size_t>(batch));
  struct exact_row {
    double a, b, guidance, step, weight;
  };
  std::vector<exact_row> exact(rows.size());
  const double low = schedule.t_min(), high = schedule.t_max(), delta = 0.04 * (high - low);
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto k = static_cast<std::size_t>(i);
    numbers random(seed, static_cast<std::uint64_t>(i));
    const double u = random.uniform();
    const double near_end = 1e-3 * random.uniform() * (high - low) * (random.uniform() < 0.5 ? 0 : 1);
    const double t = i % 4 == 0   ? high - near_end
                     : i % 4 == 1 ? low + delta + near_end
                                  : low + delta + u * (high - low - delta);
    const double s = (std::max)(low, t - delta);
    const double step = boot::signal_step(schedule, t, s), alpha = schedule.alpha(t), sigma = schedule.sigma(t);
    const auto ab = boot::clean_signal_at(kind, schedule, t);
    const bool guided = random.uniform() < 0.5, near_converged = (i / 4) % 2 == 1;
    const double w = guided ? 8 * random.uniform() : 0;
    const double weight = (i / 8) % 2 == 0 ? 1 / std::abs(step) : 1 / (step * step);
    exact[k] = {ab.a, ab.b, w, step, weight};
    constexpr float none = std::numeric_limits<float>::infinity();
    rows[k] = {.a = static_cast<float>(ab.a),
               .b = static_cast<float>(ab.b),
               .guidance = static_cast<float>(w),
               .step = static_cast<float>(step),
               .heun = 0,
               .weight = static_cast<float>(weight),
               .loss_scale = 1,
               .gradient_scale = 0.5f,  // the derivative of r^2 is 2 r: an exact half leaves w r
               .low = -none,
               .high = none};
    for (std::int64_t j = i * n; j < (i + 1) * n; ++j) {
      const auto e = static_cast<std::size_t>(j);
      y_t[e] = static_cast<float>(random.normal());
      x[e] = static_cast<float>(alpha * static_cast<double>(y_t[e]) + sigma * random.normal());
      const double of_y = random.normal(), of_c = random.normal(), of_n = random.normal();
      if (near_converged) {
        const double at = static_cast<double>(y_t[e]), from = static_cast<double>(x[e]);
        y_s[e] = static_cast<float>(at + 0.02 * step * of_y);
        out_c[e] = static_cast<float>(boot::raw_output(kind, alpha, sigma, from, at + 0.02 * of_c));
        out_n[e] = guided ? static_cast<float>(boot::raw_output(kind, alpha, sigma, from, at + 0.02 * of_n)) : out_c[e];
      } else {
        y_s[e] = static_cast<float>(of_y);
        out_c[e] = static_cast<float>(of_c);
        out_n[e] = guided ? static_cast<float>(of_n) : out_c[e];
      }
    }
  }
  boot::for_each_element<float>(
      dev, boot::bootstrap_euler_op<float>{}, rows.data(), batch, n,
      boot::inputs<float, float, float, float, float>(y_s.data(), y_t.data(), x.data(), out_c.data(), out_n.data()),
      boot::outputs<float>(gradient.data()), sums.data());

  bounds worst;
  const auto raise = [](double& to, double error, double bound) {
    const double ratio = error / bound;
    if (!(ratio <= to)) to = std::isfinite(ratio) ? ratio : infinity;  // a NaN counts as infinite
  };
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto& p = exact[static_cast<std::size_t>(i)];
    double loss = 0, loss_bound = 0;
    for (std::int64_t j = i * n; j < (i + 1) * n; ++j) {
      const auto e = static_cast<std::size_t>(j);
      const double at_s = static_cast<double>(y_s[e]), at_t = static_cast<double>(y_t[e]),
                   from = static_cast<double>(x[e]);
      const double c = static_cast<double>(out_c[e]), without = static_cast<double>(out_n[e]);
      const double f = p.a * from + p.b * (without + p.guidance * (c - without));
      const double r = at_s - (at_t + p.step * (f - at_t));
      const double bound =
          8 * unit * p.weight *
          (std::abs(at_s) + std::abs(at_t) +
           p.step *
               (std::abs(p.a * from) +
                std::abs(p.b) * (std::abs(without) + p.guidance * (std::abs(c) + std::abs(without))) + std::abs(at_t)));
      raise(worst.gradient, std::abs(static_cast<double>(gradient[e]) - p.weight * r), bound);
      loss += p.weight * r * r;
      loss_bound += 2 * std::abs(r) * bound + bound * bound / p.weight;
    }
    raise(worst.loss, std::abs(static_cast<double>(sums[static_cast<std::size_t>(i)]) - loss), loss_bound);
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "math",
      {{"euler_slope_off", "<= 0.05", "worst deviation of the DDIM step's local order from 2"},
       {"heun_slope_off", "<= 0.1", "worst deviation of the Heun step's local order from 3"},
       {"fused_gradient_bound", "<= 1", "fused fp32 gradient: worst error in units of its bound"},
       {"fused_loss_bound", "<= 1", "fused fp32 loss: worst error in units of its bound"}},
      {1, 2, 3});
  if (const auto status = report.parse(argc, argv)) return *status;
  const boot::cosine_schedule cosine;
  const boot::linear_schedule linear;
  const boot::flow_schedule flow;
  const boot::edm_schedule edm;

  if (report.wants_any({"euler_slope_off", "heun_slope_off"})) {
    double euler = 0, heun = 0;
    std::string euler_at, heun_at;
    std::map<std::string, slopes> farthest;
    const auto take = [&](const char* name, const slopes& s) {
      slopes& kept = farthest.try_emplace(name, s).first->second;
      if (std::abs(s.euler - 2) > std::abs(kept.euler - 2)) kept.euler = s.euler;
      if (!(std::abs(s.heun - 3) <= std::abs(kept.heun - 3))) kept.heun = s.heun;
      // Written so that a NaN is taken, which then fails its bar.
      if (!(std::abs(s.euler - 2) < euler)) euler = std::abs(s.euler - 2), euler_at = name;
      if (!(std::abs(s.heun - 3) < heun)) heun = std::abs(s.heun - 3), heun_at = name;
    };
    for (const std::uint64_t seed : report.seeds()) {
      take("cosine", measure_slopes(cosine, seed));
      take("linear", measure_slopes(linear, seed));
      take("flow", measure_slopes(flow, seed));
      take("edm", measure_slopes(edm, seed));
    }
    for (const auto& [name, s] : farthest)
      report.beside("slopes " + name, fmt::format("Euler {:.4f}, Heun {:.4f}", s.euler, s.heun));
    report.row("euler_slope_off", euler, "worst on " + euler_at);
    report.row("heun_slope_off", heun, "worst on " + heun_at);
  }

  if (report.wants_any({"fused_gradient_bound", "fused_loss_bound"})) {
    const std::int64_t cases = report.quick() ? 100'000 : 1'000'000;  // of each kind, on each schedule that suits it
    bounds worst;
    std::string gradient_at, loss_at;
    const auto take = [&](prediction_kind kind, const char* name, const auto& schedule) {
      for (const std::uint64_t seed : report.seeds()) {
        const bounds b = measure_bounds(schedule, {.kind = kind}, cases, seed);
        const std::string where = fmt::format("{} on {}", boot::to_string(kind), name);
        report.progress("{}, seed {}: gradient {:.3f}, loss {:.3f}", where, seed, b.gradient, b.loss);
        if (b.gradient >= worst.gradient) worst.gradient = b.gradient, gradient_at = where;
        if (b.loss >= worst.loss) worst.loss = b.loss, loss_at = where;
      }
    };
    take(prediction_kind::sample, "cosine", cosine);
    take(prediction_kind::sample, "edm", edm);
    take(prediction_kind::epsilon, "linear", linear);
    take(prediction_kind::epsilon, "edm", edm);
    take(prediction_kind::v, "cosine", cosine);
    take(prediction_kind::v, "linear", linear);
    take(prediction_kind::flow, "flow", flow);
    take(prediction_kind::edm, "edm", edm);
    report.config("fused_cases", cases);
    report.row("fused_gradient_bound", worst.gradient, "worst for " + gradient_at);
    report.row("fused_loss_bound", worst.loss, "worst for " + loss_at);
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
