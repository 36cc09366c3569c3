// SPDX-License-Identifier: MIT
// Activations stored in bf16: rounded where they are stored and nowhere else, half the memory, any operation.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using boot::bf16;
using boot::graph_mode;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

// Rounds x to bf16 and its gradient as well: puts into a graph of floats what a mixed one does where it stores.
struct stored_op {
  static constexpr unsigned saves = 0;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  static float round(float x) { return static_cast<float>(bf16(x)); }
  template <class D, class C>
  void forward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out.size(); ++i) c.out.data()[i] = round(c.in[0].data()[i]);
  }
  template <class D, class C>
  void backward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out_gradient.size(); ++i) {
      const float before = c.accumulate[0] ? c.gradient[0].data()[i] : 0;
      c.gradient[0].data()[i] = before + round(c.out_gradient.data()[i]);
    }
  }
};
// Rounds weights, not their gradient.
struct read_op {
  static constexpr unsigned saves = 0;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  template <class D, class C>
  void forward(const D&, C& c) const {
    for (std::int64_t i = 0; i < c.out.size(); ++i) c.out.data()[i] = stored_op::round(c.in[0].data()[i]);
  }
  template <class D, class C>
  void backward(const D& d, C& c) const {
    add_to(d, c.out_gradient, c.gradient[0], c.accumulate[0]);
  }
};

// A chain: every activation is read once, so that gradients are rounded once as well.
struct network {
  boot::linear first{5, 24}, last{24, 3};
  boot::layer_norm norm{24};

  template <class G>
  typename G::value operator()(G& g, const typename G::value& x) const {
    const auto h = norm(g, boot::silu(g, first(g, x)));
    return last(g, boot::add(g, h, h));
  }
  // The same with every rounding written out.
  template <class G>
  typename G::value spelt_out(G& g, const typename G::value& x) const {
    const auto stored = [&](const typename G::value& v) { return g.apply(stored_op{}, v); };
    const auto product = [&](const boot::linear& l, const typename G::value& v) {
      return g.apply(boot::linear_op<true>{}, v, g.apply(read_op{}, g(l.weight)), g(l.bias));
    };
    const auto h = stored(norm(g, stored(boot::silu(g, stored(product(first, x))))));
    return product(last, stored(boot::add(g, h, h)));
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("last", last);
    v("norm", norm);
  }
};

struct chain {
  std::vector<boot::linear> layers;
  template <class V>
  void visit(V& v) {
    v("layers", layers);
  }
};

constexpr std::int64_t batch = 7;

template <class A>
struct rig {
  using graph = boot::graph<float, boot::cpu, A>;
  network net;
  boot::parameter_arena<float, boot::cpu> arena;
  std::vector<float> x, slope;

  explicit rig(std::uint64_t seed) : arena(dev, boot::parameter_layout(net)), x(batch * 5), slope(batch * 3) {
    arena.initialize(dev, seed);
    boot::fill_normal(x.data(), batch * 5, {seed, boot::stream::test, 0}, 0, 0);
    boot::fill_normal(slope.data(), batch * 3, {seed, boot::stream::test, 0}, 1, 0);
  }
  // Output and gradients, in memory of exactly the planned size that held NaN before.
  template <class Code>
  std::vector<float> run(const Code& code, graph_mode mode = graph_mode::recorded) {
    const bool recorded = mode == graph_mode::recorded;
    const auto whole = [&](graph& g) { return code(g, g.input({x.data(), {batch, 5}})); };
    const boot::graph_plan plan = graph().plan(dev, recorded, arena.layout(), whole);
    boot::fill_zero(dev, arena.gradient());
    graph g;
    g.begin(dev, plan, arena.layout(), arena.values(), arena.gradient());
    const auto y = whole(g);
    std::vector<float> all = boot::to_host(dev, g.data(y));
    if (recorded) {
      g.backward(y, {slope.data(), {batch, 3}});
      for (const float v : boot::to_host(dev, arena.gradient())) all.push_back(v);
    }
    return all;
  }
};

}  // namespace

TEST_CASE("numbers become bf16 by rounding to nearest even, and come back", "[nn][mixed]") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> from{0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, 3e38f, 3.4e38f, 1e-40f, inf, -inf, nan};
  for (std::uint32_t i = 0; from.size() < 100003; ++i)  // patterns of all exponents
    from.push_back(__builtin_bit_cast(float, i * 2654435761u));
  const auto n = static_cast<std::int64_t>(from.size());
  std::vector<bf16> stored(from.size());
  std::vector<float> back(from.size(), 7.0f), rounded(from.size(), 7.0f);
  boot::convert(dev, boot::view<const float, boot::cpu>(from.data(), {n}),
                boot::view<bf16, boot::cpu>(stored.data(), {n}));
  boot::convert(dev, boot::view<const bf16, boot::cpu>(stored.data(), {n}),
                boot::view<float, boot::cpu>(back.data(), {n}));
  boot::round_to<bf16>(dev, boot::view<const float, boot::cpu>(from.data(), {n}),
                       boot::view<float, boot::cpu>(rounded.data(), {n}));
  for (std::size_t i = 0; i < from.size(); ++i) {
    const float wanted = static_cast<float>(bf16(from[i]));
    if (stored[i].bits != bf16(from[i]).bits) FAIL("element " << i);
    if (!std::isnan(wanted) && (back[i] != wanted || rounded[i] != wanted)) FAIL("element " << i);
    if (std::isnan(wanted) && !(std::isnan(back[i]) && std::isnan(rounded[i]))) FAIL("element " << i);
  }
  CHECK(back[3] == 1.0f);  // a tie, to even
  CHECK(back[4] == 1.015625f);
  CHECK(std::isinf(back[6]));
}

TEST_CASE("a mixed graph rounds what it stores, and nothing else", "[nn][mixed]") {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    rig<bf16> mixed(seed);
    rig<float> plain(seed);
    const auto code = [&](auto& r) { return [&r](auto& g, const auto& x) { return r.net(g, x); }; };
    const auto measured = mixed.run(code(mixed));
    CHECK(measured == plain.run([&](auto& g, const auto& x) { return plain.net.spelt_out(g, x); }));
    const auto exact = plain.run(code(plain));
    CHECK(measured != exact);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(static_cast<double>(measured[i] - exact[i]), 2);
      size += std::pow(static_cast<double>(exact[i]), 2);
    }
    CHECK(std::sqrt(error / size) < 0.02);
    // Nothing of this depends on what the run keeps.
    const auto output = mixed.run(code(mixed), graph_mode::inference);
    CHECK(std::equal(output.begin(), output.end(), measured.begin()));
    CHECK(output.size() == batch * 3);
  }
}

TEST_CASE("a mixed graph keeps half the bytes, and copies of one operation's operands", "[nn][mixed]") {
  chain net;
  for (int i = 0; i < 24; ++i) net.layers.emplace_back(64, 64);
  const boot::parameter_layout layout(net);
  const auto bytes = [&]<class A>(A) {
    return boot::graph<float, boot::cpu, A>()
        .plan(dev, true, layout,
              [&](auto& g) {
                auto h = g.input(boot::view<const float, boot::cpu>(nullptr, {512, 64}));
                for (const auto& layer : net.layers) h = boot::silu(g, layer(g, h));
                return h;
              })
        .bytes;
  };
  const std::int64_t one = 512 * 64 * 2;
  // Full: what 24 linear layers and SiLUs save, the result, a gradient. Mixed: the same but for the result
  // at half the size, and of the widest operation (a linear layer going back) its input, gradient and weights in full.
  CHECK(bytes(1.0f) == 2 * one * (47 + 1 + 1));
  CHECK(bytes(bf16{}) < one * (47 + 2 + 2) + 2 * one * 3 + 64 * 64 * 4 + 1024);
}

TEST_CASE("activations stored in less than their type cannot be read from outside", "[nn][mixed]") {
  rig<bf16> r(1);
  const auto reading = [&](auto& g, const auto& x) {
    const auto h = r.net.first(g, x);
    if (g.mode() != graph_mode::plan) static_cast<void>(g.data(h));
    return r.net.last(g, h);
  };
  CHECK_THROWS_WITH(r.run(reading), ContainsSubstring("only a network's result can be read"));
}
