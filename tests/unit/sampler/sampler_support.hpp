// SPDX-License-Identifier: MIT
/// What the sampler tests share: noise, an independent Gaussian, distances, and the message of an error.
#pragma once

#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/model/gaussian.hpp>
#include <boot/sampler/sampler.hpp>
#include <boot/sampler/time_grid.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace boot::testing {

/// Text of the boot::error that f throws, "no error" otherwise.
template <class F>
std::string sampler_message(const F& f) {
  try {
    f();
  } catch (const boot::error& e) {
    return e.what();
  }
  return "no error";
}

/// The noise of samples first .. first + batch - 1.
template <class T>
boot::tensor<T, cpu> sampler_noise(std::int64_t batch, std::int64_t dimension, std::uint64_t seed,
                                   std::int64_t first = 0) {
  boot::tensor<T, cpu> eps(cpu{}, {batch, dimension});
  std::vector<std::int64_t> samples(static_cast<std::size_t>(batch));
  std::iota(samples.begin(), samples.end(), first);
  boot::fill_noise(cpu{}, counter_key{seed, stream::noise, 0}, std::span<const std::int64_t>(samples), eps.get());
  return eps;
}

/// Mean and deviation of the Gaussian most sampler tests use.
inline const std::vector<double> sampler_mean{0.7, -0.3, 0.1, 1.2};
inline const std::vector<double> sampler_deviation{0.05, 0.4, 1.0, 1.9};

/// Its clean signal, written down again.
inline double sampler_clean(std::size_t j, double x, double alpha, double sigma) {
  const double s2 = sampler_deviation[j] * sampler_deviation[j];
  return (sampler_mean[j] * sigma * sigma + alpha * s2 * x) / (alpha * alpha * s2 + sigma * sigma);
}

/// Root mean square of the difference.
template <class A, class B>
double sampler_rms(const A& a, const B& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.size(); ++i)
    sum += std::pow(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]), 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// Largest difference.
template <class A, class B>
double sampler_worst(const A& a, const B& b) {
  double worst = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    if (!(d <= worst)) worst = d;
  }
  return worst;
}

/// Calls f(name, schedule) for every shipped kind of schedule.
template <class F>
void for_each_schedule(const F& f) {
  f("cosine", cosine_schedule{});
  f("linear", linear_schedule{});
  f("flow", flow_schedule{});
  f("edm", edm_schedule{});
}

/// Local errors of one step of `sample(dev, teacher, schedule, noise, options, y)` from the exact trajectory, for steps
/// 1/16 .. 1/256 in lambda; the slope of their logarithms.
template <class Schedule, class Sample>
double local_order(const Schedule& schedule, double position, const Sample& sample) {
  const boot::gaussian teacher(schedule, sampler_mean, sampler_deviation);
  const auto eps = sampler_noise<double>(64, 4, 11);
  boot::tensor<double, cpu> y(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  const double t = schedule.t_min() + position * (schedule.t_max() - schedule.t_min());
  double sx = 0, sy = 0, sxx = 0, sxy = 0, n = 0;
  for (const double h : {1.0 / 16, 1.0 / 32, 1.0 / 64, 1.0 / 128, 1.0 / 256}) {
    const double s = time_of_lambda(schedule, schedule_lambda(schedule, t) - h);
    teacher.signal(eps.get(), t, y.get());
    teacher.signal(eps.get(), s, exact.get());
    sample(teacher, eps, std::vector<double>{t, s}, y);
    const double a = std::log(h), b = std::log(sampler_rms(y, exact));
    sx += a, sy += b, sxx += a * a, sxy += a * b, n += 1;
  }
  return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

/// A sampler's chain, walked in x by hand: `walk(f, x)` takes x at times.front() to x at times.back(), where f(x, t) is
/// the clean signal of the number it walks. Returns the signal that is left beside the noise.
template <class Schedule, class Walk>
boot::tensor<double, cpu> chain_in_x(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                     const std::vector<double>& times, const Walk& walk) {
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  for (std::int64_t i = 0; i < eps.size(); ++i) {
    const auto f = [&](double x, double t) {
      return sampler_clean(static_cast<std::size_t>(i % 4), x, schedule.alpha(t), schedule.sigma(t));
    };
    const double start = schedule.sigma(times[0]) * eps.data()[i];
    const double x = walk(f, start + schedule.alpha(times[0]) * f(start, times[0]));
    out.data()[i] = (x - schedule.sigma(times.back()) * eps.data()[i]) / schedule.alpha(times.back());
  }
  return out;
}

/// Checks that `sample(teacher, noise, times, y)` is of order 2 as a whole: halving its steps, 1/`fewest` at first,
/// quarters the error. Between two times where lambda is finite: at its infinite ends an even grid never becomes fine
/// in lambda.
template <class Schedule, class Sample>
void check_second_order(const Schedule& schedule, std::uint64_t seed, std::int64_t fewest, const Sample& sample) {
  const boot::gaussian teacher(schedule, sampler_mean, sampler_deviation);
  const auto eps = sampler_noise<double>(64, 4, seed);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  const double range = schedule.t_max() - schedule.t_min();
  const double from = schedule.t_min() + 0.95 * range, to = schedule.t_min() + 0.05 * range;
  teacher.signal(eps.get(), to, exact.get());
  std::vector<double> errors;
  for (const std::int64_t steps : {fewest, 2 * fewest, 4 * fewest}) {
    teacher.signal(eps.get(), from, out.get());
    sample(teacher, eps, boot::make_time_grid(schedule, time_spacing::lambda, steps, from, to), out);
    errors.push_back(sampler_rms(out, exact));
  }
  REQUIRE(errors[2] < 1e-3);
  REQUIRE(std::abs(errors[0] / errors[1] - 4) < 0.6);
  REQUIRE(std::abs(errors[1] / errors[2] - 4) < 0.4);
}

/// Checks that a sampler without noise of its own, `sample(teacher, schedule, options, out)`, refuses what only
/// stochastic samplers know.
template <class Sample>
void check_refuses_stochastic_options(const std::string& name, const Sample& sample) {
  const boot::cosine_schedule schedule;
  const boot::gaussian teacher(schedule, {0.0}, {1.0});
  boot::tensor<float, cpu> out(cpu{}, {2, 1});
  const auto with = [&](const boot::sampler_options& o) {
    return sampler_message([&] { sample(teacher, schedule, o, out); });
  };
  REQUIRE(with({}) == "no error");
  REQUIRE_THAT(with({.eta = 0.5}), Catch::Matchers::ContainsSubstring(name + " got eta = 0.5"));
  REQUIRE_THAT(with({.recompute_noise = false}), Catch::Matchers::ContainsSubstring("recompute_noise = false"));
}

/// Counts the samples it is asked for and the smallest noise it sees; otherwise its inner teacher.
template <class Teacher>
struct counting_teacher {
  const Teacher* inner;
  mutable std::int64_t samples = 0;
  mutable double earliest = 1e300;

  template <ComputeScalar T, Condition C>
  void predict(const cpu& dev, view<const T, cpu> x, const times<cpu, T>& t, const C& condition,
               view<T, cpu> out) const {
    samples += x.batch();
    for (std::int64_t i = 0; i < x.batch(); ++i) earliest = std::min(earliest, t.time[i]);
    inner->predict(dev, x, t, condition, out);
  }
  [[nodiscard]] boot::prediction prediction() const { return inner->prediction(); }
  [[nodiscard]] shape sample_shape() const { return inner->sample_shape(); }
};

}  // namespace boot::testing
