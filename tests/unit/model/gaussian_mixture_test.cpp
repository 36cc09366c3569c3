// SPDX-License-Identifier: MIT
// The exact mixture teacher against E[x0 | x] by numerical integration, its limits, labels and errors.
#include "support/catch.hpp"

#include <boot/model/gaussian_mixture.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using mixture = boot::gaussian_mixture<boot::cosine_schedule>;
static_assert(boot::Teacher<mixture, boot::cpu> &&
              boot::Teacher<mixture, boot::cpu, boot::class_labels<boot::cpu>, double>);
const boot::cpu dev;
const boot::cosine_schedule schedule;

mixture line() { return {schedule, {{1, {-1.5}, .2, 0}, {3, {.4}, .5, 1}, {2, {2}, .1, 1}}}; }

template <class M, class C>
std::vector<double> predict(const M& m, const std::vector<double>& x, const std::vector<double>& t,
                            const C& condition) {
  const auto n = static_cast<std::int64_t>(t.size());
  boot::times_buffer<boot::cpu, double> buffer;
  boot::tensor<double, boot::cpu> out(dev, m.sample_shape().batched(n));
  m.predict(dev, boot::view<const double, boot::cpu>{x.data(), out.extents()}, buffer.set(dev, m, t), condition,
            out.get());
  return boot::to_host(dev, out.get());
}

// E[x0 | x] in one dimension: the integral of x0 p(x0) N(x; alpha x0, sigma^2), by a fine trapezoid sum.
double integrated(const mixture& m, double x, double t, std::int32_t label) {
  const double alpha = schedule.alpha(t), sigma = schedule.sigma(t);
  double top = 0, bottom = 0;
  for (int i = -60000; i <= 60000; ++i) {
    const double clean = i * 1e-4;
    double density = 0;
    for (const auto& c : m.components())
      if (label < 0 || c.label == label) {
        const double z = (clean - c.mean[0]) / c.deviation;
        density += c.weight / c.deviation * std::exp(-0.5 * z * z);
      }
    const double r = (x - alpha * clean) / sigma;
    density *= std::exp(-0.5 * r * r);
    top += clean * density;
    bottom += density;
  }
  return top / bottom;
}

}  // namespace

TEST_CASE("the posterior mean, with and without labels", "[model][gaussian_mixture]") {
  const mixture m = line();
  const std::vector<double> x{-0.7, 0.3, 1.1, -0.2, 0.9}, t{0.2, 0.5, 0.8, 0.95, 0.35};
  const std::array<std::int32_t, 5> ids{0, 1, -1, 1, 0};
  const boot::class_labels<boot::cpu> labels{{ids.data(), {5}}};
  const auto all = predict(m, x, t, boot::no_condition{}), some = predict(m, x, t, labels);
  const auto null = predict(m, x, t, labels.null());
  CHECK(null == all);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(all[i] == Catch::Approx(integrated(m, x[i], t[i], -1)).epsilon(1e-9));
    CHECK(some[i] == Catch::Approx(integrated(m, x[i], t[i], ids[i])).epsilon(1e-9));
  }
  const boot::conditions<boot::class_labels<boot::cpu>, boot::no_condition> both(labels, boot::no_condition{});
  CHECK(predict(m, x, t, both) == some);
}

TEST_CASE("both ends of time: the mean of the data, and the point itself", "[model][gaussian_mixture]") {
  const mixture m = line();
  const double mean = (-1.5 + 3 * .4 + 2 * 2) / 6;
  CHECK(predict(m, {0.3}, {schedule.t_max()}, boot::no_condition{})[0] == Catch::Approx(mean));
  CHECK(predict(m, {0.3}, {schedule.t_min()}, boot::no_condition{})[0] == Catch::Approx(0.3).epsilon(1e-4));
  // Far away and with point components nothing overflows.
  const mixture points(schedule, {{1, {1, 0}, 0}, {1, {-1, 0}, 0}});
  for (const double at : {schedule.t_min(), 0.5, schedule.t_max()})
    for (const double v : predict(points, {1e4, -1e4}, {at}, boot::no_condition{})) CHECK(std::isfinite(v));
  const auto near = predict(points, {0.999, 0.001}, {schedule.t_min()}, boot::no_condition{});
  CHECK(near[0] == Catch::Approx(1).epsilon(1e-6));
  const boot::gaussian_mixture exploding(boot::edm_schedule(boot::edm_options{}), {{1, {2}, .5}});
  CHECK(predict(exploding, {7}, {exploding.schedule().t_min()}, boot::no_condition{})[0] ==
        Catch::Approx(7).epsilon(1e-3));
}

TEST_CASE("several coordinates are one posterior, not one each", "[model][gaussian_mixture]") {
  const mixture m(schedule, {{1, {1, 1}, .3}, {1, {-1, -1}, .3}});
  const double t = 0.6, a = schedule.alpha(t), s = schedule.sigma(t), v = a * a * .09 + s * s;
  const std::vector<double> x{0.2, -0.1};
  const double odds = std::exp(2 * a * (x[0] + x[1]) / v), p = odds / (1 + odds), gain = a * .09 / v;
  const auto f = predict(m, x, {t}, boot::no_condition{});
  for (std::size_t j = 0; j < 2; ++j) CHECK(f[j] == Catch::Approx(gain * x[j] + (1 - gain * a) * (2 * p - 1)));
}

TEST_CASE("mixtures that are none and calls that do not fit are told", "[model][gaussian_mixture]") {
  CHECK_THROWS_WITH(mixture(schedule, {}), ContainsSubstring("at least one"));
  CHECK_THROWS_WITH(mixture(schedule, {{1, {1, 2}, 1}, {1, {1}, 1}}), ContainsSubstring("component 1"));
  CHECK_THROWS_AS(mixture(schedule, {{1, {}, 1}}), boot::error);
  CHECK_THROWS_WITH(mixture(schedule, {{0, {1}, 1}}), ContainsSubstring("weight > 0"));
  CHECK_THROWS_AS(mixture(schedule, {{1, {1}, -1}}), boot::error);
  CHECK_THROWS_AS(mixture(schedule, {{std::numeric_limits<double>::infinity(), {1}, 1}}), boot::error);
  const std::array<std::int32_t, 1> unknown{7};
  CHECK_THROWS_WITH(predict(line(), {0.0}, {0.5}, boot::class_labels<boot::cpu>{{unknown.data(), {1}}}),
                    ContainsSubstring("class 7"));
}
