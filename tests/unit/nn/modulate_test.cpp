// SPDX-License-Identifier: MIT
// Modulation, gates, the layer norm without weights and channel slices against plain loops, and their gradients.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/nn/cpu/modulate.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/modulate.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using boot::testing::in;
using boot::testing::out;
using boot::testing::poisoned;
using Catch::Matchers::ContainsSubstring;
using graph = boot::graph<double, boot::cpu>;
using code = std::function<graph::value(graph&)>;
const boot::cpu dev;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what, double offset = 0) {
  return boot::testing::normal_numbers<T>(n, 6, what, 1, offset);
}
// Largest difference in units of T's precision at the size of the largest wanted number; infinite for a NaN.
template <class T>
double difference(const std::vector<T>& got, const std::vector<double>& wanted) {
  double most = 1e-30, worst = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    most = std::max(most, std::abs(wanted[i]));
    const double off = std::abs(static_cast<double>(got[i]) - wanted[i]);
    if (!(off <= 1e30)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, off);
  }
  return worst / most / static_cast<double>(std::numeric_limits<T>::epsilon());
}

struct operands {
  boot::parameter x, a, b;
  template <class V>
  void visit(V& v) {
    v("x", x);
    if (a.extents.rank() > 0) v("a", a);
    if (b.extents.rank() > 0) v("b", b);
  }
};
boot::parameter of(const boot::shape& s) { return {s, {}}; }

struct sizes {
  std::int64_t batch, positions, c;
  bool shared;
  std::int64_t rows() const { return shared ? 1 : batch; }
  boot::shape x() const { return {batch, positions, c}; }
  boot::shape e() const { return {rows(), c}; }
};
const std::vector<sizes> all_sizes{{1, 1, 1, false},  {3, 5, 7, false},   {3, 5, 7, true},
                                   {2, 9, 65, false}, {1, 40, 130, true}, {4, 700, 64, false}};

}  // namespace

TEMPLATE_TEST_CASE("modulation and gates equal the plain loops", "[nn][modulate]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const sizes& s : all_sizes) {
    const std::int64_t n = s.x().size(), m = s.e().size();
    const auto x = numbers<T>(n, 1), h = numbers<T>(n, 2), dy = numbers<T>(n, 3), a = numbers<T>(m, 4),
               b = numbers<T>(m, 5);
    const auto start = [&](std::int64_t k) { return accumulate ? numbers<T>(k, 9) : poisoned<T>(k); };
    std::vector<T> y = poisoned<T>(n), gated = y, dx = start(n), dh = start(n), da = start(m), db = start(m);
    boot::modulate_forward(dev, in(x, s.x()), in(a, s.e()), in(b, s.e()), out(y, s.x()));
    boot::gate_add_forward(dev, in(x, s.x()), in(h, s.x()), in(a, s.e()), out(gated, s.x()));
    boot::modulate_input_gradient(dev, in(dy, s.x()), in(a, s.e()), T{1}, out(dx, s.x()), accumulate);
    boot::modulate_input_gradient(dev, in(dy, s.x()), in(a, s.e()), T{0}, out(dh, s.x()), accumulate);
    boot::modulate_factor_gradient(dev, in(dy, s.x()), in(x, s.x()), out(da, s.e()), accumulate);
    boot::modulate_factor_gradient(dev, in(dy, s.x()), {nullptr, s.x()}, out(db, s.e()), accumulate);
    const auto before = [&](std::int64_t k) {
      const std::vector<T> v = numbers<T>(k, 9);
      return accumulate ? std::vector<double>(v.begin(), v.end()) : std::vector<double>(at(k));
    };
    std::vector<double> wanted_y(at(n)), wanted_gated(at(n)), wanted_dx = before(n), wanted_dh = before(n),
                                                              wanted_da = before(m), wanted_db = before(m);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t j = (s.shared ? 0 : i / (s.positions * s.c)) * s.c + i % s.c;
      const auto wide = [](const std::vector<T>& v, std::int64_t k) { return static_cast<double>(v[at(k)]); };
      wanted_y[at(i)] = wide(x, i) * (1 + wide(a, j)) + wide(b, j);
      wanted_gated[at(i)] = wide(x, i) + wide(a, j) * wide(h, i);
      wanted_dx[at(i)] += wide(dy, i) * (1 + wide(a, j));
      wanted_dh[at(i)] += wide(dy, i) * wide(a, j);
      wanted_da[at(j)] += wide(dy, i) * wide(x, i);
      wanted_db[at(j)] += wide(dy, i);
    }
    INFO("batch " << s.batch << ", " << s.positions << " positions, " << s.c << " channels");
    CHECK(difference(y, wanted_y) < 4);
    CHECK(difference(gated, wanted_gated) < 4);
    CHECK(difference(dx, wanted_dx) < 4);
    CHECK(difference(dh, wanted_dh) < 4);
    CHECK(difference(da, wanted_da) < 16);
    CHECK(difference(db, wanted_db) < 16);
  }
}

TEMPLATE_TEST_CASE("layer norm without weights equals the plain loops", "[nn][modulate]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t n : {2, 7, 8, 77, 1152})
    for (const double offset : {0.0, 1000.0}) {
      const std::int64_t rows = 5;
      const auto x = numbers<T>(rows * n, 1, offset), dy = numbers<T>(rows * n, 2);
      std::vector<T> y = poisoned<T>(rows * n), rstd = poisoned<T>(rows), without = y;
      std::vector<T> dx = accumulate ? numbers<T>(rows * n, 9) : poisoned<T>(rows * n);
      std::vector<double> wanted(at(rows * n)), slope(dx.begin(), dx.end());
      if (!accumulate) std::fill(slope.begin(), slope.end(), 0.0);
      boot::normalise_forward(dev, in(x, {rows, n}), 1e-6, out(y, {rows, n}), rstd.data());
      boot::normalise_forward(dev, in(x, {rows, n}), 1e-6, out(without, {rows, n}), static_cast<T*>(nullptr));
      boot::normalise_backward(dev, in(y, {rows, n}), rstd.data(), in(dy, {rows, n}), out(dx, {rows, n}), accumulate);
      for (std::int64_t r = 0; r < rows; ++r) {
        double mean = 0, square = 0, sum = 0, along = 0;
        const auto wide = [&](const std::vector<T>& v, std::int64_t i) {
          return static_cast<double>(v[at(r * n + i)]);
        };
        for (std::int64_t i = 0; i < n; ++i) mean += wide(x, i) / static_cast<double>(n);
        for (std::int64_t i = 0; i < n; ++i)
          square += (wide(x, i) - mean) * (wide(x, i) - mean) / static_cast<double>(n);
        const double scale = 1 / std::sqrt(square + 1e-6);
        for (std::int64_t i = 0; i < n; ++i) {
          wanted[at(r * n + i)] = (wide(x, i) - mean) * scale;
          sum += wide(dy, i) / static_cast<double>(n);
          along += wide(dy, i) * wanted[at(r * n + i)] / static_cast<double>(n);
        }
        for (std::int64_t i = 0; i < n; ++i)
          slope[at(r * n + i)] += scale * (wide(dy, i) - sum - wanted[at(r * n + i)] * along);
      }
      INFO(n << " elements around " << offset);
      // With two elements the slopes cancel to rounding errors; an offset costs its rounding in x - mean.
      CHECK(difference(y, wanted) < (offset > 0 ? 2000 : 8));
      CHECK(y == without);
      if (n > 2) CHECK(difference(dx, slope) < (offset > 0 ? 4000 : 32));
    }
}

TEST_CASE("the bits of modulation do not depend on the number of threads", "[nn][modulate]") {
  const sizes s{3, 501, 131, false};
  const std::int64_t n = s.x().size(), m = s.e().size();
  const auto x = numbers<float>(n, 1), dy = numbers<float>(n, 3), a = numbers<float>(m, 4);
  const auto run = [&](int threads) {
    const boot::cpu team{threads};
    std::vector<float> y = poisoned<float>(n), z = y, dx = y, rstd = poisoned<float>(n / s.c), da = poisoned<float>(m);
    boot::modulate_forward(team, in(x, s.x()), in(a, s.e()), in(a, s.e()), out(y, s.x()));
    boot::modulate_factor_gradient(team, in(dy, s.x()), in(x, s.x()), out(da, s.e()), false);
    boot::normalise_forward(team, in(x, s.x()), 1e-6, out(z, s.x()), rstd.data());
    boot::normalise_backward(team, in(z, s.x()), rstd.data(), in(dy, s.x()), out(dx, s.x()), false);
    for (const auto* v : {&z, &dx, &rstd, &da}) y.insert(y.end(), v->begin(), v->end());
    return y;
  };
  const std::vector<float> one = run(1);
  CHECK(run(2) == one);
  CHECK(run(3) == one);
}

TEST_CASE("gradients of modulation on a graph", "[nn][modulate]") {
  const auto check = [](operands n, const std::function<graph::value(graph&, const operands&)>& of_operands) {
    const auto report = boot::testing::check_graph_gradient(dev, n, code([&](graph& g) { return of_operands(g, n); }));
    INFO(report.worst_name);
    CHECK(report.worst < 1e-6);
  };
  SECTION("modulate, a row per sample") {
    check({of({2, 3, 2, 4}), of({2, 4}), of({2, 4})},
          [](graph& g, const operands& n) { return boot::modulate(g, g(n.x), g(n.a), boot::silu(g, g(n.b))); });
  }
  SECTION("modulate, one row for all, x used twice") {
    check({of({3, 5, 3}), of({1, 3}), of({1, 3})}, [](graph& g, const operands& n) {
      const auto x = boot::silu(g, g(n.x)), a = boot::silu(g, g(n.a));
      return boot::add(g, x, boot::modulate(g, x, a, a));
    });
  }
  SECTION("gate_add") {
    check({of({2, 3, 4}), of({2, 4}), of({1, 4})}, [](graph& g, const operands& n) {
      const auto x = boot::silu(g, g(n.x));
      return boot::gate_add(g, boot::gate_add(g, x, x, g(n.a)), x, g(n.b));
    });
  }
  SECTION("normalise") {
    check({of({2, 3, 5}), {}, {}}, [](graph& g, const operands& n) {
      const auto x = boot::silu(g, g(n.x));
      return boot::add(g, x, boot::normalise(g, x));
    });
  }
  SECTION("one adaLN-zero branch") {
    check({of({2, 3, 4}), of({2, 12}), {}}, [](graph& g, const operands& n) {
      const auto x = g(n.x), e = boot::silu(g, g(n.a));
      const auto h =
          boot::modulate(g, boot::normalise(g, x), boot::take_channels(g, e, 4, 4), boot::take_channels(g, e, 0, 4));
      return boot::gate_add(g, x, boot::silu(g, h), boot::take_channels(g, e, 8, 4));
    });
  }
}

TEST_CASE("shapes that modulation cannot take are named", "[nn][modulate]") {
  const boot::modulate_op modulate;
  const boot::gate_add_op gate;
  CHECK(modulate.result({2, 3, 5, 4}, {2, 4}, {2, 4}) == boot::shape{2, 3, 5, 4});
  CHECK(gate.result({2, 4}, {2, 4}, {1, 4}) == boot::shape{2, 4});
  CHECK_THROWS_WITH(modulate.result({2, 3, 4}, {3, 4}, {3, 4}), ContainsSubstring("[2 or 1, 4]"));
  CHECK_THROWS_WITH(modulate.result({2, 3, 4}, {2, 3, 4}, {2, 3, 4}), ContainsSubstring("scale of shape [2, 3, 4]"));
  CHECK_THROWS_WITH(modulate.result({2, 3, 4}, {2, 4}, {1, 4}), ContainsSubstring("must be equal"));
  CHECK_THROWS_WITH(modulate.result({2, 0, 4}, {2, 4}, {2, 4}), ContainsSubstring("size zero"));
  CHECK_THROWS_WITH(modulate.result({4}, {4}, {4}), ContainsSubstring("needs a batch"));
  CHECK_THROWS_WITH(gate.result({2, 3, 4}, {2, 4}, {2, 4}), ContainsSubstring("must be equal"));
  CHECK_THROWS_WITH(gate.result({2, 3, 4}, {2, 3, 4}, {2, 3}), ContainsSubstring("gate of shape [2, 3]"));
  CHECK_THROWS_WITH(boot::normalise_op{}.result({2, 0}), ContainsSubstring("at least one element"));
  CHECK_THROWS_WITH(boot::normalise_op{0}.result({2, 3}), ContainsSubstring("epsilon 0"));
  CHECK((boot::take_channels_op{1, 2}.result({5, 3}) == boot::shape{5, 2}));
  CHECK_THROWS_WITH((boot::take_channels_op{2, 2}.result({5, 3})),
                    ContainsSubstring("channels 2 .. 3 of shape [5, 3]"));
  CHECK_THROWS_AS((boot::take_channels_op{0, 0}.result({5, 3})), boot::error);
  CHECK_THROWS_AS((boot::take_channels_op{-1, 2}.result({5, 3})), boot::error);
}
