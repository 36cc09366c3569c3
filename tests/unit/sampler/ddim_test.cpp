// SPDX-License-Identifier: MIT
/// DDIM against chains written down in x, against the exact Gaussian, its statistics with fresh noise, and its errors.
#include "unit/sampler/sampler_support.hpp"

#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/guided.hpp>
#include <boot/sampler/ddim.hpp>

#include <algorithm>
#include <functional>  // the limiter of a reference chain

using boot::cpu;
using boot::no_condition;
using boot::sampler_options;
using boot::trajectory_start;
using boot::testing::sampler_message;
using boot::testing::sampler_noise;
using boot::testing::sampler_worst;
using Catch::Matchers::ContainsSubstring;

namespace {

using limiter = std::function<void(std::vector<double>&)>;

// DDIM as the paper writes it, in x and float64. The noise of a limited f is the network's own unless `recompute`.
template <class Schedule>
boot::tensor<double, cpu> chain(const Schedule& schedule, const boot::tensor<double, cpu>& eps,
                                const std::vector<double>& times, bool boundary, const limiter& limit = {},
                                bool recompute = true) {
  const std::size_t d = boot::testing::sampler_mean.size();
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  for (std::int64_t i = 0; i < eps.extents()[0]; ++i) {
    const double* e = eps.data() + i * static_cast<std::int64_t>(d);
    std::vector<double> x(d), raw(d), f(d);
    const auto ask = [&](double t) {
      for (std::size_t j = 0; j < d; ++j)
        raw[j] = boot::testing::sampler_clean(j, x[j], schedule.alpha(t), schedule.sigma(t));
      f = raw;
      if (limit) limit(f);
    };
    for (std::size_t j = 0; j < d; ++j) x[j] = schedule.sigma(times[0]) * e[j];
    if (boundary) {
      ask(times[0]);
      for (std::size_t j = 0; j < d; ++j) x[j] += schedule.alpha(times[0]) * f[j];
    }
    for (std::size_t k = 0; k + 1 < times.size(); ++k) {
      const double a = schedule.alpha(times[k]), s = schedule.sigma(times[k]);
      const double a2 = schedule.alpha(times[k + 1]), s2 = schedule.sigma(times[k + 1]);
      ask(times[k]);
      for (std::size_t j = 0; j < d; ++j) {
        const double noise = (x[j] - a * (recompute ? f[j] : raw[j])) / s;
        x[j] = a2 * f[j] + s2 * noise;
      }
    }
    for (std::size_t j = 0; j < d; ++j)
      out.data()[i * static_cast<std::int64_t>(d) + static_cast<std::int64_t>(j)] =
          (x[j] - schedule.sigma(times.back()) * e[j]) / schedule.alpha(times.back());
  }
  return out;
}

template <class Schedule>
auto teacher_on(const Schedule& schedule, boot::prediction_kind kind = boot::prediction_kind::v) {
  return boot::gaussian(schedule, boot::testing::sampler_mean, boot::testing::sampler_deviation, {kind});
}

}  // namespace

TEST_CASE("ddim: equals the chain written in x, whatever the schedule, kind and start", "[sampler]") {
  const auto eps = sampler_noise<double>(33, 4, 5);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), x(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const bool open = schedule.alpha(schedule.t_max()) == 0;
    for (const auto kind : {boot::prediction_kind::v, boot::prediction_kind::sample, boot::prediction_kind::edm})
      for (const auto start : {trajectory_start::boundary, trajectory_start::noise})
        for (const auto spacing : {boot::time_spacing::time, boot::time_spacing::lambda}) {
          const auto teacher = teacher_on(schedule, kind);
          const auto report = boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                                                {.steps = 9, .spacing = spacing, .start = start}, out.get(), x.get());
          const auto times = boot::make_time_grid(schedule, spacing, 9);
          REQUIRE(sampler_worst(out, chain(schedule, eps, times, start == trajectory_start::boundary)) < 1e-9);
          REQUIRE(report.steps == 9);
          REQUIRE(report.teacher_samples == 33 * (start == trajectory_start::boundary && !open ? 10 : 9));
          const double a = schedule.alpha(schedule.t_min()), s = schedule.sigma(schedule.t_min());
          for (std::int64_t i = 0; i < x.size(); ++i)
            REQUIRE(std::abs(x.data()[i] - (a * out.data()[i] + s * eps.data()[i])) < 1e-13);
        }
  });
}

TEST_CASE("ddim: clipped and thresholded signals, with the noise recomputed or not", "[sampler]") {
  const auto eps = sampler_noise<double>(40, 4, 6);
  boot::tensor<double, cpu> out(cpu{}, eps.extents());
  const limiter clip = [](std::vector<double>& f) {
    for (double& v : f) v = std::clamp(v, -0.5, 0.8);
  };
  const limiter threshold = [](std::vector<double>& f) {
    std::vector<double> sorted;
    for (const double v : f) sorted.push_back(std::abs(v));
    std::sort(sorted.begin(), sorted.end());
    const double q = std::max(1.0, sorted[2] + 0.4 * (sorted[3] - sorted[2]));  // .8 of 4 values: position 2.4
    for (double& v : f) v = std::clamp(v, -q, q) / q;
  };
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const auto teacher = teacher_on(schedule);
    const auto times = boot::make_time_grid(schedule, boot::time_spacing::time, 8);
    const auto free = chain(schedule, eps, times, true);
    for (const bool recompute : {true, false}) {
      CAPTURE(recompute);
      boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                        {.steps = 8, .low = -0.5, .high = 0.8, .recompute_noise = recompute}, out.get());
      REQUIRE(sampler_worst(out, chain(schedule, eps, times, true, clip, recompute)) < 1e-9);
      REQUIRE(sampler_worst(out, free) > 0.1);
      boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                        {.steps = 8, .threshold = 0.8, .recompute_noise = recompute}, out.get());
      REQUIRE(sampler_worst(out, chain(schedule, eps, times, true, threshold, recompute)) < 1e-9);
      REQUIRE(sampler_worst(out, free) > 0.1);
    }
  });
}

TEST_CASE("ddim: order 2 of one step, order 1 of the whole, towards the closed form", "[sampler]") {
  const auto eps = sampler_noise<double>(64, 4, 7);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), exact(cpu{}, eps.extents());
  boot::testing::for_each_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const double position : {0.2, 0.5, 0.8}) {
      const double slope = boot::testing::local_order(
          schedule, position, [&](const auto& teacher, const auto& noise, auto times, auto& y) {
            boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, noise,
                              {.times = times, .start = trajectory_start::signal}, y.get());
          });
      REQUIRE(std::abs(slope - 2) < 0.05);
    }
    const auto teacher = teacher_on(schedule, boot::prediction_kind::sample);
    teacher.endpoint(eps.get(), exact.get());
    std::vector<double> errors;
    for (const std::int64_t steps : {64, 128, 256}) {
      boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, eps, {.steps = steps}, out.get());
      errors.push_back(boot::testing::sampler_rms(out, exact));
    }
    REQUIRE(errors[2] < 0.02);
    REQUIRE(std::abs(errors[1] / errors[2] - 2) < 0.1);
    REQUIRE(std::abs(errors[0] / errors[1] - 2) < 0.2);
  });
}

TEST_CASE("ddim: with fresh noise the mean and variance follow the chain's recursion", "[sampler]") {
  constexpr std::int64_t n = 20000;
  const auto eps = sampler_noise<double>(n, 4, 8);
  boot::tensor<double, cpu> out(cpu{}, eps.extents()), x(cpu{}, eps.extents());
  const auto check = [&](const auto& schedule, double eta, std::int64_t steps) {
    CAPTURE(eta, steps);
    const auto teacher = teacher_on(schedule);
    boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, eps,
                      {.steps = steps, .start = trajectory_start::noise, .eta = eta, .renoise = {.seed = 99}},
                      out.get(), x.get());
    const auto times = boot::make_time_grid(schedule, boot::time_spacing::time, steps);
    for (std::size_t j = 0; j < 4; ++j) {
      // x_s = k x + (alpha_s - k alpha_t) f + c z with f = f0 + g x; c as diffusers has it, for alpha^2 + sigma^2 = 1.
      double mean = 0, variance = std::pow(schedule.sigma(times[0]), 2);
      for (std::size_t k = 0; k + 1 < times.size(); ++k) {
        const double a = schedule.alpha(times[k]), s = schedule.sigma(times[k]);
        const double a2 = schedule.alpha(times[k + 1]), s2 = schedule.sigma(times[k + 1]);
        const double c = eta * std::sqrt(s2 * s2 / (s * s) * (1 - a * a / (a2 * a2)));
        const double factor = std::sqrt(s2 * s2 - c * c) / s;
        const double f0 = boot::testing::sampler_clean(j, 0, a, s), g = boot::testing::sampler_clean(j, 1, a, s) - f0;
        const double total = factor + (a2 - factor * a) * g;
        mean = total * mean + (a2 - factor * a) * f0;
        variance = total * total * variance + c * c;
      }
      double sum = 0, square = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += x.data()[i * 4 + static_cast<std::int64_t>(j)];
      for (std::int64_t i = 0; i < n; ++i)
        square += std::pow(x.data()[i * 4 + static_cast<std::int64_t>(j)] - sum / static_cast<double>(n), 2);
      // Five standard errors of a mean and of a variance of n normals.
      REQUIRE(std::abs(sum / static_cast<double>(n) - mean) < 5 * std::sqrt(variance / static_cast<double>(n)));
      REQUIRE(std::abs(square / static_cast<double>(n) / variance - 1) < 5 * std::sqrt(2 / static_cast<double>(n)));
    }
  };
  for (const double eta : {0.0, 0.4, 1.0}) {
    check(boot::cosine_schedule{}, eta, 6);
    check(boot::linear_schedule{}, eta, 12);
  }
}

TEST_CASE("ddim: the bits do not depend on how the batch is cut, nor on where the noise comes from", "[sampler]") {
  const boot::cosine_schedule schedule;
  const auto teacher = teacher_on(schedule);
  const auto eps = sampler_noise<float>(50, 4, 21);
  const auto run = [&](const boot::start_noise<float, cpu>& noise, std::int64_t batch, int threads, double eta,
                       std::int64_t count = 50) {
    boot::tensor<float, cpu> out(cpu{}, {count, 4});
    boot::ddim_sample(cpu{threads}, teacher, schedule, no_condition{}, noise,
                      {.steps = 7, .eta = eta, .batch = batch, .renoise = {.seed = 21}}, out.get());
    return boot::to_host(cpu{}, out.get());
  };
  for (const double eta : {0.0, 0.5}) {
    const auto whole = run(eps, 2048, 1, eta);
    REQUIRE(whole == run(eps, 1, 1, eta));
    REQUIRE(whole == run(eps, 7, 3, eta));
    REQUIRE(whole == run(boot::drawn_noise{21, 0}, 13, 2, eta));
    const auto tail = run(boot::drawn_noise{21, 20}, 4, 1, eta, 30);
    REQUIRE(std::equal(tail.begin(), tail.end(), whole.begin() + 80));
  }
  REQUIRE(run(eps, 2048, 1, 0.5) != run(eps, 2048, 1, 0));
}

TEST_CASE("ddim: kept buffers give the same bits and allocate nothing the second time", "[sampler]") {
  const boot::linear_schedule schedule;
  const auto teacher = teacher_on(schedule);
  boot::sampler_buffers<float, cpu> buffers;
  boot::tensor<float, cpu> first(cpu{}, {20, 4}), second(cpu{}, {20, 4});
  const sampler_options options{.steps = 5, .threshold = 0.9, .recompute_noise = false, .eta = 0.5, .batch = 8};
  boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{3, 0}, options, first.get(), {},
                    &buffers);
  const auto before = boot::memory_use<cpu>().allocations;
  boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{3, 0}, options, second.get(), {},
                    &buffers);
  REQUIRE(boot::memory_use<cpu>().allocations == before);
  REQUIRE(boot::to_host(cpu{}, first.get()) == boot::to_host(cpu{}, second.get()));
}

TEST_CASE("ddim: guided and labelled teachers, cut with their conditions", "[sampler]") {
  const boot::cosine_schedule schedule;
  const boot::gaussian_mixture mixture(schedule, {{1, {1, 0}, 0.2, 0}, {1, {-1, 0}, 0.3, 1}, {2, {0, 1}, 0.25, 2}});
  const std::vector<std::int32_t> labels{0, 1, 2, 2, 1, 0, 0, 2, 1};
  const std::vector<double> w{1, 1.5, 2, 2.5, 3, 3.5, 4, 0, 2};
  const boot::class_labels<cpu> ids{{labels.data(), {9}}};
  const boot::conditions both(ids, boot::guidance_scale<cpu, double>{{w.data(), {9}}});
  const auto eps = sampler_noise<double>(9, 2, 4);
  const auto sample = [&](const auto& teacher, const auto& condition, std::int64_t batch, std::int64_t calls) {
    boot::tensor<double, cpu> out(cpu{}, {9, 2});
    const auto report =
        boot::ddim_sample(cpu{}, teacher, schedule, condition, eps, {.steps = 6, .batch = batch}, out.get());
    REQUIRE(report.teacher_samples == 9 * 6 * calls);
    return boot::to_host(cpu{}, out.get());
  };
  const auto plain = sample(mixture, ids, 9, 1);
  REQUIRE(plain == sample(mixture, ids, 4, 1));
  REQUIRE(plain == sample(boot::guided(mixture, 1.0), ids, 4, 1));
  const boot::guided per_sample(mixture);
  const auto mixed = sample(per_sample, both, 9, 2);
  REQUIRE(mixed == sample(per_sample, both, 2, 2));
  for (std::size_t i = 0; i < 9; ++i) {  // each sample as if its scale were the fixed one
    const auto fixed = sample(boot::guided(mixture, w[i]), ids, 9, w[i] == 1 ? 1 : 2);
    REQUIRE(std::abs(mixed[2 * i] - fixed[2 * i]) < 1e-12);
    REQUIRE(std::abs(mixed[2 * i + 1] - fixed[2 * i + 1]) < 1e-12);
  }
  REQUIRE(mixed != plain);
}

TEST_CASE("ddim: an empty batch costs nothing, float is close to double", "[sampler]") {
  const boot::flow_schedule schedule;
  const auto teacher = teacher_on(schedule, boot::prediction_kind::flow);
  boot::tensor<float, cpu> none(cpu{}, {0, 4}), single(cpu{}, {30, 4});
  boot::tensor<double, cpu> wide(cpu{}, {30, 4});
  REQUIRE(boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, {}, none.get())
              .teacher_samples == 0);
  boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{.seed = 2}, {}, single.get());
  boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{.seed = 2}, {}, wide.get());
  REQUIRE(sampler_worst(single, wide) < 2e-5);
}

TEST_CASE("ddim: errors name what was given and what is needed", "[sampler]") {
  const boot::cosine_schedule schedule;
  const auto teacher = teacher_on(schedule);
  boot::tensor<float, cpu> out(cpu{}, {3, 4}), wrong(cpu{}, {3, 5});
  const auto with = [&](const sampler_options& o, const boot::start_noise<float, cpu>& noise = boot::drawn_noise{}) {
    return sampler_message([&] { boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, noise, o, out.get()); });
  };
  REQUIRE(with({}) == "no error");
  REQUIRE_THAT(with({.steps = 0}), ContainsSubstring("0 steps"));
  REQUIRE_THAT(with({.low = 1, .high = -1}), ContainsSubstring("limits [1, -1]"));
  REQUIRE_THAT(with({.threshold = 2}), ContainsSubstring("threshold = 2"));
  REQUIRE_THAT(with({.low = -1, .high = 1, .threshold = 0.9}), ContainsSubstring("use one of them"));
  REQUIRE_THAT(with({.eta = 1.5}), ContainsSubstring("eta = 1.5"));
  REQUIRE_THAT(with({.batch = 0}), ContainsSubstring("batch = 0"));
  REQUIRE_THAT(with({.times = {0.5, 0.7}}), ContainsSubstring("must decrease"));
  REQUIRE_THAT(with({}, wrong), ContainsSubstring("noise of shape [3, 5], needs [3, 4]"));
  REQUIRE_THAT(with({}, out), ContainsSubstring("shares memory with the noise"));
  REQUIRE_THAT(with({}, boot::drawn_noise{0, -1}), ContainsSubstring("from sample -1"));
  REQUIRE_THAT(sampler_message([&] {
                 boot::ddim_sample(cpu{}, teacher, schedule, no_condition{}, boot::drawn_noise{}, {}, wrong.get());
               }),
               ContainsSubstring("out of shape [3, 5]"));
  const auto epsilon = teacher_on(schedule, boot::prediction_kind::epsilon);
  REQUIRE_THAT(sampler_message([&] {
                 boot::ddim_sample(cpu{}, epsilon, schedule, no_condition{}, boot::drawn_noise{}, {}, out.get());
               }),
               ContainsSubstring("alpha = 0"));
}
