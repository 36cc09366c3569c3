// SPDX-License-Identifier: MIT
// What operations declare: those that pass their result's gradient on get no copy of it made, and no bit changes.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"
#include "unit/nn/team_calls.hpp"

#include <boot/nn/activations.hpp>
#include <boot/nn/convolution.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/nn/resample.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using boot::bf16;
constexpr std::int64_t batch = 3, width = 8;

// The same additions with a copy of the gradient for every operand.
struct copied_add_op : boot::add_op {
  static constexpr unsigned passes = 0;
};
struct copied_add_channels_op : boot::add_channels_op {
  static constexpr unsigned passes = 0;
};

// Operands that are read again before and after, twice in one sum, broadcast, made again, inputs, parameters, and the
// operands of recomputed blocks.
template <bool copied>
struct network {
  using add_op = std::conditional_t<copied, copied_add_op, boot::add_op>;
  using add_channels_op = std::conditional_t<copied, copied_add_channels_op, boot::add_channels_op>;
  boot::linear first{width, width}, second{width, width}, last{width, 5};
  boot::parameter offset{{1, width}, {boot::initializer::rule::normal, 1}};

  template <class G>
  typename G::value operator()(G& g, const typename G::value& x, const typename G::value& row) const {
    using value = typename G::value;
    const auto add = [&g](const value& a, const value& b) { return g.apply(add_op{}, a, b); };
    const value h = first(g, x), broadcast = second(g, row);
    const value late = add(h, boot::silu(g, h));
    const value twice = add(late, late);
    const value shifted = add(add(twice, broadcast), g(offset));
    const auto block = [this](G& q, const value& a, const value& b) {
      const value inside = q.apply(add_op{}, second(q, a), b);
      return q.apply(add_op{}, inside, boot::silu(q, a));
    };
    const value again = boot::recompute(g, block, shifted, late);
    const value made = boot::upsample_nearest(
        g, boot::recompute(
               g, [](G& q, const value& a) { return q.apply(add_op{}, a, a); }, g.apply(image_op{}, add(again, x))));
    const value sum = add(made, boot::silu(g, made));
    const value channels = g.apply(add_channels_op{}, sum, shifted);
    return last(g, g.apply(add_channels_op{}, add(add(channels, sum), made), h));
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("second", second);
    v("last", last);
    v("offset", offset);
  }

  // [batch, width] as an image of one pixel.
  struct image_op {
    static constexpr unsigned saves = 0;
    static constexpr unsigned parameters = 0;
    [[nodiscard]] boot::shape result(const boot::shape& x) const { return {x[0], 1, 1, x[1]}; }
    template <class D, class C>
    void forward(const D& dev, C& c) const {
      add_to(dev, c.in[0], c.out, false);
    }
    template <class D, class C>
    void backward(const D& dev, C& c) const {
      add_to(dev, c.out_gradient, c.gradient[0], c.accumulate[0]);
    }
  };
};

template <class T>
struct outcome {
  std::vector<T> numbers;  // the result and the gradient
  std::int64_t bytes = 0;
};

template <bool copied, class T, class A, class D>
outcome<T> run(const D& dev) {
  network<copied> net;
  boot::parameter_arena<T, D> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 5);
  const auto x = boot::testing::normal_numbers<T>(batch * width, 7, 1);
  const auto slope = boot::testing::normal_numbers<T>(batch * 4 * 5, 7, 2);
  const auto input = boot::tensor_of<T>(dev, std::span<const T>(x), {batch, width});
  const auto from = boot::tensor_of<T>(dev, std::span<const T>(slope), {batch, 2, 2, 5});
  const boot::view<const T, D> row(input.get().data(), {1, width});
  boot::graph<T, D, A> g;
  const auto code = [&](auto& q) { return net(q, q.input(input.get()), q.input(row)); };
  const auto plan = g.plan(dev, true, arena.layout(), code);
  g.begin(dev, plan, arena.layout(), arena.values(), arena.gradient());
  const auto y = code(g);
  outcome<T> r{boot::to_host(dev, g.data(y)), plan.bytes};
  g.backward(y, from.get());
  for (const T v : boot::to_host(dev, boot::view<const T, D>(arena.gradient()))) r.numbers.push_back(v);
  return r;
}

template <class T, class A, class D>
void check(const D& dev) {
  const auto passed = run<false, T, A>(dev), copied = run<true, T, A>(dev);
  CHECK(passed.numbers == copied.numbers);
  CHECK(passed.bytes <= copied.bytes);
  for (const T v : passed.numbers) REQUIRE(v == v);
}

struct chain {
  boot::linear first{width, width}, middle{width, width};
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("middle", middle);
  }
};

struct cost {
  std::size_t calls;
  std::int64_t bytes;
};

// Of going back through x + silu(x) summed up `depth` times.
template <class Add>
cost back_through(int depth) {
  const boot::team_device dev;
  const Add add{};
  chain net;
  boot::parameter_arena<float, boot::team_device> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 5);
  const boot::tensor<float, boot::team_device> x(dev, {1000, width}), slope(dev, {1000, width});
  boot::graph<float, boot::team_device, bf16> g;
  const auto code = [&](auto& q) {
    auto h = net.first(q, q.input(x.get()));
    for (int i = 0; i < depth; ++i) h = q.apply(add, boot::silu(q, h), h);
    return net.middle(q, h);
  };
  const auto plan = g.plan(dev, true, arena.layout(), code);
  g.begin(dev, plan, arena.layout(), arena.values(), arena.gradient());
  decltype(code(g)) y;
  static_cast<void>(boot::testing::team_calls([&] { y = code(g); }));
  return {boot::testing::team_calls([&] { g.backward(y, slope.get()); }), plan.bytes};
}

}  // namespace

namespace {
struct two_convolutions {
  boot::conv2d first{{.in = 3, .out = 6}}, second{{.in = 6, .out = 3}};
  boot::linear row{4, 6};
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("second", second);
    v("row", row);
  }
};
}  // namespace

TEST_CASE("a bias that another pass adds is the layer's own: values and gradients", "[nn][graph]") {
  const boot::cpu dev{1};
  const std::int64_t rows = GENERATE(1, 2);  // an embedding of each sample, or of all
  two_convolutions net;
  boot::parameter_arena<double, boot::cpu> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 5);
  const boot::shape image{2, 4, 3, 3};
  const auto x = boot::testing::normal_numbers<double>(image.size(), 7, 1);
  const auto e = boot::testing::normal_numbers<double>(rows * 4, 7, 2);
  const auto slope = boot::testing::normal_numbers<double>(image.size(), 7, 3);
  using graph = boot::graph<double, boot::cpu>;
  const auto run = [&](bool fused) {
    boot::fill_zero(dev, arena.gradient());
    const auto code = [&](graph& g) {
      const auto in = g.input({x.data(), image}), row = net.row(g, g.input({e.data(), {rows, 4}}));
      if (!fused) {
        const auto h = boot::silu(g, boot::add_channels(g, net.first(g, in), row));
        return boot::add(g, net.second(g, h), in);
      }
      const auto biased = boot::add_bias(g, row, g(net.first.bias));
      const auto h = boot::silu(g, boot::add_channels(g, net.first.without_bias(g, in), biased));
      return boot::add_bias(g, net.second.without_bias(g, h), in, g(net.second.bias));
    };
    graph g;
    g.begin(dev, g.plan(dev, true, arena.layout(), code), arena.layout(), arena.values(), arena.gradient());
    const auto y = code(g);
    auto all = boot::to_host(dev, g.data(y));
    g.backward(y, {slope.data(), image});
    for (const double v : boot::to_host(dev, arena.gradient())) all.push_back(v);
    return all;
  };
  const auto fused = run(true), plain = run(false);
  REQUIRE(fused.size() == plain.size());
  for (std::size_t i = 0; i < fused.size(); ++i) CHECK(fused[i] == Catch::Approx(plain[i]).margin(1e-13));
}

TEST_CASE("gradients that are passed on are those of copies, bit by bit", "[nn][graph][team]") {
  check<float, float>(boot::cpu{1});
  check<double, double>(boot::cpu{1});
  check<float, bf16>(boot::cpu{1});
  check<float, float>(boot::team_device{});
  check<float, bf16>(boot::team_device{});
}

TEST_CASE("a sum's gradient is passed on to one operand without a copy", "[nn][graph][team]") {
  for (const int depth : {1, 2, 7}) {
    const cost passed = back_through<boot::add_op>(depth), copied = back_through<copied_add_op>(depth);
    CHECK(copied.calls - passed.calls == static_cast<std::size_t>(depth));
    CHECK(passed.bytes <= copied.bytes);
  }
}
