// SPDX-License-Identifier: MIT
/// The exact Gaussian against quadrature, its trajectory against the ODE, and one-class mixtures against it.
#include "support/catch.hpp"

#include <boot/model/gaussian.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <cmath>
#include <random>
#include <string>
#include <vector>

using boot::cpu;
using boot::no_condition;
using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

namespace {

template <class F>
std::string message_of_model(const F& f) {
  try {
    f();
  } catch (const boot::error& e) {
    return e.what();
  }
  return "no error";
}

template <class F>
void on_every_schedule(const F& f) {
  f("cosine", boot::cosine_schedule{});
  f("linear", boot::linear_schedule{});
  f("flow", boot::flow_schedule{});
  f("edm", boot::edm_schedule{});
}

// Raw output of a teacher for one row at one time.
template <class T, class Teacher, class C = no_condition>
std::vector<double> output_of(const Teacher& teacher, const std::vector<double>& x, double t, const C& condition = {}) {
  const auto d = static_cast<std::int64_t>(x.size());
  boot::tensor<T, cpu> in(cpu{}, {1, d}), out(cpu{}, {1, d});
  for (std::int64_t j = 0; j < d; ++j) in.data()[j] = static_cast<T>(x[static_cast<std::size_t>(j)]);
  boot::times_buffer<cpu, T> times;
  teacher.predict(cpu{}, boot::view<const T, cpu>(in), times.set(cpu{}, teacher, t, 1), condition, out.get());
  std::vector<double> result;
  for (std::int64_t j = 0; j < d; ++j) result.push_back(static_cast<double>(out.data()[j]));
  return result;
}

const std::vector<double> mean{0.7, -0.3, 1.2}, deviation{0.1, 0.8, 2.0};

constexpr prediction_kind every_kind[] = {prediction_kind::sample, prediction_kind::epsilon, prediction_kind::v,
                                          prediction_kind::flow, prediction_kind::edm};

}  // namespace

TEST_CASE("gaussian: every kind of prediction converts to the posterior mean found by quadrature", "[model]") {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  on_every_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const double position : {0.1, 0.35, 0.6, 0.9}) {
      const double t = schedule.t_min() + position * (schedule.t_max() - schedule.t_min());
      const double alpha = schedule.alpha(t), sigma = schedule.sigma(t);
      std::vector<double> x, expected;
      for (std::size_t j = 0; j < 3; ++j) {
        x.push_back(alpha * (mean[j] + deviation[j] * normal(random)) + sigma * normal(random));
        // E[x0 | x], the trapezium rule over x0 around the posterior, where p(x0) N(x; alpha x0, sigma^2) is not tiny.
        const double width = 1 / std::sqrt(1 / (deviation[j] * deviation[j]) + alpha * alpha / (sigma * sigma));
        double best = mean[j];
        const auto log_density = [&](double x0) {
          return -0.5 * std::pow((x0 - mean[j]) / deviation[j], 2) - 0.5 * std::pow((x[j] - alpha * x0) / sigma, 2);
        };
        for (int pass = 0; pass < 60; ++pass)  // climb to the mode with shrinking steps
          for (const double move : {-1.0, 1.0})
            while (log_density(best + move * std::pow(0.5, pass) * 8) > log_density(best))
              best += move * std::pow(0.5, pass) * 8;
        const double top = log_density(best);
        double mass = 0, moment = 0;
        for (int k = -4000; k <= 4000; ++k) {
          const double x0 = best + width * 12 * k / 4000, p = std::exp(log_density(x0) - top);
          mass += p;
          moment += p * (x0 - best);
        }
        expected.push_back(best + moment / mass);
      }
      for (const auto kind : every_kind) {
        if (kind == prediction_kind::flow && std::string(name) != "flow") continue;
        const boot::gaussian teacher(schedule, mean, deviation, {kind});
        REQUIRE(teacher.prediction().kind == kind);
        const auto ab = boot::clean_signal_at(teacher.prediction(), schedule, t);
        const auto wide = output_of<double>(teacher, x, t);
        const auto single = output_of<float>(teacher, x, t);
        for (std::size_t j = 0; j < 3; ++j) {
          const double scale = 1 + std::abs(ab.a * x[j]);
          REQUIRE(std::abs(ab.a * x[j] + ab.b * wide[j] - expected[j]) < 1e-9 * scale);
          REQUIRE(std::abs(single[j] - wide[j]) < 2e-6 * (1 + std::abs(wide[j]) + std::abs(x[j] / sigma)));
        }
      }
    }
  });
}

TEST_CASE("gaussian: finite at alpha = 0 and at sigma = 0", "[model]") {
  const boot::cosine_schedule schedule{{.t_min = 0}};
  const std::vector<double> x{0.5, -1, 3};
  for (const auto kind : every_kind) {
    const boot::gaussian teacher(schedule, mean, deviation, {kind});
    for (const double v : output_of<double>(teacher, x, 1)) REQUIRE(std::isfinite(v));
    for (const double v : output_of<double>(teacher, x, 0)) REQUIRE(std::isfinite(v));
  }
  // Pure noise says nothing about the data; data without noise is known.
  REQUIRE(output_of<double>(boot::gaussian(schedule, mean, deviation), x, 1) == mean);
  REQUIRE(output_of<double>(boot::gaussian(schedule, mean, deviation), x, 0) == x);
  REQUIRE(output_of<double>(boot::gaussian(schedule, mean, deviation, {prediction_kind::epsilon}), x, 1) == x);
  REQUIRE(output_of<double>(boot::gaussian(schedule, mean, {0, 0, 0}), x, 0) == mean);
}

TEST_CASE("gaussian: the signal starts at the boundary, solves the Signal-ODE and is (x - sigma eps)/alpha",
          "[model]") {
  on_every_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    const boot::gaussian teacher(schedule, mean, deviation);
    const double t_max = schedule.t_max(), range = t_max - schedule.t_min();
    const double alpha_T = schedule.alpha(t_max), sigma_T = schedule.sigma(t_max);
    for (std::size_t j = 0; j < 3; ++j)
      for (const double eps : {-1.7, 0.0, 0.6}) {
        const double y_T = output_of<double>(teacher, {sigma_T * eps, sigma_T * eps, sigma_T * eps}, t_max)[j];
        REQUIRE(std::abs(teacher.signal(j, eps, t_max) - y_T) < 1e-14);
        REQUIRE(std::abs(teacher.signal(j, eps, t_max - 1e-9 * range) - y_T) < 1e-6);
        const double start = alpha_T * y_T + sigma_T * eps;
        for (const double position : {0.0, 0.05, 0.3, 0.7, 0.95}) {
          const double t = schedule.t_min() + position * range, a = schedule.alpha(t), s = schedule.sigma(t);
          const double y = teacher.signal(j, eps, t), x = teacher.transport(j, start, t_max, t);
          REQUIRE(std::abs(y - (x - s * eps) / a) < 1e-10 * (1 + sigma_T) / a);
          if (position == 0) continue;
          const double h = 1e-5 * range;
          const double slope = (teacher.signal(j, eps, t + h) - teacher.signal(j, eps, t - h)) / (2 * h);
          const double f = teacher.clean(j, a * y + s * eps, a, s), rate = boot::schedule_dlambda(schedule, t);
          REQUIRE(std::abs(slope + rate * (f - y)) < 1e-5 * (1 + rate * rate));
        }
      }
    boot::tensor<float, cpu> eps(cpu{}, {2, 3}), out(cpu{}, {2, 3});
    for (std::int64_t i = 0; i < 6; ++i) eps.data()[i] = static_cast<float>(i) - 2.5f;
    teacher.endpoint(boot::view<const float, cpu>(eps), out.get());
    for (std::int64_t i = 0; i < 6; ++i)
      REQUIRE(out.data()[i] ==
              static_cast<float>(teacher.signal(static_cast<std::size_t>(i % 3), eps.data()[i], schedule.t_min())));
  });
}

TEST_CASE("gaussian_mixture: one component is the Gaussian, one class is the mixture of its components", "[model]") {
  std::mt19937_64 random(9);
  std::normal_distribution<double> normal;
  const std::vector<boot::mixture_component> parts{
      {1, {0.4, -1}, 0.3, 0}, {2, {1, 1}, 0.2, 1}, {0.5, {-1, 0.2}, 0.6, 1}};
  on_every_schedule([&](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const double position : {0.0, 0.2, 0.6, 1.0}) {
      const double t = schedule.t_min() + position * (schedule.t_max() - schedule.t_min());
      for (const auto kind : every_kind) {
        const std::vector<double> x{normal(random), normal(random)};
        const boot::gaussian_mixture all(schedule, parts, {kind});
        REQUIRE(all.prediction().kind == kind);
        const boot::gaussian one(schedule, {0.4, -1}, {0.3, 0.3}, {kind});
        const boot::gaussian_mixture only_one(schedule, {parts[0]}, {kind}),
            second(schedule, {parts[1], parts[2]}, {kind});
        const auto equal = [](const std::vector<double>& a, const std::vector<double>& b) {
          for (std::size_t j = 0; j < a.size(); ++j)
            if (!(std::abs(a[j] - b[j]) <= 1e-9 * (1 + std::abs(a[j])))) return false;
          return true;
        };
        const auto labelled = [&](std::int32_t label) {
          return output_of<double>(all, x, t, boot::class_labels<cpu>{{&label, {1}}});
        };
        REQUIRE(equal(output_of<double>(only_one, x, t), output_of<double>(one, x, t)));
        REQUIRE(equal(labelled(0), output_of<double>(one, x, t)));
        REQUIRE(equal(labelled(1), output_of<double>(second, x, t)));
        REQUIRE(equal(labelled(-1), output_of<double>(all, x, t)));
      }
    }
  });
}

TEST_CASE("gaussian: errors name what was given and what is needed", "[model]") {
  const boot::cosine_schedule s;
  const auto make = [&](std::vector<double> m, std::vector<double> d, boot::prediction p = {prediction_kind::sample}) {
    return message_of_model([&] { boot::gaussian(s, m, d, p); });
  };
  REQUIRE(make({0}, {1}) == "no error");
  REQUIRE_THAT(make({}, {}), ContainsSubstring("0 means and 0 deviations"));
  REQUIRE_THAT(make({0}, {1, 2}), ContainsSubstring("1 means and 2 deviations"));
  REQUIRE_THAT(make({0}, {-1}), ContainsSubstring("deviation -1"));
  REQUIRE_THAT(make({std::nan("")}, {1}), ContainsSubstring("mean nan"));
  REQUIRE_THAT(make({0}, {1}, {prediction_kind::edm, 0}), ContainsSubstring("sigma_data = 0"));
  const boot::gaussian teacher(s, {0, 0}, {1, 1});
  boot::tensor<float, cpu> x(cpu{}, {2, 3}), out(cpu{}, {2, 2});
  boot::times_buffer<cpu, float> times;
  const auto& t = times.set(cpu{}, teacher, 0.5, 2);
  REQUIRE_THAT(
      message_of_model([&] { teacher.predict(cpu{}, boot::view<const float, cpu>(x), t, no_condition{}, x.get()); }),
      ContainsSubstring("2 dimensions got x of shape [2, 3]"));
  REQUIRE_THAT(message_of_model([&] {
                 teacher.predict(cpu{}, boot::view<const float, cpu>(out), t.rows(0, 1), no_condition{}, out.get());
               }),
               ContainsSubstring("1 times"));
  REQUIRE_THAT(message_of_model([&] { teacher.endpoint(boot::view<const float, cpu>(x), x.get()); }),
               ContainsSubstring("noise of shape [2, 3]"));
}
