// SPDX-License-Identifier: MIT
// Activations in bf16 on a device whose functions take bf16: which operations get what is stored, and that it is right.
#include "support/catch.hpp"
#include "support/distance.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/nn/cpu/all.hpp>
#include <boot/nn/group_norm.hpp>
#include <boot/nn/layers.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using boot::bf16;

// What the last run of either direction got, by a letter per call: n for views of bf16, w for copies in float.
std::string got;
template <class V>
char kind_of(const V&) {
  return std::is_same_v<std::remove_const_t<typename V::value_type>, bf16> ? 'n' : 'w';
}

// 3 x + 1, and says what it was given.
template <bool remade_>
struct wide_op {
  static constexpr unsigned saves = 1;
  static constexpr bool remade = remade_;
  [[nodiscard]] boot::shape result(const boot::shape& x) const { return x; }
  template <class D, class C>
  void forward(const D&, C& c) const {
    got += kind_of(c.in[0]);
    for (std::int64_t i = 0; i < c.out.size(); ++i)
      boot::store(c.out.data()[i], 3 * static_cast<float>(c.in[0].data()[i]) + 1);
  }
  template <class D, class C>
  void backward(const D&, C& c) const {
    got += kind_of(c.gradient[0]);
    for (std::int64_t i = 0; i < c.out_gradient.size(); ++i) {
      const float before = c.accumulate[0] ? static_cast<float>(c.gradient[0].data()[i]) : 0;
      boot::store(c.gradient[0].data()[i], before + 3 * static_cast<float>(c.out_gradient.data()[i]));
    }
  }
};
template <bool remade_>
struct narrow_op : wide_op<remade_> {
  static constexpr unsigned parameters = 0;
};

constexpr std::int64_t batch = 5, width = 24;

template <bool remade>
struct network {
  boot::linear first{width, width}, middle{width, width}, last{width, 3};
  boot::layer_norm norm{width};
  boot::group_norm groups{4, width};
  bool again = false;

  // Every pair of one that takes copies and one that does not, made again and kept, read by both kinds.
  template <class G>
  typename G::value operator()(G& g, const typename G::value& x) const {
    auto h = g.apply(narrow_op<remade>{}, first(g, x));
    h = boot::recompute(
        g, again,
        [this](G& q, const typename G::value& v) {
          const auto a = q.apply(wide_op<remade>{}, v);
          return middle(q, boot::add(q, boot::silu(q, a), q.apply(narrow_op<remade>{}, a)));
        },
        h);
    const auto n = groups.silu(g, norm(g, boot::add(g, h, h)));
    return last(g, boot::add(g, g.apply(wide_op<false>{}, n), n));
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("middle", middle);
    v("last", last);
    v("norm", norm);
    v("groups", groups);
  }
};

struct outcome {
  std::vector<float> y, gradient;
  std::string kinds;
  std::int64_t bytes;
};

template <class A, bool remade, class D>
outcome run(const D& dev, bool again) {
  network<remade> net;
  boot::parameter_arena<float, D> arena(dev, boot::parameter_layout(net));
  arena.initialize(dev, 3);
  net.again = again;
  const auto x = boot::testing::normal_numbers<float>(batch * width, 7, 1);
  const auto slope = boot::testing::normal_numbers<float>(batch * 3, 7, 2);
  const auto input = boot::tensor_of<float>(dev, std::span<const float>(x), {batch, width});
  const auto from = boot::tensor_of<float>(dev, std::span<const float>(slope), {batch, 3});
  const auto code = [&](boot::graph<float, D, A>& g) { return net(g, g.input(input.get())); };
  boot::graph<float, D, A> g;
  const auto plan = g.plan(dev, true, arena.layout(), code);
  g.begin(dev, plan, arena.layout(), arena.values(), arena.gradient());
  got.clear();
  const auto y = code(g);
  outcome r;
  r.y = boot::to_host(dev, g.data(y));
  g.backward(y, from.get());
  r.gradient = boot::to_host(dev, boot::view<const float, D>(arena.gradient()));
  r.kinds = got;
  r.bytes = plan.bytes;
  return r;
}

template <bool remade>
void check(bool again) {
  const auto exact = run<float, remade>(boot::cpu{1}, again), copied = run<bf16, remade>(boot::cpu{1}, again);
  const auto found = run<bf16, remade>(boot::team_device{}, again);
  CAPTURE(remade, again, copied.kinds, found.kinds);
  CHECK(copied.kinds.find('n') == std::string::npos);
  CHECK(copied.kinds.size() == found.kinds.size());
  for (std::size_t i = 0; i < found.kinds.size(); ++i) CHECK((found.kinds[i] == 'n' || found.kinds[i] == 'w'));
  CHECK(found.kinds.find('n') != std::string::npos);
  CHECK(found.kinds.find('w') != std::string::npos);
  const double y = boot_test::relative_distance(copied.y, exact.y);
  const double gradient = boot_test::relative_distance(copied.gradient, exact.gradient);
  CHECK(y > 1e-4);
  CHECK(boot_test::relative_distance(found.y, exact.y) < 1.5 * y);
  CHECK(boot_test::relative_distance(found.gradient, exact.gradient) < 1.5 * gradient);
}

struct two_layers {
  boot::linear first{8, 64}, last{64, 8};
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("last", last);
  }
};

// Of a batch at which copies would show.
template <class A, class D>
std::int64_t bytes_of_silu(const D& dev) {
  two_layers net;
  boot::parameter_layout layout(net);
  boot::graph<float, D, A> g;
  return g
      .plan(dev, false, layout,
            [&](auto& q) {
              auto h = net.first(q, q.input({nullptr, {1000, 8}}));
              h = boot::silu(q, h);
              h = boot::silu(q, h);
              return net.last(q, h);
            })
      .bytes;
}

}  // namespace

TEST_CASE("operations with `parameters` get what is stored, others copies, with the same result", "[nn][mixed][team]") {
  for (const bool again : {false, true}) {
    check<false>(again);
    check<true>(again);
  }
}

TEST_CASE("an operation of its own gets inputs and results in bf16 as well, others in full", "[nn][mixed][team]") {
  boot::parameter_layout none;
  const boot::team_device dev;
  const auto x = boot::testing::normal_numbers<float>(12, 7, 1);
  const auto input = boot::tensor_of<float>(dev, std::span<const float>(x), {12});
  using graph = boot::graph<float, boot::team_device, bf16>;
  graph g;
  const auto run = [&](const auto& code) {
    g.begin(dev, g.plan(dev, false, none, code), none, {}, {});
    got.clear();
    return boot::to_host(dev, g.data(code(g)));
  };
  const auto rounded = [](float v) { return static_cast<float>(bf16(v)); };
  const auto narrow = run([&](graph& q) {
    auto h = q.apply(narrow_op<false>{}, q.input(input.get()));  // a rounded input
    h = q.apply(narrow_op<false>{}, h);                          // what is stored
    return q.apply(narrow_op<false>{}, h);                       // a result that is rounded and widened
  });
  CHECK(got == "nnn");
  const auto wide =
      run([&](graph& q) { return q.apply(wide_op<false>{}, q.apply(wide_op<false>{}, q.input(input.get()))); });
  CHECK(got == "ww");
  bool full = false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(narrow[i] == rounded(3 * rounded(3 * rounded(3 * rounded(x[i]) + 1) + 1) + 1));
    CHECK(wide[i] == 3 * rounded(3 * x[i] + 1) + 1);
    full = full || wide[i] != rounded(wide[i]);
  }
  CHECK(full);
}

TEST_CASE("activations in bf16 need no copies where the device takes them", "[nn][mixed][team]") {
  const std::int64_t plain = bytes_of_silu<float>(boot::team_device{}),
                     mixed = bytes_of_silu<bf16>(boot::team_device{});
  CAPTURE(plain, mixed);
  CHECK(mixed < bytes_of_silu<bf16>(boot::cpu{}));
  CHECK(mixed < plain);
}
