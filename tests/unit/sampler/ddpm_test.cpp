// SPDX-License-Identifier: MIT
/// Ancestral sampling: ddim with eta = 1 in every bit, the posterior's own mean and variance, its limit for many steps.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/ddim.hpp>
#include <boot/sampler/ddpm.hpp>

using boot::cpu;
using boot::no_condition;
using boot::testing::sampler_noise;

TEST_CASE("ddpm: is ddim with eta = 1", "[sampler]") {
  boot::testing::for_each_schedule([](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
    boot::tensor<float, cpu> a(cpu{}, {30, 4}), b(cpu{}, {30, 4}), plain(cpu{}, {30, 4});
    const boot::drawn_noise noise{12, 3};
    boot::ddpm_sample(cpu{}, teacher, schedule, no_condition{}, noise, {.steps = 6, .batch = 7}, a.get());
    boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, noise, {.steps = 6, .eta = 1}, b.get());
    boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, noise, {.steps = 6}, plain.get());
    REQUIRE(boot::to_host(cpu{}, a.get()) == boot::to_host(cpu{}, b.get()));
    REQUIRE(boot::testing::sampler_rms(a, plain) > 0.05);
  });
}

TEST_CASE("ddpm: one step has the mean and variance of the posterior q(x_s | x_t, x0)", "[sampler]") {
  // Everybody at the same x_t: what varies in x_s is fresh noise alone. A teacher without spread fixes x0 at its mean.
  constexpr std::int64_t n = 40000;
  constexpr double x0 = 0.7, y = 0.2, noise = -1.3;
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, {x0}, {0.0});
    const double range = schedule.t_max() - schedule.t_min();
    const double t = schedule.t_min() + 0.6 * range, s = schedule.t_min() + 0.4 * range;
    const double a = schedule.alpha(t), b = schedule.sigma(t), a2 = schedule.alpha(s), b2 = schedule.sigma(s);
    boot::tensor<double, cpu> eps(cpu{}, {n, 1}), out(cpu{}, {n, 1}), x(cpu{}, {n, 1});
    for (std::int64_t i = 0; i < n; ++i) {
      eps.data()[i] = noise;
      out.data()[i] = y;
    }
    boot::ddpm_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                      {.times = {t, s}, .start = boot::trajectory_start::signal, .renoise = {.seed = 5}}, out.get(),
                      x.get());
    // Product of N(x_s; a2 x0, b2^2) and N(x_t; (a/a2) x_s, b^2 - (a/a2)^2 b2^2), normalised.
    const double k = a / a2, forward = b * b - k * k * b2 * b2;
    const double variance = 1 / (1 / (b2 * b2) + k * k / forward);
    const double mean = variance * (a2 * x0 / (b2 * b2) + k * (a * y + b * noise) / forward);
    double sum = 0, square = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x.data()[i];
    sum /= static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) square += std::pow(x.data()[i] - sum, 2) / static_cast<double>(n);
    REQUIRE(std::abs(sum - mean) < 5 * std::sqrt(variance / static_cast<double>(n)));
    REQUIRE(std::abs(square / variance - 1) < 5 * std::sqrt(2 / static_cast<double>(n)));
    for (std::int64_t i = 0; i < n; i += 1000) REQUIRE(std::abs(out.data()[i] - out.data()[0]) < 1e-15);
  });
}

TEST_CASE("ddpm: many steps give the data's distribution", "[sampler]") {
  constexpr std::int64_t n = 4000;
  const boot::cosine_schedule schedule;
  const boot::gaussian teacher(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation);
  boot::tensor<float, cpu> out(cpu{}, {n, 4}), x(cpu{}, {n, 4});
  boot::ddpm_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{77, 0}, {.steps = 400}, out.get(),
                    x.get());
  for (std::int64_t j = 0; j < 4; ++j) {
    const auto k = static_cast<std::size_t>(j);
    const double deviation = boot::testing::sampler_deviation[k];
    double sum = 0, square = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(out.data()[4 * i + j]) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i)
      square += std::pow(static_cast<double>(out.data()[4 * i + j]) - sum, 2) / static_cast<double>(n);
    REQUIRE(std::abs(sum - boot::testing::sampler_mean[k]) < 5 * deviation / std::sqrt(static_cast<double>(n)));
    REQUIRE(std::abs(std::sqrt(square) / deviation - 1) < 0.1);  // 5 standard errors and the steps' own bias
  }
}

TEST_CASE("ddpm: eta belongs to ddim", "[sampler]") {
  const boot::cosine_schedule schedule;
  const boot::gaussian teacher(schedule, {0.0}, {1.0});
  boot::tensor<float, cpu> out(cpu{}, {2, 1});
  REQUIRE_THAT(boot::testing::sampler_message([&] {
                 boot::ddpm_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, {.eta = 1},
                                   out.get());
               }),
               Catch::Matchers::ContainsSubstring("ddpm_sample got eta = 1"));
}
