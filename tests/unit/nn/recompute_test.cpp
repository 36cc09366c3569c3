// SPDX-License-Identifier: MIT
// Recomputed blocks: the bits of the plain network, memory exactly as planned, and clear refusals.
#include "support/catch.hpp"

#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using boot::graph_mode;
using boot::recompute;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

// y = x / (1 + x^2), an operation that keeps its result, numbers of its own and no operand.
struct witch_op {
  static constexpr unsigned saves = boot::saves_result;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  [[nodiscard]] std::int64_t saved_size(const boot::shape& x) const { return x.size(); }
  template <class D, class C>
  void forward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out.size(); ++i) {
      const auto x = c.in[0].data()[i];
      c.out.data()[i] = x / (1 + x * x);
      if (c.saved.data() != nullptr) c.saved.data()[i] = (1 - x * x) / (1 + x * x);
    }
  }
  template <class D, class C>
  void backward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out.size(); ++i) {
      const auto s = c.saved.data()[i], y = c.out.data()[i];
      const auto slope = y == 0 ? s : s * s * 2 / (1 + s) - s * y * y * 2;  // any expression of both will do
      const auto d = c.out_gradient.data()[i] * slope;
      c.gradient[0].data()[i] = c.accumulate[0] ? c.gradient[0].data()[i] + d : d;
    }
  }
};

constexpr std::int64_t width = 12;

struct block {
  boot::linear in{width, 3 * width}, out{3 * width, width};
  boot::layer_norm norm{width};
  boot::linear gate{width, width};
  // Reads x three times, the embedding twice where there is one.
  template <class G>
  typename G::value operator()(G& g, const typename G::value& x, const typename G::value& embedding) const {
    auto h = out(g, boot::silu(g, in(g, norm(g, x))));
    if (embedding.has_value()) h = boot::add(g, boot::add(g, h, boot::silu(g, gate(g, embedding))), embedding);
    return g.apply(witch_op{}, boot::add(g, boot::add(g, h, x), x));
  }
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("out", out);
    v("norm", norm);
    v("gate", gate);
  }
};

enum class kind { plain, blocks, nested, switched_off };

struct network {
  boot::linear first{6, width}, shared{width, width};
  std::vector<block> blocks{3};
  kind how = kind::plain;

  template <class G>
  typename G::value operator()(G& g, const typename G::value& x) const {
    using value = typename G::value;
    auto h = first(g, x);
    const auto embedding = shared(g, boot::silu(g, h));  // `shared` also stands inside and behind the blocks
    // No embedding, no gradient of the operand: the block's own parameters want one all the same.
    const auto of_input = stage(g, blocks[0], boot::concat(g, x, x), value());
    h = boot::add(g, h, of_input);
    const auto pair = [this](G& q, const value& a, const value& e) {
      auto b = stage(q, blocks[1], a, e);
      b = boot::add(q, shared(q, b), a);
      return stage(q, blocks[2], b, e);
    };
    h = how == kind::nested ? recompute(g, pair, h, embedding) : pair(g, h, embedding);
    h = boot::add(g, shared(g, h), embedding);
    return recompute(
        g, how == kind::blocks, [](G& q, const value& a) { return boot::silu(q, a); }, h);
  }
  template <class G, class V>
  V stage(G& g, const block& b, const V& h, const V& embedding) const {
    if (how == kind::plain) return b(g, h, embedding);
    return recompute(g, how != kind::switched_off, std::cref(b), h, embedding);
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("shared", shared);
    v("blocks", blocks);
  }
};

struct chain {
  std::vector<boot::linear> in, out;
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("out", out);
  }
};

// A: what activations are stored in.
template <class A>
struct rig {
  using T = boot::compute_type<A>;
  using graph = boot::graph<T, boot::cpu, A>;
  network net;
  boot::parameter_arena<T, boot::cpu> arena;
  std::vector<T> x, slope;
  std::int64_t batch;
  boot::graph_plan last;  // plan

  explicit rig(std::int64_t n) : arena(dev, boot::parameter_layout(net)), batch(n) {
    arena.initialize(dev, 3);
    for (std::int64_t i = 0; i < n * 6; ++i) x.push_back(static_cast<T>(std::sin(0.7 * static_cast<double>(i))));
    for (std::int64_t i = 0; i < n * width; ++i) slope.push_back(static_cast<T>(std::cos(static_cast<double>(i))));
  }
  boot::graph_plan plan(kind how, bool recorded = true) {
    net.how = how;
    const auto p = graph().plan(dev, recorded, arena.layout(), [this](graph& q) {
      return net(q, q.input(boot::view<const T, boot::cpu>(nullptr, {batch, 6})));
    });
    return last = p;
  }
  typename graph::value forward(graph& g) {
    g.begin(dev, last, arena.layout(), arena.values(), arena.gradient());
    return net(g, g.input(boot::view<const T, boot::cpu>(x.data(), {batch, 6})));
  }
  void backward(graph& g, const typename graph::value& y) { g.backward(y, {slope.data(), {batch, width}}); }
  // Output and gradients, in memory of exactly the planned size.
  std::vector<T> run(kind how) {
    boot::fill_zero(dev, arena.gradient());
    graph g;
    static_cast<void>(plan(how));
    const auto y = forward(g);
    std::vector<T> all = boot::to_host(dev, g.data(y));
    backward(g, y);
    for (const T v : boot::to_host(dev, arena.gradient())) all.push_back(v);
    return all;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("recomputed blocks give the bits of the plain network", "[nn][recompute]", float, double,
                   boot::bf16) {
  const std::int64_t batch = GENERATE(1, 5);
  rig<TestType> r(batch);
  const auto same = [&r] {
    const auto plain = r.run(kind::plain);
    for (const kind k : {kind::switched_off, kind::blocks, kind::nested})
      if (r.run(k) != plain) return false;
    return true;
  };
  const auto plain = r.run(kind::plain);
  bool moved = false;
  for (std::size_t i = static_cast<std::size_t>(batch * width); i < plain.size(); ++i) moved = moved || plain[i] != 0;
  CHECK(moved);
  CHECK(same());
  for (const std::string_view frozen : {"first", "shared", "blocks.0", "blocks.1", "blocks.2.norm", ""}) {
    INFO("frozen: " << frozen);
    r.arena.layout().assign_group({"all", true}, [](std::string_view) { return true; });
    r.arena.layout().assign_group({"frozen", false}, [&](std::string_view n) { return n.starts_with(frozen); });
    CHECK(same());
  }
}

TEMPLATE_TEST_CASE("recomputed blocks fit exactly what was planned, and keep their operands only", "[nn][recompute]",
                   float, boot::bf16) {
  rig<TestType> r(33);
  using graph = typename rig<TestType>::graph;
  for (const kind k : {kind::blocks, kind::nested}) {
    const std::int64_t plain = r.plan(kind::plain).bytes;
    const boot::graph_plan plan = r.plan(k);
    CHECK(plan.bytes < plain);
    graph g;
    for (int i = 0; i < 2; ++i) CHECK_NOTHROW(r.backward(g, r.forward(g)));
    CHECK(g.capacity() == plan.bytes);
    static_cast<void>(r.plan(kind::plain));
    r.net.how = k;
    CHECK_THROWS_WITH(r.backward(g, r.forward(g)), ContainsSubstring("must do the same at every call"));
  }
  CHECK(r.plan(kind::switched_off).bytes == r.plan(kind::plain).bytes);
  CHECK(r.plan(kind::nested, false).bytes == r.plan(kind::plain, false).bytes);
}

TEST_CASE("what is recomputed counts as floating point operations of backward", "[nn][recompute]") {
  rig<float> r(10);
  const auto plain = r.plan(kind::plain), blocks = r.plan(kind::blocks), nested = r.plan(kind::nested);
  const double product = 2.0 * 10 * width * width;
  CHECK(blocks.forward_flop == plain.forward_flop);
  CHECK(blocks.backward_flop == plain.backward_flop + 3 * 6 * product + 2 * product);  // two have an embedding
  CHECK(nested.forward_flop == plain.forward_flop);
  // The outer block once more, with the product between its inner blocks; those then a third time.
  CHECK(nested.backward_flop == blocks.backward_flop + 2 * 7 * product + product);
}

TEST_CASE("several recomputed tapes are alive at once", "[nn][recompute]") {
  rig<double> r(4);
  std::vector<std::vector<double>> sums;
  for (const kind k : {kind::plain, kind::nested}) {
    boot::fill_zero(dev, r.arena.gradient());
    using graph = rig<double>::graph;
    std::vector<std::unique_ptr<graph>> graphs;
    std::vector<graph::value> roots;
    for (int i = 0; i < 3; ++i) {
      graphs.push_back(std::make_unique<graph>());
      static_cast<void>(r.plan(k));
      roots.push_back(r.forward(*graphs.back()));
    }
    for (const std::size_t i : {1U, 2U, 0U}) r.backward(*graphs[i], roots[i]);
    sums.push_back(boot::to_host(dev, r.arena.gradient()));
    roots.clear();
  }
  CHECK(sums[0] == sums[1]);
}

TEST_CASE("a chain of recomputed residual blocks keeps one activation per block instead of three", "[nn][recompute]") {
  chain net;
  for (int i = 0; i < 8; ++i) {
    net.in.emplace_back(256, 256);
    net.out.emplace_back(256, 256);
  }
  const boot::parameter_layout layout(net);
  using graph = boot::graph<float, boot::cpu>;
  const auto bytes = [&](bool on) {
    return graph()
        .plan(dev, true, layout,
              [&](graph& g) {
                auto h = g.input(boot::view<const float, boot::cpu>(nullptr, {64, 256}));
                for (std::size_t i = 0; i < net.in.size(); ++i) {
                  const auto residual = [&net, i](graph& q, const graph::value& x) {
                    return boot::add(q, x, net.out[i](q, boot::silu(q, net.in[i](q, x))));
                  };
                  h = recompute(g, on, residual, h);
                }
                return h;
              })
        .bytes;
  };
  const std::int64_t one = 64 * 256 * 4;
  // The input of each block but the first, whose is no activation, and the result; within a block what two linear
  // layers and SiLU save: of every block, or of one at a time; three gradients, where backward begins.
  CHECK(bytes(false) == (7 + 1 + 8 * 2 + 3) * one);
  CHECK(bytes(true) == (7 + 1 + 2 + 3) * one);
}

TEST_CASE("a block may let go of an operand that was moved in", "[nn][recompute]") {
  chain net;
  const boot::parameter_layout layout(net);
  using graph = boot::graph<float, boot::cpu>;
  using value = graph::value;
  const auto bytes = [&](bool on, auto code) {
    return graph()
        .plan(dev, false, layout,
              [&](graph& g) {
                auto h = boot::silu(g, g.input(boot::view<const float, boot::cpu>(nullptr, {64, 256})));
                return recompute(g, on, code, std::move(h));
              })
        .bytes;
  };
  const auto holds = [](graph& q, const value& x) { return boot::silu(q, boot::silu(q, x)); };
  const auto lets_go = [](graph& q, value x) {
    x = boot::silu(q, x);
    return boot::silu(q, x);
  };
  for (const bool on : {false, true}) {
    CHECK(bytes(on, holds) == 3 * 64 * 256 * 4);
    CHECK(bytes(on, lets_go) == 2 * 64 * 256 * 4);
  }
}

TEST_CASE("blocks that are no blocks, and wrong ones", "[nn][recompute]") {
  rig<double> r(2);
  using graph = rig<double>::graph;
  using value = graph::value;
  graph g;
  const auto gradient = [&](const auto& code) {
    const auto whole = [&](graph& q) {
      return code(q, r.net.first(q, q.input(boot::view<const double, boot::cpu>(r.x.data(), {2, 6}))));
    };
    g.begin(dev, g.plan(dev, true, r.arena.layout(), whole), r.arena.layout(), r.arena.values(), r.arena.gradient());
    boot::fill_zero(dev, r.arena.gradient());
    r.backward(g, whole(g));
    return boot::to_host(dev, r.arena.gradient());
  };
  const auto plain = [](graph& q, const value& h) { return boot::silu(q, h); };
  const auto expected = gradient(plain);
  // An operand handed through stays what it is; a block may have no operand and may give a leaf.
  CHECK(gradient([](graph& q, const value& h) {
          const auto same = recompute(
              q, [](graph&, const value& a) { return a; }, h);
          CHECK(q.data(same).data() == q.data(h).data());
          return boot::silu(q, same);
        }) == expected);
  const auto sum = gradient([&r](graph& q, const value& x) {
    const auto h = boot::silu(q, x);
    const auto leaf = recompute(q, [&r](graph& in) { return in(r.net.first.bias); });
    return boot::add(q, h, boot::silu(q, leaf).has_value() ? h : leaf);
  });
  for (std::size_t i = 0; i < sum.size(); ++i) REQUIRE(sum[i] == 2 * expected[i]);
  // A result nobody uses.
  CHECK(gradient([&r](graph& q, const value& h) {
          static_cast<void>(recompute(q, std::cref(r.net.blocks[1]), h, value()));
          return boot::silu(q, h);
        }) == expected);
  // A value from outside; the next run knows nothing of it.
  CHECK_THROWS_WITH(gradient([](graph& q, const value& h) {
                      const auto wrong = [&h](graph& in, const value& a) { return boot::add(in, a, h); };
                      return recompute(q, wrong, h);
                    }),
                    ContainsSubstring("pass the value to recompute()"));
  CHECK(gradient(plain) == expected);
  // A block that changes.
  int calls = 0;
  const auto changing = [&calls](graph& q, const value& a) {
    return ++calls == 1 ? boot::silu(q, a) : boot::concat(q, a, a);
  };
  CHECK_THROWS_WITH(gradient([&](graph& q, const value& h) { return recompute(q, changing, h); }),
                    ContainsSubstring("must do the same both times"));
  CHECK(gradient(plain) == expected);
}

namespace {
// y = x / (1 + x^2) from x alone; with `again`, made again instead of kept.
template <bool again>
struct cheap_op {
  static constexpr unsigned saves = 1;
  static constexpr bool remade = again;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  template <class D, class C>
  void forward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out.size(); ++i) c.out.data()[i] = c.in[0].data()[i] / (1 + square(c, i));
  }
  template <class D, class C>
  void backward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out_gradient.size(); ++i) {
      const auto d = c.out_gradient.data()[i] * (1 - square(c, i)) / ((1 + square(c, i)) * (1 + square(c, i)));
      c.gradient[0].data()[i] = c.accumulate[0] ? c.gradient[0].data()[i] + d : d;
    }
  }
  template <class C>
  static auto square(const C& c, std::int64_t i) {
    return c.in[0].data()[i] * c.in[0].data()[i];
  }
};
}  // namespace

TEMPLATE_TEST_CASE("results that are made again give the bits of kept ones, in less memory", "[nn][recompute]", float,
                   double, boot::bf16) {
  using T = boot::compute_type<TestType>;
  using graph = boot::graph<T, boot::cpu, TestType>;
  chain net;
  for (int i = 0; i < 5; ++i) net.in.emplace_back(32, 32);
  boot::parameter_arena<T, boot::cpu> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 9);
  std::vector<T> x(9 * 32), slope(9 * 32);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<T>(std::sin(0.7 * static_cast<double>(i)));
    slope[i] = static_cast<T>(std::cos(static_cast<double>(i)));
  }
  const boot::shape all{9, 32};
  const auto bytes_and_bits = [&]<class Op>(const Op& op, bool block) {
    const auto code = [&](graph& g) {
      const auto stage = [&net, op](graph& q, const typename graph::value& v) {
        // One of the caller's, one read by two layers, one in front of another.
        auto h = net.in[0](q, q.apply(op, v));
        h = q.apply(op, h);
        h = boot::add(q, net.in[1](q, h), net.in[2](q, h));
        return net.in[3](q, q.apply(op, q.apply(op, h)));
      };
      return net.in[4](g, recompute(g, block, stage, g.input(boot::view<const T, boot::cpu>(x.data(), all))));
    };
    const boot::graph_plan plan = graph().plan(dev, true, arena.layout(), code);
    boot::fill_zero(dev, arena.gradient());
    graph g;
    g.begin(dev, plan, arena.layout(), arena.values(), arena.gradient());
    const auto y = code(g);
    std::vector<T> bits = boot::to_host(dev, g.data(y));
    g.backward(y, {slope.data(), all});
    for (const T v : boot::to_host(dev, arena.gradient())) bits.push_back(v);
    return std::pair(plan.bytes, bits);
  };
  const auto kept = bytes_and_bits(cheap_op<false>{}, false), made = bytes_and_bits(cheap_op<true>{}, false);
  CHECK(made.second == kept.second);
  CHECK(made.first < kept.first);
  CHECK(bytes_and_bits(cheap_op<true>{}, true).second == kept.second);
}
