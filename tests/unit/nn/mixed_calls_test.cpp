// SPDX-License-Identifier: MIT
// Activations in bf16 on a device whose functions take bf16: how many calls and bytes a network takes, and its numbers.
#include "support/catch.hpp"
#include "support/distance.hpp"
#include "unit/nn/arrays.hpp"
#include "unit/nn/team_calls.hpp"

#include <boot/nn/activations.hpp>
#include <boot/nn/convolution.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {
using boot::bf16;
constexpr std::int64_t batch = 5, width = 24;
}  // namespace

namespace {

struct image_ends {
  boot::conv2d in{{.in = 3, .out = 64}}, out{{.in = 64, .out = 3}};
  template <class G>
  typename G::value operator()(G& g, const typename G::value& x) const {
    return out(g, boot::silu(g, in(g, x)));
  }
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("out", out);
  }
};

struct two_squares {
  boot::linear a{width, width}, b{width, width};
  template <class V>
  void visit(V& v) {
    v("a", a);
    v("b", b);
  }
};

// Parameters, an input and a slope of a small network on the test device, and what one run of it leaves.
template <class Network>
struct team_rig {
  using graph = boot::graph<float, boot::team_device, bf16>;
  boot::team_device dev;
  Network net;
  boot::parameter_arena<float, boot::team_device> arena{dev, boot::parameter_layout(net)};
  boot::tensor<float, boot::team_device> x, slope;

  team_rig(const boot::shape& input, const boot::shape& result) {
    arena.initialize(dev, 3);
    const auto numbers = boot::testing::normal_numbers<float>(input.size(), 7, 1);
    const auto slopes = boot::testing::normal_numbers<float>(result.size(), 7, 2);
    x = boot::tensor_of<float>(dev, std::span<const float>(numbers), input);
    slope = boot::tensor_of<float>(dev, std::span<const float>(slopes), result);
  }
  template <class Code>
  boot::graph_plan plan(const Code& code, bool recorded) {
    return graph().plan(dev, recorded, arena.layout(), [&](graph& g) {
      return code(g, g.input({nullptr, x.get().extents()}));
    });
  }
  // The result and the gradient of the parameters.
  template <class Code>
  std::vector<float> run(const Code& code) {
    boot::fill_zero(dev, arena.gradient());
    graph g;
    g.begin(dev, plan(code, true), arena.layout(), arena.values(), arena.gradient());
    const auto y = code(g, g.input(x.get()));
    auto all = boot::to_host(dev, g.data(y));
    g.backward(y, slope.get());
    for (const float v : boot::to_host(dev, boot::view<const float, boot::team_device>(arena.gradient())))
      all.push_back(v);
    return all;
  }
  // Device calls forward and, of a recorded run, backward.
  template <class Code>
  std::vector<std::size_t> calls(const Code& code, bool recorded) {
    graph g;
    g.begin(dev, plan(code, recorded), arena.layout(), arena.values(), arena.gradient());
    typename graph::value y;
    std::vector<std::size_t> n{boot::testing::team_calls([&] { y = code(g, g.input(x.get())); })};
    if (recorded) n.push_back(boot::testing::team_calls([&] { g.backward(y, slope.get()); }));
    return n;
  }
};

}  // namespace

TEST_CASE("convolutions that read an image or make the result take no float copies of what lies between",
          "[nn][mixed]") {
  const boot::shape image{4, 16, 16, 3};
  team_rig<image_ends> r(image, image);
  const auto code = [&](auto& g, const auto& x) { return r.net(g, x); };
  const std::int64_t wide = 4 * 16 * 16 * 64 * 2, small = 4 * 16 * 16 * 3, weights = 2 * 64 * 27 * 2 + 67 * 2;
  // The input and the result, each in bf16 and the result in float; in a recorded run two more gradients in bf16.
  CHECK(r.plan(code, false).bytes <= 2 * wide + small * 8 + weights + 1024);
  CHECK(r.plan(code, true).bytes <= 3 * wide + small * 12 + weights + 1024);
  // The input and the result are converted, nothing else.
  CHECK(r.calls(code, false) == std::vector<std::size_t>{5});
  CHECK(r.calls(code, true)[0] == 5);

  // And as exact as copies in float make it.
  image_ends net;
  boot::parameter_arena<float, boot::cpu> arena(boot::cpu{}, boot::parameter_layout(net));
  boot::parameter_arena<double, boot::cpu> exact(boot::cpu{}, boot::parameter_layout(net));
  const auto values = boot::to_host(r.dev, boot::view<const float, boot::team_device>(r.arena.values()));
  const auto input = boot::to_host(r.dev, boot::view<const float, boot::team_device>(r.x.get()));
  const auto slope = boot::to_host(r.dev, boot::view<const float, boot::team_device>(r.slope.get()));
  const auto on_cpu = [&]<class A>(auto& parameters, A) {
    using T = boot::compute_type<A>;
    const std::vector<T> x(input.begin(), input.end()), dy(slope.begin(), slope.end());
    std::copy(values.begin(), values.end(), parameters.values().data());
    boot::fill_zero(boot::cpu{}, parameters.gradient());
    boot::graph<T, boot::cpu, A> q;
    const auto same = [&](auto& to) { return net(to, to.input({x.data(), image})); };
    q.begin(boot::cpu{}, q.plan(boot::cpu{}, true, parameters.layout(), same), parameters.layout(), parameters.values(),
            parameters.gradient());
    const auto y = same(q);
    std::vector<T> all = boot::to_host(boot::cpu{}, q.data(y));
    q.backward(y, {dy.data(), image});
    for (const T v : boot::to_host(boot::cpu{}, boot::view<const T, boot::cpu>(parameters.gradient())))
      all.push_back(v);
    return all;
  };
  const auto wanted = on_cpu(exact, double{});
  const double error = boot_test::relative_distance(on_cpu(arena, bf16{}), wanted);
  CHECK(error > 1e-4);
  CHECK(boot_test::relative_distance(r.run(code), wanted) < 2 * error);
}

TEST_CASE("an input is rounded once for all that read it, and blocks that read one may be recomputed", "[nn][mixed]") {
  team_rig<two_squares> r({batch, width}, {batch, width});
  const auto both = [&](auto& g, const auto& x) { return boot::add(g, r.net.a(g, x), r.net.b(g, x)); };
  // Rounding the input, two products, a sum, the result widened; what is not kept is rounded again.
  CHECK(r.calls(both, true)[0] == 5);
  CHECK(r.calls(both, false)[0] == 6);
  const auto with = [&](bool again) {
    return [&r, again](auto& g, const auto& x) {
      const auto block = [&r](auto& q, const auto& v) {
        return boot::add(q, r.net.a(q, v), boot::silu(q, r.net.b(q, boot::silu(q, v))));
      };
      return boot::add(g, boot::recompute(g, again, block, x), r.net.b(g, x));
    };
  };
  CHECK(r.run(with(true)) == r.run(with(false)));
}

TEST_CASE("a linear layer reads its bias from the rounded parameters", "[nn][mixed]") {
  team_rig<two_squares> r({batch, width}, {batch, width});
  std::vector<float> x(batch * width);
  for (std::size_t i = 0; i < batch; ++i) x[i * width + i] = 1;  // results are sums of two numbers
  r.x = boot::tensor_of<float>(r.dev, std::span<const float>(x), {batch, width});
  const auto y = r.run([&](auto& g, const auto& v) { return r.net.a(g, v); });
  const auto numbers = [&](const boot::view<float, boot::team_device>& v) {
    return boot::to_host(r.dev, boot::view<const float, boot::team_device>(v));
  };
  const auto weight = numbers(r.arena.value(0)), bias = numbers(r.arena.value(1));
  const auto rounded = [](float v) { return static_cast<float>(bf16(v)); };
  bool other = false;  // without rounding the bias some results are others
  for (std::size_t i = 0; i < batch; ++i)
    for (std::size_t j = 0; j < width; ++j) {
      const float factor = rounded(weight[j * width + i]);
      CHECK(y[i * width + j] == rounded(factor + rounded(bias[j])));
      other = other || y[i * width + j] != rounded(factor + bias[j]);
    }
  CHECK(other);
}

TEST_CASE("a plan settles where something reads the result that a recomputed block made", "[nn][mixed]") {
  team_rig<two_squares> r({batch, width}, {batch, width});
  const auto with = [&](bool again) {
    return [&r, again](auto& g, const auto& x) {
      const auto block = [&r](auto& q, const auto& v) { return boot::silu(q, r.net.a(q, v)); };
      const auto root = boot::recompute(g, again, block, boot::silu(g, x));
      static_cast<void>(boot::add(g, root, x));
      return root;
    };
  };
  CHECK(r.run(with(true)) == r.run(with(false)));
}

TEST_CASE("a bias that is an operand of its own stays in full, recorded or not", "[nn][mixed]") {
  team_rig<two_squares> r({batch, width}, {width});
  const auto code = [&](auto& g, const auto&) { return boot::silu(g, g(r.net.a.bias)); };
  const auto forward = [&](bool recorded) {
    typename team_rig<two_squares>::graph g;
    g.begin(r.dev, r.plan(code, recorded), r.arena.layout(), r.arena.values(), r.arena.gradient());
    return boot::to_host(r.dev, g.data(code(g, g.input(r.x.get()))));
  };
  CHECK(forward(true) == forward(false));
}
