// SPDX-License-Identifier: MIT
// Layers: PyTorch's names, initial values and results, checked against plain float64 loops, and their gradients.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/layers.hpp>
#include <boot/testing/gradient_check.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using graph = boot::graph<double, boot::cpu>;
using arena = boot::parameter_arena<double, boot::cpu>;
const boot::cpu dev;

template <class Layer>
struct holder {
  Layer layer;
  template <class V>
  void visit(V& v) {
    v("layer", layer);
  }
};
struct input_and {
  boot::parameter x;
  boot::linear inner{4, 4};
  template <class V>
  void visit(V& v) {
    v("x", x);
    v("inner", inner);
  }
};

using code_type = std::function<graph::value(graph&)>;  // one type: the gradient check is compiled once

template <class Network, class Code>
std::vector<double> run(Network& n, arena& a, const Code& code) {
  static_cast<void>(n);
  graph g;
  g.begin(dev, graph{}.plan(dev, false, a.layout(), code), a.layout(), a.values(), {});
  const auto y = code(g);
  return boot::to_host(dev, g.data(y));
}
double silu(double x) { return x / (1 + std::exp(-x)); }

}  // namespace

TEST_CASE("linear: names, initial bound, zero start and y = x W^T + b", "[nn][layers]") {
  holder<boot::linear> n{boot::linear(9, 5)};
  arena a(dev, boot::parameter_layout(n));
  CHECK(a.layout().entries()[0].name == "layer.weight");
  CHECK(a.layout().entries()[0].extents == boot::shape{5, 9});
  CHECK(a.layout().entries()[1].name == "layer.bias");
  a.initialize(dev, 1);
  double most = 0;
  for (int i = 0; i < 45; ++i) most = std::max(most, std::abs(a.value(0)[i]));
  CHECK(most <= 1.0 / 3);
  CHECK(most > 0.25);
  const std::vector<double> x{1, -2, 3, -4, 5, -6, 7, -8, 9, 0, 1, 0, 1, 0, 1, 0, 1, 0};
  const auto y = run(n, a, [&](graph& g) { return n.layer(g, g.input({x.data(), {2, 9}})); });
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t o = 0; o < 5; ++o) {
      double sum = a.value(1)[static_cast<std::int64_t>(o)];
      for (std::size_t i = 0; i < 9; ++i) sum += x[9 * r + i] * a.value(0)[static_cast<std::int64_t>(9 * o + i)];
      CHECK(y[5 * r + o] == Catch::Approx(sum));
    }
  holder<boot::linear> zero{boot::linear(3, 2)};
  zero.layer.zero();
  arena z(dev, boot::parameter_layout(zero));
  z.initialize(dev, 1);
  for (const double v : boot::to_host(dev, z.values())) REQUIRE(v == 0);
  CHECK_THROWS_WITH(boot::linear(0, 3), ContainsSubstring("from 0 to 3 features"));
  CHECK_THROWS_AS(boot::linear(3, -1), boot::error);
}

TEST_CASE("linear without a bias has a weight alone: y = x W^T", "[nn][layers]") {
  input_and n{{{2, 3}, {}}, boot::linear(3, 4, false)};
  arena a(dev, boot::parameter_layout(n));
  REQUIRE(a.layout().entries().size() == 2);
  CHECK(a.layout().entries()[1].name == "inner.weight");
  CHECK(n.inner.bias.index == -1);
  CHECK(n.inner.bias.extents.rank() == 0);
  a.initialize(dev, 1);
  const code_type code = [&n](graph& g) { return n.inner(g, g(n.x)); };
  for (std::int64_t i = 0; i < 6; ++i) a.value(0)[i] = std::sin(static_cast<double>(i));
  const auto y = run(n, a, code);
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t o = 0; o < 4; ++o) {
      double sum = 0;
      for (std::int64_t i = 0; i < 3; ++i) sum += a.value(0)[3 * r + i] * a.value(1)[3 * o + i];
      CHECK(y[static_cast<std::size_t>(4 * r + o)] == Catch::Approx(sum));
    }
  CHECK(boot::testing::check_graph_gradient(dev, n, code).worst < 1e-8);
  const boot::graph_plan plan = graph{}.plan(dev, true, a.layout(), code);
  CHECK(plan.forward_flop == 2.0 * 2 * 3 * 4);
  CHECK(plan.backward_flop == 2 * plan.forward_flop);
  n.inner.zero();
  arena z(dev, boot::parameter_layout(n));
  z.initialize(dev, 1);
  for (const double v : boot::to_host(dev, z.values())) REQUIRE(v == 0);
  CHECK_THROWS_AS(boot::linear(0, 2, false), boot::error);
}

TEST_CASE("layer norm starts as ones and zeros", "[nn][layers]") {
  holder<boot::layer_norm> n{boot::layer_norm(4)};
  arena a(dev, boot::parameter_layout(n));
  a.initialize(dev, 1);
  CHECK(boot::to_host(dev, a.value(0)) == std::vector<double>(4, 1.0));
  CHECK(boot::to_host(dev, a.value(1)) == std::vector<double>(4, 0.0));
  const std::vector<double> x{1, 2, 3, 6};
  const auto y = run(n, a, [&](graph& g) { return n.layer(g, g.input({x.data(), {1, 4}})); });
  for (std::size_t i = 0; i < 4; ++i) CHECK(y[i] == Catch::Approx((x[i] - 3) / std::sqrt(3.5 + 1e-5)).margin(1e-15));
  CHECK_THROWS_WITH(boot::layer_norm(0), ContainsSubstring("needs at least one"));
}

TEST_CASE("time embedding: sinusoids, linear, SiLU, linear; a uniform time is embedded once", "[nn][layers]") {
  holder<boot::time_embedding> n{boot::time_embedding({.features = 6, .freq_shift = 1, .max_period = 100}, 4)};
  arena a(dev, boot::parameter_layout(n));
  a.initialize(dev, 3);
  CHECK(a.layout().entries()[0].name == "layer.linear_1.weight");
  CHECK(a.layout().entries()[0].extents == boot::shape{4, 6});
  CHECK(a.layout().find("layer.linear_2.bias") == 3);
  const std::vector<double> t{0.25, 3, 0.25};
  const auto at = [&](double time) {
    std::array<double, 6> s{};
    for (int i = 0; i < 3; ++i) {
      const double angle = time * std::pow(100, -i / 2.0);
      s[static_cast<std::size_t>(i)] = std::cos(angle);
      s[static_cast<std::size_t>(i + 3)] = std::sin(angle);
    }
    std::array<double, 4> h{}, y{};
    for (std::int64_t o = 0; o < 4; ++o) {
      double sum = a.value(1)[o];
      for (std::int64_t i = 0; i < 6; ++i) sum += a.value(0)[6 * o + i] * s[static_cast<std::size_t>(i)];
      h[static_cast<std::size_t>(o)] = silu(sum);
    }
    for (std::int64_t o = 0; o < 4; ++o) {
      y[static_cast<std::size_t>(o)] = a.value(3)[o];
      for (std::int64_t i = 0; i < 4; ++i)
        y[static_cast<std::size_t>(o)] += a.value(2)[4 * o + i] * h[static_cast<std::size_t>(i)];
    }
    return y;
  };
  boot::times<boot::cpu, double> when{{t.data(), {3}}, {t.data(), {3}}, {}, false};
  const auto y = run(n, a, [&](graph& g) { return n.layer(g, when); });
  REQUIRE(y.size() == 12);
  for (std::size_t r = 0; r < 3; ++r)
    for (std::size_t i = 0; i < 4; ++i) CHECK(y[4 * r + i] == Catch::Approx(at(t[r])[i]));
  when.uniform = true;
  const auto once = run(n, a, [&](graph& g) { return n.layer(g, when); });
  REQUIRE(once.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(once[i] == Catch::Approx(at(0.25)[i]));
  CHECK_THROWS_WITH(boot::time_embedding({.max_period = 1}, 4), ContainsSubstring("max_period"));
  CHECK_THROWS_AS(boot::time_embedding({.features = 4, .freq_shift = 2}, 4), boot::error);
}

TEST_CASE("class embedding has a row for the null class", "[nn][layers]") {
  holder<boot::class_embedding> n{boot::class_embedding(3, 2)};
  arena a(dev, boot::parameter_layout(n));
  a.initialize(dev, 1);
  CHECK(a.layout().entries()[0].extents == boot::shape{4, 2});
  const std::array<std::int32_t, 2> ids{-1, 1};
  const boot::class_labels<boot::cpu> labels{{ids.data(), {2}}};
  const auto y = run(n, a, [&](graph& g) { return n.layer(g, labels); });
  CHECK(y == std::vector<double>{a.value(0)[6], a.value(0)[7], a.value(0)[2], a.value(0)[3]});
  CHECK_THROWS_AS(boot::class_embedding(0, 2), boot::error);
}

TEST_CASE("concatenation and residual, forward and backward", "[nn][layers]") {
  const std::int64_t batch = GENERATE(1, 3);
  input_and n{{{batch, 4}, {}}};
  const code_type code = [&n](graph& g) {
    const auto x = g(n.x);
    const auto h = boot::residual(g, x, [&n](graph& q, const graph::value& v) { return n.inner(q, boot::silu(q, v)); });
    return boot::concat(g, h, x);
  };
  arena a(dev, boot::parameter_layout(n));
  a.initialize(dev, 2);
  for (std::int64_t i = 0; i < 4 * batch; ++i) a.value(0)[i] = std::cos(static_cast<double>(i));
  const auto y = run(n, a, code);
  REQUIRE(y.size() == static_cast<std::size_t>(8 * batch));
  for (std::int64_t r = 0; r < batch; ++r)
    for (std::int64_t o = 0; o < 4; ++o) {
      double sum = a.value(0)[4 * r + o] + a.value(2)[o];
      for (std::int64_t i = 0; i < 4; ++i) sum += a.value(1)[4 * o + i] * silu(a.value(0)[4 * r + i]);
      CHECK(y[static_cast<std::size_t>(8 * r + o)] == Catch::Approx(sum));
      CHECK(y[static_cast<std::size_t>(8 * r + 4 + o)] == a.value(0)[4 * r + o]);
    }
  const auto report = boot::testing::check_graph_gradient(dev, n, code);
  INFO(report.worst_name);
  CHECK(report.worst < 1e-8);
  CHECK(report.elements == 4 * batch + 20);
}

TEST_CASE("input scaling multiplies rows, or is left out", "[nn][layers]") {
  holder<boot::linear> n{boot::linear(2, 2)};
  arena a(dev, boot::parameter_layout(n));
  const std::vector<double> x{1, 2, 3, 4}, t{0, 0}, s{10, 0.5};
  boot::times<boot::cpu, double> when{{t.data(), {2}}, {t.data(), {2}}, {s.data(), {2}}, true};
  const auto code = [&](graph& g) { return boot::scale_input(g, g.input({x.data(), {2, 2}}), when); };
  CHECK(run(n, a, code) == std::vector<double>{10, 20, 1.5, 2});
  when.scale = {};
  CHECK(run(n, a, code) == x);
}
