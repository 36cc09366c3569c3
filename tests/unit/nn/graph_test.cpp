// SPDX-License-Identifier: MIT
// The graph: one code in three modes, memory as planned and reused, gradients that add up where values are shared.
#include "support/catch.hpp"

#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/graph.hpp>
#include <boot/nn/layers.hpp>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace {

using boot::graph_mode;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

// Layers of SiLU over a residual, ending in a narrower layer.
struct network {
  boot::linear first{6, 16}, last{16, 3};
  std::vector<boot::linear> middle;
  explicit network(int depth = 4) {
    for (int i = 0; i < depth; ++i) middle.emplace_back(16, 16);
  }
  template <class G>
  typename G::value operator()(G& g, const typename G::value& x) const {
    auto h = first(g, x);
    for (const auto& layer : middle)
      h = boot::residual(g, h, [&](G& q, const typename G::value& v) { return layer(q, boot::silu(q, v)); });
    return last(g, boot::silu(g, h));
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("middle", middle);
    v("last", last);
  }
};

template <class T>
struct rig {
  using graph = boot::graph<T, boot::cpu>;
  network net;
  boot::parameter_arena<T, boot::cpu> arena;
  std::vector<T> x;
  std::int64_t batch;

  explicit rig(std::int64_t n, int depth = 4) : net(depth), arena(dev, boot::parameter_layout(net)), batch(n) {
    arena.initialize(dev, 3);
    for (std::int64_t i = 0; i < n * 6; ++i) x.push_back(static_cast<T>(std::sin(0.7 * static_cast<double>(i))));
  }
  boot::view<const T, boot::cpu> input() const { return {x.data(), {batch, 6}}; }
  auto code() const {
    return [this](graph& g) { return net(g, g.input(input())); };
  }
  boot::graph_plan plan(bool recorded) const {
    graph g;
    return g.plan(dev, recorded, arena.layout(), [this](graph& q) {
      return net(q, q.input(boot::view<const T, boot::cpu>(nullptr, {batch, 6})));  // no data is needed to plan
    });
  }
  void begin(graph& g, graph_mode mode) { begin(g, plan(mode == graph_mode::recorded)); }
  void begin(graph& g, const boot::graph_plan& p) { g.begin(dev, p, arena.layout(), arena.values(), arena.gradient()); }
  std::vector<T> gradient_once(T factor = 1) {
    boot::fill_zero(dev, arena.gradient());
    graph g;
    begin(g, graph_mode::recorded);
    const auto y = code()(g);
    const std::vector<T> slope(static_cast<std::size_t>(batch * 3), factor);
    g.backward(y, {slope.data(), {batch, 3}});
    return boot::to_host(dev, arena.gradient());
  }
};

struct table_network {
  boot::linear rows{6, 3};
  template <class V>
  void visit(V& v) {
    v("rows", rows);
  }
};

}  // namespace

TEST_CASE("inference and recorded runs give the same bits, and fit exactly what was planned", "[nn][graph]") {
  const std::int64_t batch = GENERATE(1, 5, 33);
  rig<float> r(batch);
  using graph = rig<float>::graph;
  std::vector<std::vector<float>> outputs;
  for (const bool recorded : {false, true}) {
    const boot::graph_plan plan = r.plan(recorded);
    graph g;
    r.begin(g, plan);
    CHECK(g.capacity() == plan.bytes);
    CHECK(g.mode() == (recorded ? graph_mode::recorded : graph_mode::inference));
    {
      const auto y = r.code()(g);
      CHECK(y.extents() == boot::shape{batch, 3});
      outputs.push_back(boot::to_host(dev, g.data(y)));
      if (recorded) {
        const std::vector<float> slope(static_cast<std::size_t>(batch * 3), 1.0f);
        CHECK_NOTHROW(g.backward(y, {slope.data(), {batch, 3}}));
      }
    }
    // A run of other code is stopped before it overwrites anything.
    graph other;
    r.begin(other, plan);
    const auto another = [&] {
      const auto kept = boot::silu(other, r.net.first(other, other.input(r.input())));
      const auto wide = boot::concat(other, kept, kept);
      return boot::concat(other, boot::concat(other, wide, wide), wide);
    };
    CHECK_THROWS_WITH(another(), ContainsSubstring("must do the same at every call"));
  }
  CHECK(outputs[0] == outputs[1]);
}

TEST_CASE("inference reuses memory: depth costs nothing, recording does", "[nn][graph]") {
  const auto bytes = [](int depth, bool recorded) { return rig<float>(64, depth).plan(recorded).bytes; };
  CHECK(bytes(20, false) == bytes(4, false));
  CHECK(bytes(20, true) > 3 * bytes(4, true));
  CHECK(bytes(4, false) < bytes(4, true));
}

TEST_CASE("planning counts floating point operations and computes nothing", "[nn][graph]") {
  const rig<float> r(10);
  const double forward = 2.0 * 10 * (6 * 16 + 4 * 16 * 16 + 16 * 3);
  const boot::graph_plan inference = r.plan(false), recorded = r.plan(true);
  CHECK(inference.forward_flop == forward);
  CHECK(inference.backward_flop == 0);
  CHECK(recorded.forward_flop == forward);
  CHECK(recorded.backward_flop == 2 * forward - 2.0 * 10 * 6 * 16);  // the input itself wants no gradient
  const auto before = boot::memory_use<boot::cpu>().allocations;
  static_cast<void>(r.plan(true));
  CHECK(boot::memory_use<boot::cpu>().allocations == before);
}

TEST_CASE("a graph is used again without a new allocation", "[nn][graph]") {
  rig<float> r(7);
  rig<float>::graph g;
  const std::vector<float> slope(21, 1.0f);
  std::vector<float> first;
  std::int64_t allocations = 0;
  for (int run = 0; run < 3; ++run) {
    boot::fill_zero(dev, r.arena.gradient());
    r.begin(g, graph_mode::recorded);
    const auto y = r.code()(g);
    g.backward(y, {slope.data(), {7, 3}});
    if (run == 0) first = boot::to_host(dev, r.arena.gradient());
    if (run == 0) allocations = boot::memory_use<boot::cpu>().allocations;
    CHECK(boot::to_host(dev, r.arena.gradient()) == first);
  }
  CHECK(boot::memory_use<boot::cpu>().allocations == allocations);
}

TEST_CASE("several tapes are alive at once, and gradients accumulate in any order", "[nn][graph]") {
  rig<double> r(4);
  const std::vector<double> one = r.gradient_once(1), three = r.gradient_once(3);
  for (std::size_t i = 0; i < one.size(); ++i) REQUIRE(three[i] == Catch::Approx(3 * one[i]).margin(1e-13));
  boot::fill_zero(dev, r.arena.gradient());
  using graph = rig<double>::graph;
  std::vector<std::unique_ptr<graph>> graphs;
  std::vector<graph::value> roots;
  for (int i = 0; i < 3; ++i) {
    graphs.push_back(std::make_unique<graph>());
    r.begin(*graphs.back(), graph_mode::recorded);
    roots.push_back(r.code()(*graphs.back()));
  }
  for (const int i : {1, 2, 0}) {
    const std::vector<double> slope(12, i + 1.0);
    graphs[static_cast<std::size_t>(i)]->backward(roots[static_cast<std::size_t>(i)], {slope.data(), {4, 3}});
  }
  const auto sum = boot::to_host(dev, r.arena.gradient());
  for (std::size_t i = 0; i < one.size(); ++i) REQUIRE(sum[i] == Catch::Approx(6 * one[i]).margin(1e-12));
  roots.clear();
}

TEST_CASE("wrong uses of backward are told", "[nn][graph]") {
  rig<float> r(2);
  rig<float>::graph g;
  const std::vector<float> slope(6, 1.0f);
  {
    r.begin(g, graph_mode::inference);
    const auto y = r.code()(g);
    CHECK_THROWS_WITH(g.backward(y, {slope.data(), {2, 3}}), ContainsSubstring("was not recorded"));
  }
  {
    r.begin(g, graph_mode::recorded);
    const auto y = r.code()(g);
    CHECK_THROWS_WITH(g.backward(y, {slope.data(), {1, 3}}), ContainsSubstring("gradient of shape [1, 3]"));
    CHECK_NOTHROW(g.backward(y, {slope.data(), {2, 3}}));
    const auto gradient = boot::to_host(dev, r.arena.gradient());
    CHECK_THROWS_WITH(g.backward(y, {slope.data(), {2, 3}}), ContainsSubstring("a second time"));
    CHECK(boot::to_host(dev, r.arena.gradient()) == gradient);
  }
  boot::linear lost(3, 3);  // its parameters were never laid out
  r.begin(g, graph_mode::inference);
  const auto x = g.input(r.input());
  CHECK_THROWS_WITH(static_cast<void>(lost(g, x)), ContainsSubstring("build a parameter_layout"));
}

TEST_CASE("a frozen group gets no gradient, and what lies before it still does", "[nn][graph]") {
  rig<double> r(3);
  const auto all = r.gradient_once();
  r.arena.layout().assign_group({"frozen", false}, [](std::string_view n) { return n.starts_with("middle.1"); });
  const auto some = r.gradient_once();
  const auto& entries = r.arena.layout().entries();
  for (std::size_t p = 0; p < entries.size(); ++p)
    for (std::int64_t i = 0; i < entries[p].extents.size(); ++i) {
      const auto at = static_cast<std::size_t>(entries[p].offset + i);
      REQUIRE(some[at] == (entries[p].name.starts_with("middle.1") ? 0.0 : all[at]));
    }
  // All frozen: nothing to record, nothing to keep.
  r.arena.layout().assign_group({"all", false}, [](std::string_view) { return true; });
  CHECK(r.plan(true).bytes == r.plan(false).bytes);
  for (const double v : r.gradient_once()) REQUIRE(v == 0);
}

namespace {
struct sharing {
  boot::parameter a{{2, 3}, {}}, row{{1, 3}, {}};
  template <class V>
  void visit(V& v) {
    v("a", a);
    v("row", row);
  }
};
}  // namespace

TEST_CASE("a value used several times gets the sum of its gradients; a broadcast one the sum over the batch",
          "[nn][graph]") {
  using graph = boot::graph<double, boot::cpu>;
  sharing net;
  boot::parameter_arena<double, boot::cpu> arena(dev, boot::parameter_layout(net));
  for (int i = 0; i < 6; ++i) arena.value(0)[i] = 0.3 * i - 0.5;
  for (int i = 0; i < 3; ++i) arena.value(1)[i] = 0.1 * i;
  const auto code = [&](graph& g) {
    const auto a = g(net.a), b = g(net.row);
    const auto twice = boot::add(g, a, a);                             // 2 a
    const auto wide = boot::add(g, twice, b);                          // 2 a + row
    return boot::add(g, boot::add(g, wide, boot::silu(g, twice)), b);  // 2 a + silu(2 a) + 2 row
  };
  graph g;
  g.begin(dev, graph{}.plan(dev, true, arena.layout(), code), arena.layout(), arena.values(), arena.gradient());
  const auto y = code(g);
  const std::vector<double> slope{1, 2, 3, 4, 5, 6};
  for (int i = 0; i < 6; ++i) {
    const double u = 2 * arena.value(0)[i];
    CHECK(g.data(y)[i] == Catch::Approx(u + u / (1 + std::exp(-u)) + 2 * arena.value(1)[i % 3]));
  }
  g.backward(y, {slope.data(), {2, 3}});
  for (int i = 0; i < 6; ++i) {
    const double u = 2 * arena.value(0)[i], s = 1 / (1 + std::exp(-u));
    CHECK(arena.gradient(0)[i] == Catch::Approx(2 * slope[static_cast<std::size_t>(i)] * (1 + s * (1 + u * (1 - s)))));
  }
  for (int i = 0; i < 3; ++i)
    CHECK(arena.gradient(1)[i] ==
          Catch::Approx(2 * (slope[static_cast<std::size_t>(i)] + slope[static_cast<std::size_t>(i + 3)])));
}

TEST_CASE("values count their holders: copies, moves, assignment", "[nn][graph]") {
  rig<float> r(2);
  using graph = rig<float>::graph;
  std::vector<const float*> at;
  const auto code = [&](graph& g) {
    const auto x = g.input(r.input());
    CHECK_FALSE(graph::value().has_value());
    auto a = boot::silu(g, x);
    at.assign(1, g.data(a).data());
    auto b = a;
    a = boot::silu(g, x);  // b still holds the first
    at.push_back(g.data(b).data());
    at.push_back(g.data(a).data());
    auto c = std::move(b);
    at.push_back(g.data(c).data());
    c = {};
    const auto again = boot::silu(g, x);  // takes the place that is free now
    at.push_back(g.data(again).data());
    return again;
  };
  graph g;
  g.begin(dev, g.plan(dev, false, r.arena.layout(), code), r.arena.layout(), r.arena.values(), {});
  CHECK(g.capacity() == 2 * boot::activation_plan::alignment);
  static_cast<void>(code(g));
  CHECK(at[1] == at[0]);
  CHECK(at[2] != at[0]);
  CHECK(at[3] == at[0]);
  CHECK(at[4] == at[0]);
}

TEST_CASE("a table of rows that is itself computed gets all of its gradient, whatever its memory held", "[nn][graph]") {
  table_network net;
  boot::parameter_arena<double, boot::cpu> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 1);
  boot::fill_zero(dev, arena.gradient());
  const std::vector<double> x(4 * 6, 0.5);
  const std::vector<std::int32_t> ids{1, 1, -1, 0, 1};
  const boot::embedding_op<boot::cpu> pick{{{ids.data(), {5}}, false}};
  boot::graph<double, boot::cpu> g;
  const auto code = [&](auto& q) {
    return q.apply(pick, net.rows(q, q.input(boot::view<const double, boot::cpu>(x.data(), {4, 6}))));
  };
  g.begin(dev, g.plan(dev, true, arena.layout(), code), arena.layout(), arena.values(), arena.gradient());
  const std::vector<double> slope(5 * 3, 1.0);
  g.backward(code(g), {slope.data(), {5, 3}});
  const auto gradient = boot::to_host(dev, arena.gradient());
  for (const auto& e : arena.layout().entries())
    for (std::int64_t i = 0; i < e.extents.size(); ++i)
      CHECK(gradient[static_cast<std::size_t>(e.offset + i)] == (e.name == "rows.weight" ? 2.5 : 5.0));
}

TEST_CASE("a run that ended in an exception leaves nothing behind", "[nn][graph]") {
  rig<float> large(33), r(2);
  const boot::graph_plan small = r.plan(true);
  const auto expected = r.gradient_once();
  rig<float>::graph g;
  const auto run = [&](rig<float>& of) {
    boot::fill_zero(dev, of.arena.gradient());
    of.begin(g, small);
    const auto y = of.code()(g);
    const std::vector<float> slope(static_cast<std::size_t>(of.batch * 3), 1.0f);
    g.backward(y, {slope.data(), {of.batch, 3}});
    return boot::to_host(dev, of.arena.gradient());
  };
  CHECK_THROWS_WITH(run(large), ContainsSubstring("must do the same at every call"));
  CHECK(run(r) == expected);
  const auto failing = [&r](rig<float>::graph& q) {
    const auto y = r.code()(q);
    return boot::concat(q, y, q.input(boot::view<const float, boot::cpu>(nullptr, {1, 6})));
  };
  CHECK_THROWS_WITH(static_cast<void>(g.plan(dev, true, r.arena.layout(), failing)), ContainsSubstring("cannot join"));
  CHECK(g.plan(dev, false, r.arena.layout(), r.code()).bytes == r.plan(false).bytes);
  r.begin(g, graph_mode::inference);  // and not recorded, as the failed plan was
  {
    const auto y = r.code()(g);
    CHECK_THROWS_WITH(g.backward(y, g.data(y)), ContainsSubstring("was not recorded"));
  }
  CHECK(run(r) == expected);
}

TEST_CASE("a chain keeps what its operations save, and nothing else", "[nn][graph]") {
  // Per block of SiLU, linear and a sum: SiLU's operand and the linear layer's; the branch's result is freed at once.
  const auto bytes = [](int depth) { return rig<float>(64, depth).plan(true).bytes; };
  const std::int64_t one = 64 * 16 * 4;
  for (const int depth : {4, 5, 11}) CHECK(bytes(depth + 1) - bytes(depth) == 2 * one);
}

namespace {
// The square of a value, which says for itself what its backward costs.
struct square_op {
  static constexpr unsigned saves = 1;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  [[nodiscard]] double flop(const boot::shape& x) const { return 2.0 * static_cast<double>(x.size()); }
  [[nodiscard]] double backward_flop(const boot::shape& x) const { return 5.0 * static_cast<double>(x.size()); }
  template <class D, class C>
  void forward(const D&, C&) const {}
  template <class D, class C>
  void backward(const D&, C&) const {}
};
}  // namespace

TEST_CASE("an operation's own count of backward is taken where it has one", "[nn][graph]") {
  const rig<float> r(10);
  const auto code = [&r](rig<float>::graph& g) { return g.apply(square_op{}, r.code()(g)); };
  const boot::graph_plan alone = r.plan(true);
  const boot::graph_plan both = rig<float>::graph().plan(dev, true, r.arena.layout(), code);
  CHECK(both.forward_flop == alone.forward_flop + 2.0 * 30);
  CHECK(both.backward_flop == alone.backward_flop + 5.0 * 30);
}
