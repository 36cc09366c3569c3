// SPDX-License-Identifier: MIT
// Attention against plain float64 loops: blocks and their edges, heads, masks, shared contexts, gradients, threads.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/nn/attention.hpp>
#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/cpu/operations.hpp>
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
using arena = boot::parameter_arena<double, boot::cpu>;
using bytes = std::vector<std::uint8_t>;
const boot::cpu dev;

struct sizes {
  std::int64_t batch, queries, keys, heads, depth;
  bool shared = false;  // one context for all samples
  std::int64_t contexts() const { return shared ? 1 : batch; }
  std::int64_t width() const { return heads * depth; }
  std::int64_t q_size() const { return batch * queries * width(); }
  std::int64_t k_size() const { return contexts() * keys * width(); }
  boot::shape q_shape() const { return {batch, queries, width()}; }
  boot::shape k_shape() const { return {contexts(), keys, width()}; }
};
std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what, double factor = 1) {
  return boot::testing::normal_numbers<T>(n, 4, what, factor);
}
// Every second sample keeps some tokens, the first keeps none when there are several.
bytes some_tokens(const sizes& s) {
  bytes mask(at(s.contexts() * s.keys));
  for (std::int64_t b = 0; b < s.contexts(); ++b)
    for (std::int64_t i = 0; i < s.keys; ++i)
      mask[at(b * s.keys + i)] = b == 0 && s.contexts() > 1 ? 0
                                 : (i * 7 + b) % 3 == 0     ? 0
                                                            : static_cast<std::uint8_t>(b + 1);
  return mask;
}

struct reference {
  std::vector<double> out, dq, dk, dv;
};
// The definition, one query at a time. An empty mask lets all tokens count.
reference plain(const sizes& s, const std::vector<double>& q, const std::vector<double>& k,
                const std::vector<double>& v, const bytes& mask, const std::vector<double>& dout) {
  reference r{std::vector<double>(q.size()), std::vector<double>(q.size()), std::vector<double>(k.size()),
              std::vector<double>(k.size())};
  const double scale = 1 / std::sqrt(static_cast<double>(s.depth));
  std::vector<double> p(at(s.keys)), dp(at(s.keys));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h)
      for (std::int64_t i = 0; i < s.queries; ++i) {
        const std::int64_t from = (b * s.queries + i) * s.width() + h * s.depth, c = s.shared ? 0 : b;
        const auto key = [&](std::int64_t j) { return (c * s.keys + j) * s.width() + h * s.depth; };
        const auto counts = [&](std::int64_t j) { return mask.empty() || mask[at(c * s.keys + j)] != 0; };
        double most = -1e300, sum = 0, along = 0;
        for (std::int64_t j = 0; j < s.keys; ++j) {
          p[at(j)] = 0;
          for (std::int64_t e = 0; e < s.depth; ++e) p[at(j)] += scale * q[at(from + e)] * k[at(key(j) + e)];
          if (counts(j)) most = std::max(most, p[at(j)]);
        }
        for (std::int64_t j = 0; j < s.keys; ++j) sum += p[at(j)] = counts(j) ? std::exp(p[at(j)] - most) : 0;
        for (std::int64_t j = 0; j < s.keys; ++j) {
          if (sum > 0) p[at(j)] /= sum;
          dp[at(j)] = 0;
          for (std::int64_t e = 0; e < s.depth; ++e) {
            r.out[at(from + e)] += p[at(j)] * v[at(key(j) + e)];
            r.dv[at(key(j) + e)] += p[at(j)] * dout[at(from + e)];
            dp[at(j)] += dout[at(from + e)] * v[at(key(j) + e)];
          }
          along += p[at(j)] * dp[at(j)];
        }
        for (std::int64_t j = 0; j < s.keys; ++j)
          for (std::int64_t e = 0; e < s.depth; ++e) {
            r.dq[at(from + e)] += scale * p[at(j)] * (dp[at(j)] - along) * k[at(key(j) + e)];
            r.dk[at(key(j) + e)] += scale * p[at(j)] * (dp[at(j)] - along) * q[at(from + e)];
          }
      }
  return r;
}
template <class T>
std::vector<double> widened(const std::vector<T>& v) {
  return {v.begin(), v.end()};
}
// Largest difference, relative to the largest wanted number and in units of T's precision; infinite for a NaN.
template <class T>
double difference(const std::vector<T>& got, const std::vector<double>& wanted, const std::vector<double>& before) {
  double most = 1e-30, worst = 0;
  for (const double w : wanted) most = std::max(most, std::abs(w));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double off = std::abs(static_cast<double>(got[i]) - wanted[i] - before[i]);
    if (!(off <= 1e30)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, off);
  }
  return worst / most / static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <class T>
struct results {
  std::vector<T> out, lse, dq, dk, dv;
};
template <class T>
results<T> run(const boot::cpu& device, const sizes& s, const std::vector<T>& q, const std::vector<T>& k,
               const std::vector<T>& v, const bytes& mask, const std::vector<T>& dout, bool accumulate) {
  const std::uint8_t* const m = mask.empty() ? nullptr : mask.data();
  const auto start = [&](std::int64_t n) { return accumulate ? numbers<T>(n, 9) : poisoned<T>(n); };
  results<T> r{poisoned<T>(s.q_size()), poisoned<T>(s.batch * s.queries * s.heads), start(s.q_size()),
               start(s.k_size()), start(s.k_size())};
  const boot::shape qs = s.q_shape(), ks = s.k_shape();
  boot::attention_forward(device, in(q, qs), in(k, ks), in(v, ks), m, s.heads, out(r.out, qs), r.lse.data());
  boot::attention_backward(device, in(q, qs), in(k, ks), in(v, ks), m, s.heads, in(r.out, qs), r.lse.data(),
                           in(dout, qs), out(r.dq, qs), out(r.dk, ks), out(r.dv, ks), accumulate, accumulate,
                           accumulate);
  return r;
}

struct operands {
  boot::parameter q, k, v;
  template <class V>
  void visit(V& visitor) {
    visitor("q", q);
    if (k.extents.rank() > 0) visitor("k", k);
    if (v.extents.rank() > 0) visitor("v", v);
  }
};
template <class Layer>
struct layer_and_inputs {
  Layer layer;
  boot::parameter x, context;
  template <class V>
  void visit(V& v) {
    v("layer", layer);
    v("x", x);
    if (context.extents.rank() > 0) v("context", context);
  }
};
boot::parameter of(const boot::shape& s) { return {s, {}}; }
// One type for all codes: the check is compiled once per network.
using code = std::function<graph::value(graph&)>;
template <class Network>
double worst_gradient(Network& n, const code& c) {
  return boot::testing::check_graph_gradient(dev, n, c).worst;
}

}  // namespace

TEMPLATE_TEST_CASE("attention equals the plain loops, forward and backward", "[nn][attention]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const sizes& s :
       {sizes{1, 1, 1, 1, 1}, sizes{2, 5, 7, 3, 4}, sizes{1, 33, 193, 2, 8}, sizes{3, 129, 17, 1, 5},
        sizes{1, 513, 401, 1, 3}, sizes{3, 6, 77, 2, 9, true}, sizes{1, 64, 64, 1, 64}, sizes{2, 1, 200, 1, 130}})
    for (const bool masked : {false, true}) {
      const std::vector<T> q = numbers<T>(s.q_size(), 1, 2), k = numbers<T>(s.k_size(), 2),
                           v = numbers<T>(s.k_size(), 3);
      const std::vector<T> dout = numbers<T>(s.q_size(), 4);
      const bytes mask = masked ? some_tokens(s) : bytes{};
      const results<T> got = run(dev, s, q, k, v, mask, dout, accumulate);
      const reference wanted = plain(s, widened(q), widened(k), widened(v), mask, widened(dout));
      const auto before = [&](std::int64_t n) {
        return accumulate ? widened(numbers<T>(n, 9)) : std::vector<double>(at(n));
      };
      INFO("batch " << s.batch << ", " << s.queries << " queries, " << s.keys << " keys, " << s.heads << " heads of "
                    << s.depth << (masked ? ", masked" : ""));
      CHECK(difference(got.out, wanted.out, std::vector<double>(at(s.q_size()))) < 16);
      // Where softmax has one token only, the slopes of q and k are rounding errors of zero.
      if (s.keys > 1) {
        CHECK(difference(got.dq, wanted.dq, before(s.q_size())) < 64);
        CHECK(difference(got.dk, wanted.dk, before(s.k_size())) < 64);
      }
      CHECK(difference(got.dv, wanted.dv, before(s.k_size())) < 64);
    }
}

TEST_CASE("padding changes no bit, and a sample without any token gets zeros", "[nn][attention]") {
  const sizes s{2, 9, 5, 2, 4}, padded{2, 9, 12, 2, 4};
  const auto q = numbers<float>(s.q_size(), 1), dout = numbers<float>(s.q_size(), 4);
  const auto k = numbers<float>(s.k_size(), 2), v = numbers<float>(s.k_size(), 3);
  auto more_k = poisoned<float>(padded.k_size()), more_v = more_k;
  bytes mask(24, 0);
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t i = 0; i < 5; ++i) {
      const std::int64_t to = b * 12 + 2 * i + b;  // padding in between, not only at the end
      mask[at(to)] = 1;
      std::copy_n(k.data() + (b * 5 + i) * 8, 8, more_k.data() + to * 8);
      std::copy_n(v.data() + (b * 5 + i) * 8, 8, more_v.data() + to * 8);
    }
  const results<float> plain_run = run(dev, s, q, k, v, {}, dout, false);
  const results<float> masked_run = run(dev, padded, q, more_k, more_v, mask, dout, false);
  CHECK(masked_run.out == plain_run.out);
  CHECK(masked_run.dq == plain_run.dq);
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t i = 0, j = 0; i < 12; ++i) {
      const bool counts = mask[at(b * 12 + i)] != 0;
      for (std::int64_t e = 0; e < 8; ++e) {
        CHECK(masked_run.dk[at((b * 12 + i) * 8 + e)] == (counts ? plain_run.dk[at((b * 5 + j) * 8 + e)] : 0));
        CHECK(masked_run.dv[at((b * 12 + i) * 8 + e)] == (counts ? plain_run.dv[at((b * 5 + j) * 8 + e)] : 0));
      }
      j += counts ? 1 : 0;
    }
  const results<float> nothing = run(dev, padded, q, more_k, more_v, bytes(24, 0), dout, false);
  for (const auto* values : {&nothing.out, &nothing.dq, &nothing.dk, &nothing.dv})
    CHECK(std::all_of(values->begin(), values->end(), [](float x) { return x == 0; }));
  const results<float> kept = run(dev, padded, q, more_k, more_v, bytes(24, 0), dout, true);
  CHECK(kept.dq == numbers<float>(padded.q_size(), 9));
  CHECK(kept.dk == numbers<float>(padded.k_size(), 9));
}

TEST_CASE("large scores neither overflow nor lose the softmax", "[nn][attention]") {
  const sizes s{1, 4, 400, 1, 2};
  auto k = numbers<float>(s.k_size(), 2, 3000);
  const auto q = numbers<float>(s.q_size(), 1, 3000), v = numbers<float>(s.k_size(), 3), dout = numbers<float>(8, 4);
  const results<float> got = run(dev, s, q, k, v, {}, dout, false);
  const reference wanted = plain(s, widened(q), widened(k), widened(v), {}, widened(dout));
  CHECK(difference(got.out, wanted.out, std::vector<double>(8)) < 4);
  for (const auto* values : {&got.dq, &got.dk, &got.dv})
    CHECK(std::all_of(values->begin(), values->end(), [](float x) { return std::isfinite(x); }));
  k[7] = std::numeric_limits<float>::quiet_NaN();  // a NaN is not lost in a maximum
  const results<float> broken = run(dev, s, q, k, v, {}, dout, false);
  CHECK(std::all_of(broken.out.begin(), broken.out.end(), [](float x) { return std::isnan(x); }));
}

TEST_CASE("the bits of attention do not depend on the number of threads", "[nn][attention]") {
  for (const sizes& s : {sizes{2, 700, 250, 3, 8}, sizes{1, 300, 300, 1, 40}, sizes{3, 40, 30, 2, 8, true}}) {
    const auto q = numbers<float>(s.q_size(), 1), dout = numbers<float>(s.q_size(), 4);
    const auto k = numbers<float>(s.k_size(), 2), v = numbers<float>(s.k_size(), 3);
    const results<float> one = run(boot::cpu{1}, s, q, k, v, some_tokens(s), dout, false);
    for (const int threads : {2, 3}) {
      const results<float> more = run(boot::cpu{threads}, s, q, k, v, some_tokens(s), dout, false);
      CHECK(more.out == one.out);
      CHECK(more.lse == one.lse);
      CHECK(more.dq == one.dq);
      CHECK(more.dk == one.dk);
      CHECK(more.dv == one.dv);
    }
  }
}

TEST_CASE("gradients of attention on a graph", "[nn][attention]") {
  const bytes mask{1, 0, 1, 0, 1, 1};  // of two samples with three tokens
  const boot::view<const std::uint8_t, boot::cpu> masked{mask.data(), {2, 3}}, of_one{mask.data(), {1, 3}};
  const auto check = [&](operands n, const std::function<graph::value(graph&, const operands&)>& of_operands) {
    CHECK(worst_gradient(n, [&](graph& g) { return of_operands(g, n); }) < 1e-6);
  };
  SECTION("one array as q, k and v") {
    check({of({2, 3, 4}), {}, {}}, [](graph& g, const operands& n) {
      const auto x = boot::silu(g, g(n.q));  // an activation: its gradient is written first and then added to
      return boot::attention(g, x, x, x, 2);
    });
  }
  SECTION("one array as q, k and v, masked") {
    check({of({2, 3, 4}), {}, {}}, [&](graph& g, const operands& n) {
      const auto x = boot::silu(g, g(n.q));
      return boot::attention(g, x, x, x, 1, masked);
    });
  }
  SECTION("an image against tokens") {
    check({of({2, 2, 3, 4}), of({2, 3, 4}), of({2, 3, 4})},
          [](graph& g, const operands& n) { return boot::attention(g, g(n.q), g(n.k), boot::silu(g, g(n.v)), 4); });
  }
  SECTION("masked tokens") {
    check({of({2, 5, 6}), of({2, 3, 6}), of({2, 3, 6})}, [&](graph& g, const operands& n) {
      return boot::attention(g, boot::silu(g, g(n.q)), g(n.k), g(n.v), 2, masked);
    });
  }
  SECTION("one context for all samples") {
    check({of({3, 2, 2}), of({1, 3, 2}), of({1, 3, 2})}, [&](graph& g, const operands& n) {
      return boot::attention(g, g(n.q), boot::silu(g, g(n.k)), g(n.v), 1, of_one);
    });
  }
  SECTION("rows: one token per sample") {
    check({of({3, 2}), {}, {}}, [&](graph& g, const operands& n) {
      const auto x = g(n.q);
      return boot::add(g, boot::attention(g, x, x, x, 1), x);
    });
  }
}

TEST_CASE("only the wanted gradients are computed", "[nn][attention]") {
  const sizes s{2, 7, 5, 2, 3};
  const auto q = numbers<double>(s.q_size(), 1), dout = numbers<double>(s.q_size(), 4);
  const auto k = numbers<double>(s.k_size(), 2), v = numbers<double>(s.k_size(), 3);
  const results<double> all = run(dev, s, q, k, v, {}, dout, false);
  for (const int wanted : {1, 2, 4, 6}) {
    std::vector<double> dq = poisoned<double>(wanted & 1 ? s.q_size() : 0),
                        dk = poisoned<double>(wanted & 2 ? s.k_size() : 0),
                        dv = poisoned<double>(wanted & 4 ? s.k_size() : 0);
    boot::attention_backward(dev, in(q, s.q_shape()), in(k, s.k_shape()), in(v, s.k_shape()), nullptr, s.heads,
                             in(all.out, s.q_shape()), all.lse.data(), in(dout, s.q_shape()), out(dq, s.q_shape()),
                             out(dk, s.k_shape()), out(dv, s.k_shape()), false, false, false);
    if (wanted & 1) CHECK(dq == all.dq);
    if (wanted & 2) CHECK(dk == all.dk);
    if (wanted & 4) CHECK(dv == all.dv);
  }
}

TEST_CASE("memory is linear in the tokens, and the plan counts the products", "[nn][attention]") {
  const auto plan_of = [](std::int64_t tokens, bool recorded) {
    operands n{of({1, tokens, 8}), {}, {}};
    const boot::parameter_layout layout(n);
    const code c = [&](graph& g) {
      const auto x = boot::silu(g, g(n.q));
      return boot::attention(g, x, x, x, 2);
    };
    return graph{}.plan(dev, recorded, layout, c);
  };
  CHECK(plan_of(64, false).forward_flop == 4.0 * 64 * 64 * 8);
  CHECK(plan_of(8192, true).bytes <= 2 * plan_of(4096, true).bytes);
  const sizes s{1, 3000, 3000, 1, 2};
  const auto x = numbers<float>(s.q_size(), 1);
  const auto before = boot::memory_use<boot::cpu>();
  static_cast<void>(run(boot::cpu{1}, s, x, x, x, {}, x, false));
  const auto after = boot::memory_use<boot::cpu>();
  CHECK(after.live_bytes - before.live_bytes < 4'000'000);  // the scores alone would be 36 MB
  static_cast<void>(run(boot::cpu{1}, s, x, x, x, {}, x, false));
  CHECK(boot::memory_use<boot::cpu>().allocations == after.allocations);
}

TEST_CASE("shapes that attention cannot take are named", "[nn][attention]") {
  const auto result = [](std::int64_t heads, const boot::shape& q, const boot::shape& k, const boot::shape& v,
                         const boot::shape& mask = {0}) {
    return boot::attention_op<boot::cpu>{heads, {nullptr, mask}}.result(q, k, v);
  };
  CHECK(result(2, {3, 5, 4}, {3, 7, 4}, {3, 7, 4}) == boot::shape{3, 5, 4});
  CHECK(result(2, {3, 5, 2, 4}, {1, 7, 4}, {1, 7, 4}, {1, 7}) == boot::shape{3, 5, 2, 4});
  CHECK_THROWS_WITH(result(3, {3, 5, 4}, {3, 7, 4}, {3, 7, 4}), ContainsSubstring("must divide"));
  CHECK_THROWS_WITH(result(0, {3, 5, 4}, {3, 7, 4}, {3, 7, 4}), ContainsSubstring("0 heads"));
  CHECK_THROWS_WITH(result(1, {3, 5, 4}, {2, 7, 4}, {2, 7, 4}), ContainsSubstring("batch of one"));
  CHECK_THROWS_WITH(result(1, {3, 5, 4}, {3, 7, 4}, {3, 6, 4}), ContainsSubstring("one shape"));
  CHECK_THROWS_WITH(result(1, {3, 5, 4}, {3, 7, 2}, {3, 7, 2}), ContainsSubstring("[3, 7, 2]"));
  CHECK_THROWS_WITH(result(1, {3, 5, 4}, {3, 0, 4}, {3, 0, 4}), ContainsSubstring("at least one token"));
  CHECK_THROWS_WITH(result(1, {3, 5, 0}, {3, 7, 0}, {3, 7, 0}), ContainsSubstring("one feature"));
  CHECK_THROWS_WITH(result(1, {4}, {4}, {4}), ContainsSubstring("needs a batch"));
  CHECK_THROWS_WITH(result(1, {3, 5, 4}, {3, 7, 4}, {3, 7, 4}, {3, 5}), ContainsSubstring("must be [3, 7]"));
}

TEST_CASE("attention layer: names, bias, context, mask and gradients", "[nn][attention]") {
  using network = layer_and_inputs<boot::attention_layer>;
  CHECK_THROWS_WITH(boot::attention_layer({.width = 6, .heads = 4}), ContainsSubstring("must divide"));
  CHECK_THROWS_WITH(boot::attention_layer({.width = 0}), ContainsSubstring("width 0"));
  network self{boot::attention_layer({.width = 4, .heads = 2}), of({2, 3, 1, 4}), {}};
  const arena a(dev, boot::parameter_layout(self));
  const std::vector<std::string> names{"layer.to_q.weight",     "layer.to_q.bias",     "layer.to_k.weight",
                                       "layer.to_k.bias",       "layer.to_v.weight",   "layer.to_v.bias",
                                       "layer.to_out.0.weight", "layer.to_out.0.bias", "x"};
  REQUIRE(a.layout().entries().size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(a.layout().entries()[i].name == names[i]);
  CHECK(worst_gradient(self, [&](graph& g) { return self.layer(g, g(self.x)); }) < 1e-6);

  network cross{boot::attention_layer({.width = 4, .heads = 2, .context = 3, .bias = false}), of({2, 5, 4}),
                of({2, 3, 3})};
  const boot::parameter_layout layout(cross);
  CHECK(layout.find("layer.to_q.bias") == -1);
  CHECK(layout.find("layer.to_out.0.bias") >= 0);
  CHECK(layout.entries()[at(layout.find("layer.to_k.weight"))].extents == boot::shape{4, 3});
  const bytes mask{1, 0, 1, 0, 0, 0};
  const boot::view<const std::uint8_t, boot::cpu> masked{mask.data(), {2, 3}};
  CHECK(worst_gradient(cross, [&](graph& g) { return cross.layer(g, g(cross.x), g(cross.context), masked); }) < 1e-6);
  CHECK(worst_gradient(cross, [&](graph& g) { return cross.layer(g, g(cross.x), g(cross.context)); }) < 1e-6);

  arena values(dev, boot::parameter_layout(cross));
  values.initialize(dev, 1);
  const auto output = [&](const boot::view<const std::uint8_t, boot::cpu>& m) {
    const code c = [&](graph& g) { return cross.layer(g, g(cross.x), g(cross.context), m); };
    graph g;
    g.begin(dev, graph{}.plan(dev, false, values.layout(), c), values.layout(), values.values(), {});
    const auto y = c(g);
    return boot::to_host(dev, g.data(y));
  };
  const auto bias = boot::to_host(dev, values.value(values.layout().find("layer.to_out.0.bias")));
  const auto y = output(masked);  // the second sample has no token: the way out sees zeros
  for (std::size_t i = 20; i < 40; ++i) CHECK(y[i] == bias[i % 4]);
  CHECK(output({}) == output({nullptr, {2, 3}}));  // no mask: all tokens count
}
