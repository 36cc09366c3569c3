// SPDX-License-Identifier: MIT
/// Distils the exact teacher of a two-dimensional Gaussian mixture and draws trajectories, teacher and student samples.
#include "gaussian_mixture/problems.hpp"

#include <boot.hpp>
#include <boot/io/image.hpp>
#include <boot/metric/endpoint_error.hpp>
#include <boot/metric/sliced_wasserstein.hpp>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using points = boot::tensor<float, boot::cpu>;
using colour = std::array<float, 3>;

/// Three square panels side by side; x and y from -2.6 to 2.6.
class canvas {
 public:
  static constexpr std::int64_t side = 360, gap = 8, panels = 3;
  canvas() : image_({}, {side, panels * side + (panels - 1) * gap, 3}) {
    std::fill_n(image_.data(), image_.size(), std::uint8_t{255});
  }
  /// Blends a dot of radius `r` pixels, antialiased.
  void dot(std::int64_t panel, double x, double y, double r, const colour& c, double opacity) {
    const double px = (x + 2.6) / 5.2 * side, py = (2.6 - y) / 5.2 * side;
    const auto reach = static_cast<std::int64_t>(r + 2);
    for (std::int64_t j = std::llround(py) - reach; j <= std::llround(py) + reach; ++j)
      for (std::int64_t i = std::llround(px) - reach; i <= std::llround(px) + reach; ++i) {
        if (i < 0 || j < 0 || i >= side || j >= side) continue;
        const double distance = std::hypot(static_cast<double>(i) - px, static_cast<double>(j) - py);
        const double cover = opacity * std::clamp(r + 0.5 - distance, 0.0, 1.0);
        std::uint8_t* const p = image_.data() + (j * image_.extents()[1] + panel * (side + gap) + i) * 3;
        for (std::size_t k = 0; k < 3; ++k)
          p[k] = static_cast<std::uint8_t>(p[k] * (1 - cover) + 255 * static_cast<double>(c[k]) * cover);
      }
  }
  void line(std::int64_t panel, double x0, double y0, double x1, double y1, const colour& c, double opacity) {
    const double length = std::hypot(x1 - x0, y1 - y0) / 5.2 * side;
    const int n = static_cast<int>(length * 2) + 1;
    for (int i = 0; i < n; ++i) dot(panel, x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n, 0.3, c, opacity);
  }
  void write(const std::string& path) const { boot::write_png(path, image_.get()); }

 private:
  boot::tensor<std::uint8_t, boot::cpu> image_;
};

void scatter(canvas& picture, std::int64_t panel, const points& p, const colour& c) {
  for (std::int64_t i = 0; i < p.extents().batch(); ++i)
    picture.dot(panel, static_cast<double>(p.data()[2 * i]), static_cast<double>(p.data()[2 * i + 1]), 1.2, c, 0.35);
}

int run(int argc, char** argv) {
  std::string out = "out/gaussian_mixture";
  std::int64_t steps = 4000;
  std::uint64_t seed = 0;
  int threads = 0;
  bool quick = false, heun = false;
  CLI::App app("Distils the exact teacher of a 2-D Gaussian mixture into a one-step student, without data.");
  app.add_option("--out", out, "folder of the picture")->capture_default_str();
  app.add_option("--steps", steps, "distillation steps")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seed", seed, "of everything random")->capture_default_str();
  app.add_option("--threads", threads, "0: all")->capture_default_str();
  app.add_flag("--heun", heun, "Heun target instead of Euler");
  app.add_flag("--quick", quick, "a short run to see that everything works");
  CLI11_PARSE(app, argc, argv);
  if (quick) steps = std::min<std::int64_t>(steps, 300);
  std::filesystem::create_directories(out);

  // The three parts: a schedule, a teacher whose clean signal is known exactly, a student network.
  const boot::cpu dev{threads};
  const boot::cosine_schedule schedule({.t_min = 0.001, .t_max = 0.999});
  const boot::gaussian_mixture teacher(schedule, problems::circle());
  boot::mlp_options shape;
  shape.features = 2;
  shape.width = 128;
  shape.hidden_layers = 3;
  shape.time = {.features = 32, .max_period = 8};
  shape.time_scale = 8;
  shape.target_time = true;
  boot::network_model student(dev, boot::mlp(shape), {boot::prediction_kind::v}, seed);

  boot::bootstrap loss(
      teacher, student, schedule,
      boot::bootstrap_options{.boundary_fraction = 0.2,
                              .target = heun ? boot::target_solver::heun : boot::target_solver::euler});
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = 640,
                           .seed = seed,
                           .rate = {.peak = 1e-3},
                           .optimizer = {.weight_decay = 0},
                           .folder = out,
                           .report_every = std::max<std::int64_t>(1, steps / 4)}};
  const auto result = trainer.run();
  boot::require(result.finished, "stopped after {} of {} steps", result.step, steps);
  const auto averaged = student.clone(dev, trainer.optimizer().average(0));
  fmt::print("Distilled in {:.1f} s, no data.\n\n", result.seconds);

  // Fresh noise: where does the teacher's ODE take it, and where the student's single call?
  const std::int64_t n = 4096;
  points truth(dev, {n, 2}), y(dev, {n, 2});
  const boot::drawn_noise fresh{777, 0};
  boot::heun_sample(dev, teacher, schedule, boot::no_condition{}, fresh,
                    {.steps = quick ? 50 : 400, .spacing = boot::time_spacing::lambda}, truth.get());
  const auto report = [&](const std::string& name, std::int64_t calls) {
    fmt::print("{:<18}{:>14}{:>17.4f}{:>23.4f}\n", name, calls, boot::endpoint_error(dev, y, truth).relative,
               boot::sliced_wasserstein2(dev, y, truth));
  };
  fmt::print("{:<18}{:>14}{:>17}{:>23}\n", "", "network calls", "endpoint error", "sliced Wasserstein-2");
  for (const std::int64_t ddim : {1, 2, 4, 8, 16}) {
    boot::ddim_sample(dev, teacher, schedule, boot::no_condition{}, fresh, {.steps = ddim}, y.get());
    report(fmt::format("teacher, DDIM-{}", ddim), ddim);
  }
  boot::refined_sample(dev, averaged, teacher, schedule, boot::no_condition{}, fresh, {.t_middle = 0.1}, y.get());
  report("student, refined", 2);
  boot::one_step_sample(dev, averaged, schedule, boot::no_condition{}, fresh, {}, y.get());
  report("student", 1);

  canvas picture;
  const std::int64_t shown = 120, moments = 60;
  points before(dev, {shown, 2}), now(dev, {shown, 2}), x(dev, {shown, 2});
  for (std::int64_t k = 0; k <= moments; ++k) {
    // The trajectory the student learned, at every target time: x_t = alpha y + sigma eps, drawn from noise to data.
    const double t = schedule.t_max() + (schedule.t_min() - schedule.t_max()) * static_cast<double>(k) / moments;
    boot::one_step_sample(dev, averaged, schedule, boot::no_condition{}, fresh, {.t_target = t}, now.get(), x.get());
    for (std::int64_t i = 0; k > 0 && i < shown; ++i)
      picture.line(0, static_cast<double>(before.data()[2 * i]), static_cast<double>(before.data()[2 * i + 1]),
                   static_cast<double>(x.data()[2 * i]), static_cast<double>(x.data()[2 * i + 1]), {0.45f, 0.45f, 0.5f},
                   0.25);
    std::copy_n(x.data(), 2 * shown, before.data());
  }
  for (std::int64_t i = 0; i < shown; ++i)
    picture.dot(0, static_cast<double>(before.data()[2 * i]), static_cast<double>(before.data()[2 * i + 1]), 2.2,
                {0.8f, 0.25f, 0.15f}, 0.9);
  scatter(picture, 1, truth, {0.15f, 0.35f, 0.7f});
  scatter(picture, 2, y, {0.8f, 0.25f, 0.15f});
  picture.write(out + "/mixture.png");
  fmt::print("\nPicture: {}/mixture.png: the student's trajectories, the teacher's ODE, the student's single call.\n",
             out);
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
