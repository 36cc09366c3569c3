// SPDX-License-Identifier: MIT
// GELU, GEGLU, sums per channel and Fourier features against float64 loops: accuracy, gradients, threads, errors.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/nn/activations.hpp>
#include <boot/nn/cpu/activations.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/operations.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using boot::shape;
using boot::testing::in;
using boot::testing::out;
using boot::testing::poisoned;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;
constexpr double pi = 3.14159265358979323846;
constexpr float infinite = std::numeric_limits<float>::infinity();

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what, double size = 1) {
  return boot::testing::normal_numbers<T>(n, 10, what, size);
}
// Largest difference; a NaN is infinitely far.
template <class T>
double worst(const std::vector<T>& got, const std::vector<double>& wanted) {
  double off = got.size() == wanted.size() ? 0 : static_cast<double>(infinite);
  for (std::size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - wanted[i]);
    off = std::max(off, d >= 0 ? d : static_cast<double>(infinite));
  }
  return off;
}

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double gelu_slope(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * pi);
}
double inner(double x) { return std::sqrt(2 / pi) * (x + 0.044715 * x * x * x); }
double gelu_tanh(double x) { return x / (1 + std::exp(-2 * inner(x))); }
double gelu_tanh_slope(double x) {
  const double t = std::tanh(inner(x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
}

struct operands {
  boot::parameter x, e;
  template <class V>
  void visit(V& v) {
    v("x", x);
    v("e", e);
  }
};
struct layer {
  boot::fourier_embedding inner;
  template <class V>
  void visit(V& v) {
    v("time_proj", inner);
  }
};

}  // namespace

TEST_CASE("GELU in float: a few ulp where it is not tiny, right at the ends", "[nn][activations]") {
  const std::int64_t n = 120001;
  std::vector<float> x(static_cast<std::size_t>(n)), one(x.size(), 1.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<double>(i) * 2.5e-4 - 15);
  std::vector<float> y = poisoned<float>(n), slope = y, by_tanh = y, tanh_slope = y;
  boot::gelu_forward(dev, in(x, {n}), out(y, {n}));
  boot::gelu_backward(dev, in(x, {n}), in(one, {n}), out(slope, {n}), false);
  boot::gelu_tanh_forward(dev, in(x, {n}), out(by_tanh, {n}));
  boot::gelu_tanh_backward(dev, in(x, {n}), in(one, {n}), out(tanh_slope, {n}), false);
  double ulp = 0, ulp_tanh = 0, off = 0, off_tanh = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x[i]);
    const auto apart = [](float a, double b) { return std::abs(static_cast<double>(a) - b); };
    if (v > -12.5) ulp = std::max(ulp, apart(y[i], gelu(v)) / (std::abs(gelu(v)) * 0x1p-24 + 1e-45));
    if (v > -8)
      ulp_tanh = std::max(ulp_tanh, apart(by_tanh[i], gelu_tanh(v)) / (std::abs(gelu_tanh(v)) * 0x1p-24 + 1e-45));
    off = std::max(off, apart(slope[i], gelu_slope(v)));
    off_tanh = std::max(off_tanh, apart(tanh_slope[i], gelu_tanh_slope(v)));
  }
  CHECK(ulp <= 16);        // half units in the last place
  CHECK(ulp_tanh <= 160);  // the exponent of up to 60 is rounded
  CHECK(off <= 4e-7);
  CHECK(off_tanh <= 8e-7);
  const std::vector<float> ends{-infinite, -1e30f, -0.0f, 1e30f, infinite};
  std::vector<float> to = poisoned<float>(5), back = to;
  const std::vector<double> limits{0, 0, 0, static_cast<double>(1e30f), static_cast<double>(infinite)};
  for (const bool exact : {true, false}) {
    if (exact) {
      boot::gelu_forward(dev, in(ends, {5}), out(to, {5}));
      boot::gelu_backward(dev, in(ends, {5}), in(one, {5}), out(back, {5}), false);
    } else {
      boot::gelu_tanh_forward(dev, in(ends, {5}), out(to, {5}));
      boot::gelu_tanh_backward(dev, in(ends, {5}), in(one, {5}), out(back, {5}), false);
    }
    for (std::size_t i = 0; i < 5; ++i) CHECK(static_cast<double>(to[i]) == limits[i]);
    CHECK(back == std::vector<float>{0, 0, 0.5f, 1, 1});
  }
}

TEMPLATE_TEST_CASE("GELU, GELU by tanh and GEGLU, written and added", "[nn][activations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  const double most = 16 * static_cast<double>(std::numeric_limits<T>::epsilon()), old = accumulate ? 1 : 0;
  for (const std::int64_t n : {1, 7, 33, 40000}) {
    const shape s{2, n}, half{1, n};
    const auto x = numbers<T>(2 * n, 1), dy = numbers<T>(2 * n, 2);
    const auto start = [&] { return accumulate ? std::vector<T>(x.size(), T{1}) : poisoned<T>(2 * n); };
    std::vector<T> y = poisoned<T>(2 * n), z = y, gated = poisoned<T>(n), dx = start(), dz = start(), dg = start();
    const boot::cpu on{2};
    boot::gelu_forward(on, in(x, s), out(y, s));
    boot::gelu_backward(on, in(x, s), in(dy, s), out(dx, s), accumulate);
    boot::gelu_tanh_forward(on, in(x, s), out(z, s));
    boot::gelu_tanh_backward(on, in(x, s), in(dy, s), out(dz, s), accumulate);
    boot::geglu_forward(on, in(x, {1, 2 * n}), out(gated, half));
    boot::geglu_backward(on, in(x, {1, 2 * n}), in(dy, half), out(dg, {1, 2 * n}), accumulate);
    std::vector<double> wy, wz, wx, wt, ws(static_cast<std::size_t>(n)), wg(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]), g = static_cast<double>(dy[i]);
      wy.push_back(gelu(v));
      wz.push_back(gelu_tanh(v));
      wx.push_back(old + g * gelu_slope(v));
      wt.push_back(old + g * gelu_tanh_slope(v));
    }
    for (std::size_t i = 0; i < ws.size(); ++i) {
      const double a = static_cast<double>(x[i]), b = static_cast<double>(x[i + ws.size()]);
      ws[i] = a * gelu(b);
      wg[i] = old + static_cast<double>(dy[i]) * gelu(b);
      wg[i + ws.size()] = old + static_cast<double>(dy[i]) * a * gelu_slope(b);
    }
    CHECK(worst(y, wy) <= most);
    CHECK(worst(z, wz) <= most);
    CHECK(worst(dx, wx) <= most);
    CHECK(worst(dz, wt) <= most);
    CHECK(worst(gated, ws) <= most);
    CHECK(worst(dg, wg) <= 2 * most);
  }
}

TEMPLATE_TEST_CASE("add_channels: the sum at every position and the sums back", "[nn][activations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const shape& s : {shape{1, 1}, shape{3, 1}, shape{2, 3, 5, 3}, shape{3, 7, 6}, shape{2, 19, 21, 35},
                         shape{2, 3, 300}, shape{9, 40, 30, 16}})
    for (const std::int64_t rows : {std::int64_t{1}, s[0]}) {
      INFO(boot::to_string(s) << ", rows " << rows);
      const std::int64_t channels = s[-1], positions = s.sample_size() / channels;
      const auto x = numbers<T>(s.size(), 1), e = numbers<T>(rows * channels, 2);
      std::vector<T> y = poisoned<T>(s.size());
      std::vector<T> sums = accumulate ? std::vector<T>(e.size(), T{1}) : poisoned<T>(rows * channels);
      boot::add_channels_forward(boot::cpu{2}, in(x, s), in(e, {rows, channels}), out(y, s));
      boot::channel_sums(boot::cpu{2}, in(x, s), out(sums, {rows, channels}), accumulate);
      std::vector<double> wanted(x.size()), total(e.size(), accumulate ? 1 : 0);
      for (std::int64_t i = 0; i < s.size(); ++i) {
        const auto k = static_cast<std::size_t>(i);
        const std::int64_t sample = rows == 1 ? 0 : i / (positions * channels);
        const auto at = static_cast<std::size_t>(sample * channels + i % channels);
        wanted[k] = static_cast<double>(x[k]) + static_cast<double>(e[at]);
        total[at] += static_cast<double>(x[k]);
      }
      const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
      CHECK(worst(y, wanted) <= 4 * eps);
      CHECK(worst(sums, total) <= eps * static_cast<double>(100 + s[0] * positions));
    }
}

TEST_CASE("activations: gradients by finite differences", "[nn][activations]") {
  const auto check = [](const shape& x, const shape& e, const auto& code) {
    operands n{{x, {}}, {e, {}}};
    const auto report = boot::testing::check_graph_gradient(dev, n, [&](auto& g) { return code(g, g(n.x), g(n.e)); });
    INFO(report.worst_name);
    CHECK(report.worst <= 1e-6);
  };
  // e is added before and after, so that one of its gradients is written and the other added.
  const auto all = [](auto& g, const auto& x, const auto& e) {
    const auto h = boot::gelu(g, boot::add_channels(g, x, e));
    return boot::geglu(g, boot::gelu_tanh(g, boot::add_channels(g, boot::add(g, h, x), boot::silu(g, e))));
  };
  check({2, 3, 2, 4}, {2, 4}, all);
  check({3, 5, 2}, {1, 2}, all);
}

TEST_CASE("Fourier features: sines and cosines of log t, once for a uniform time, without gradient",
          "[nn][activations]") {
  using graph = boot::graph<double, boot::cpu>;
  const bool cosine_first = GENERATE(false, true), logarithm = GENERATE(false, true);
  layer n{
      boot::fourier_embedding({.features = 6, .scale = 16, .logarithm = logarithm, .flip_sin_to_cos = cosine_first})};
  boot::parameter_arena<double, boot::cpu> a(dev, boot::parameter_layout(n));
  a.initialize(dev, 1);
  CHECK(a.layout().entries()[0].name == "time_proj.weight");
  CHECK(a.layout().entries()[0].extents == shape{3});
  const std::vector<double> t{0.002, 80, 80};
  boot::times<boot::cpu, double> when{{t.data(), {3}}, {t.data(), {3}}, {}, false};
  const auto code = [&](graph& g) { return n.inner(g, when); };
  for (const bool uniform : {false, true}) {
    when.uniform = uniform;
    graph g;
    g.begin(dev, graph{}.plan(dev, true, a.layout(), code), a.layout(), a.values(), a.gradient());
    const auto y = code(g);
    REQUIRE(y.extents() == shape{uniform ? 1 : 3, 6});
    const auto got = boot::to_host(dev, g.data(y));
    for (std::size_t r = 0; r < got.size() / 6; ++r)
      for (std::size_t i = 0; i < 3; ++i) {
        const double angle = 2 * pi * a.value(0)[static_cast<std::int64_t>(i)] * (logarithm ? std::log(t[r]) : t[r]);
        CHECK(got[6 * r + i] == Catch::Approx(cosine_first ? std::cos(angle) : std::sin(angle)).margin(1e-10));
        CHECK(got[6 * r + i + 3] == Catch::Approx(cosine_first ? std::sin(angle) : std::cos(angle)).margin(1e-10));
      }
    const std::vector<double> slope(got.size(), 1.0);
    g.backward(y, in(slope, y.extents()));
    CHECK(boot::to_host(dev, boot::view<const double, boot::cpu>(a.gradient(0))) == std::vector<double>(3, 0.0));
  }
  const std::vector<double> zero{0};
  when = {{zero.data(), {1}}, {zero.data(), {1}}, {}, true};
  graph g;
  g.begin(dev, graph{}.plan(dev, false, a.layout(), code), a.layout(), a.values(), {});
  if (logarithm) CHECK_THROWS_WITH(code(g), ContainsSubstring("logarithm of 0"));
  if (!logarithm) CHECK_NOTHROW(code(g));
}

TEST_CASE("activations: the same bits for 1, 2 and 3 threads", "[nn][activations]") {
  const shape s{5, 60, 50, 24}, rows{5, 24}, half{15000, 12};
  const auto x = numbers<float>(s.size(), 1), dy = numbers<float>(s.size(), 2);
  std::vector<std::vector<float>> all;
  for (const int threads : {1, 2, 3}) {
    const boot::cpu on{threads};
    std::vector<float> y = poisoned<float>(s.size()), dx = y, gated = poisoned<float>(s.size() / 2), dg = y;
    std::vector<float> sums = poisoned<float>(rows.size()), sum = poisoned<float>(24);
    boot::gelu_forward(on, in(x, s), out(y, s));
    boot::gelu_backward(on, in(x, s), in(dy, s), out(dx, s), false);
    boot::geglu_forward(on, in(x, {15000, 24}), out(gated, half));
    boot::geglu_backward(on, in(x, {15000, 24}), in(dy, half), out(dg, {15000, 24}), false);
    boot::channel_sums(on, in(x, s), out(sums, rows), false);
    boot::channel_sums(on, in(x, s), out(sum, {1, 24}), false);
    for (const auto* part : {&dx, &gated, &dg, &sums, &sum}) y.insert(y.end(), part->begin(), part->end());
    all.push_back(std::move(y));
  }
  CHECK(all[0] == all[1]);
  CHECK(all[0] == all[2]);
}

TEST_CASE("activations refuse shapes that do not fit, and say which", "[nn][activations]") {
  CHECK(boot::geglu_op{}.result(shape{2, 3, 8}) == shape{2, 3, 4});
  CHECK_THROWS_WITH(boot::geglu_op{}.result(shape{2, 7}), ContainsSubstring("[2, 7]"));
  CHECK_THROWS_AS(boot::geglu_op{}.result(shape{2, 0}), boot::error);
  const boot::add_channels_op op;
  CHECK(op.result(shape{3, 4, 5}, shape{1, 5}) == shape{3, 4, 5});
  CHECK_THROWS_WITH(op.result(shape{3, 4, 5}, shape{2, 5}), ContainsSubstring("needs [3, 5], or a batch of one"));
  CHECK_THROWS_AS(op.result(shape{3, 4, 5}, shape{3, 4}), boot::error);
  CHECK_THROWS_WITH(op.result(shape{3, 0, 5}, shape{3, 5}), ContainsSubstring("without zero extents"));
  CHECK_THROWS_AS(op.result(shape{5}, shape{1, 5}), boot::error);
  CHECK_THROWS_WITH(boot::fourier_embedding({.features = 7}), ContainsSubstring("7 Fourier features"));
  CHECK_THROWS_AS(boot::fourier_embedding({.features = 0}), boot::error);
}
