// SPDX-License-Identifier: MIT
/// A user's own schedule, teacher and network: one call of the student against many DDIM steps of the teacher.
#include <boot.hpp>
#include <boot/metric/endpoint_error.hpp>

#include <fmt/core.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

namespace {

/// A straight line between data and noise that leaves the data slowly. Four members make a NoiseSchedule; lambda, its
/// slope and the size of a step are derived from them.
struct slow_start {
  double alpha(double t) const { return 1 - std::pow(t, 1.5); }
  double sigma(double t) const { return std::pow(t, 1.5); }
  double t_min() const { return 0.01; }
  double t_max() const { return 1; }
};

/// The exact denoiser of points on the unit circle with normal noise of deviation .1. Given x, the angle of the point
/// behind it has a von Mises density of concentration k = alpha |x|/(alpha^2 S^2 + sigma^2) about the angle of x.
struct circle_teacher {
  static constexpr double deviation = 0.1;
  slow_start schedule;

  /// I1(k)/I0(k), the mean of a cosine under that density: a continued fraction, or its expansion for large k.
  static double mean_cosine(double k) {
    if (k < 1e-12) return 0;
    if (k > 30) return 1 - 1 / (2 * k) - 1 / (8 * k * k) - 1 / (8 * k * k * k);
    double ratio = 0;
    for (int n = 60; n >= 1; --n) ratio = 1 / (2 * n / k + ratio);
    return ratio;
  }
  template <boot::Condition C>
  void predict(const boot::cpu&, boot::view<const float, boot::cpu> x, const boot::times<boot::cpu>& t, const C&,
               boot::view<float, boot::cpu> out) const {
    for (std::int64_t i = 0; i < x.batch(); ++i) {
      const double alpha = schedule.alpha(t.time[i]), sigma = schedule.sigma(t.time[i]);
      const double variance = alpha * alpha * deviation * deviation + sigma * sigma;
      const double u = static_cast<double>(x[2 * i]), v = static_cast<double>(x[2 * i + 1]), length = std::hypot(u, v);
      const double ring = length > 0 ? mean_cosine(alpha * length / variance) / length : 0;
      const double gain = alpha * deviation * deviation / variance;
      for (const std::int64_t j : {2 * i, 2 * i + 1}) {
        const double at = static_cast<double>(x[j]), centre = ring * at;  // where the point of the circle is expected
        out[j] = static_cast<float>(centre + gain * (at - alpha * centre));
      }
    }
  }
  static boot::prediction prediction() { return {boot::prediction_kind::sample}; }
  static boot::shape sample_shape() { return {2}; }
};

/// A layer of the user's own: x + W2 silu(W1 silu(x)), starting as the identity.
struct residual_block {
  boot::linear first, second;
  explicit residual_block(std::int64_t width) : first(width, width), second(width, width) { second.zero(); }
  auto operator()(auto& g, const auto& x) const { return add(g, x, second(g, silu(g, first(g, silu(g, x))))); }
  void visit(auto& v) { v("first", first), v("second", second); }
};

/// A network of the user's own: the target time is added once, in front of the blocks.
struct residual_network {
  boot::linear in{2, 96}, out{96, 2};
  boot::time_embedding target{{.features = 32, .max_period = 8, .factor = 8}, 96};
  std::vector<residual_block> blocks{3, residual_block(96)};

  auto operator()(auto& g, const auto& x, const auto&, const auto& t_target, const auto&) const {
    auto h = add(g, in(g, x), target(g, t_target));
    for (const residual_block& block : blocks) h = block(g, h);
    return out(g, silu(g, h));
  }
  void visit(auto& v) { v("in", in), v("target", target), v("blocks", blocks), v("out", out); }
  static boot::shape sample_shape() { return {2}; }
};

void run() {
  const boot::cpu dev;
  const slow_start schedule;
  const circle_teacher teacher{schedule};
  boot::network_model student(dev, residual_network{}, {boot::prediction_kind::v});

  boot::bootstrap loss{teacher, student, schedule};
  boot::distiller trainer{dev, loss, {.steps = 2000, .batch = 256, .rate = {.peak = 3e-3}}};
  fmt::print("{}\n", to_string(trainer.plan()));
  const boot::run_result result = trainer.run();

  const std::int64_t n = 2048;
  const boot::drawn_noise fresh{.seed = 777};
  boot::tensor<float, boot::cpu> truth(dev, {n, 2}), y(dev, {n, 2});
  boot::heun_sample(dev, teacher, schedule, boot::no_condition{}, fresh,
                    {.steps = 200, .spacing = boot::time_spacing::lambda}, truth.get());
  const auto error = [&] { return boot::endpoint_error(dev, y, truth).relative; };
  fmt::print("endpoint error on fresh noise\n");
  for (const std::int64_t steps : {1, 2, 4, 8, 16}) {
    boot::ddim_sample(dev, teacher, schedule, boot::no_condition{}, fresh, {.steps = steps}, y.get());
    fmt::print("  teacher, DDIM-{:<3} {:.4f}\n", steps, error());
  }
  boot::one_step_sample(dev, trainer.average_model(), schedule, boot::no_condition{}, fresh, {}, y.get());
  fmt::print("  student, 1 call   {:.4f}   ({:.1f} s of distilling)\n", error(), result.seconds);
}

}  // namespace

int main() try { run(); } catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
