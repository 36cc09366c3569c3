// SPDX-License-Identifier: MIT
/// Attention by products and team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/team/attention.hpp>
#include <boot/testing/team_products.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace {
using boot::testing::in;
using boot::testing::out;
using boot::testing::team_array;
using boot::testing::team_tolerance;
using bytes = std::vector<std::uint8_t>;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

struct sizes {
  std::int64_t batch, queries, keys, heads, depth;
  bool shared = false;  // one context for all samples
  std::int64_t contexts() const { return shared ? 1 : batch; }
  boot::shape q() const { return {batch, queries, heads * depth}; }
  boot::shape k() const { return {contexts(), keys, heads * depth}; }
  boot::shape lse() const { return {contexts() * heads, batch / contexts() * queries}; }
};

// The first of several samples has no token, the others lack some.
bytes some_tokens(const sizes& s) {
  bytes mask;
  for (std::int64_t b = 0; b < s.contexts(); ++b)
    for (std::int64_t i = 0; i < s.keys; ++i)
      mask.push_back((b == 0 && s.contexts() > 1) || (i * 7 + b) % 3 == 0 ? 0 : static_cast<std::uint8_t>(b + 1));
  return mask;
}

// Only wanted gradients are looked at; with `score_bytes` the scores come in smaller pieces than they would.
template <class T>
void attend(const sizes& s, bool masked, std::int64_t shift, bool accumulate, unsigned wanted = 7,
            std::int64_t score_bytes = boot::detail::attention_score_bytes) {
  using C = boot::compute_type<T>;
  CAPTURE(s.batch, s.queries, s.keys, s.heads, s.depth, s.shared, masked, shift, accumulate, wanted, score_bytes);
  const bytes tokens = masked ? some_tokens(s) : bytes{};
  const auto tokens_there = boot::testing::on_device(tokens);
  const std::uint8_t* const mask = masked ? tokens_there.data() : nullptr;
  const team_array<T> q(s.q(), 1, shift), k(s.k(), 2, shift), v(s.k(), 3, shift), dout(s.q(), 4, shift);
  team_array<T> y(s.q(), 5, shift), dq(s.q(), 6, shift), dk(s.k(), 7, shift), dv(s.k(), 8, shift);
  team_array<C> lse(s.lse(), 9);
  y.poison(), lse.poison();
  if (!accumulate) dq.poison(), dk.poison(), dv.poison();

  const boot::detail::attention_pieces<T> pieces(s.q(), s.k(), s.heads, score_bytes);
  const bool usual = score_bytes == boot::detail::attention_score_bytes;
  if (usual) {
    boot::attention_forward(dev, q.in(), k.in(), v.in(), mask, s.heads, y.numbers, lse.numbers.data());
  } else {
    boot::detail::attention_forward_in<boot::team_device, T>(dev, pieces, q.in().data(), k.in().data(), v.in().data(),
                                                             mask, y.numbers.data(), lse.numbers.data());
  }
  boot::attention_forward(host, in(q.host, s.q()), in(k.host, s.k()), in(v.host, s.k()), mask, s.heads,
                          out(y.host, s.q()), lse.host.data());
  const double scores = std::same_as<T, boot::bf16> ? 8 : 10;  // rounded to bf16 they leave more than its precision
  CHECK(y.error() <= team_tolerance<T>(scores));
  CHECK(lse.error() <= (std::same_as<T, boot::bf16> ? 2e-2 : team_tolerance<C>(10)));

  boot::view<T, boot::team_device> none;
  const auto of = [&](unsigned bit, const team_array<T>& a) { return (wanted & bit) != 0 ? a.numbers : none; };
  if (usual) {
    boot::attention_backward(dev, q.in(), k.in(), v.in(), mask, s.heads, y.in(), lse.in().data(), dout.in(), of(1, dq),
                             of(2, dk), of(4, dv), accumulate, accumulate, accumulate);
  } else {
    boot::detail::attention_backward_in<boot::team_device, T>(
        dev, pieces,
        {q.in().data(), k.in().data(), v.in().data(), mask, lse.in().data(), dout.in().data(), of(1, dq).data(),
         of(2, dk).data(), of(4, dv).data(), accumulate, accumulate, accumulate});
  }
  boot::attention_backward(host, in(q.host, s.q()), in(k.host, s.k()), in(v.host, s.k()), mask, s.heads,
                           in(y.host, s.q()), lse.host.data(), in(dout.host, s.q()), out(dq.host, s.q()),
                           out(dk.host, s.k()), out(dv.host, s.k()), accumulate, accumulate, accumulate);
  if ((wanted & 1) != 0) CHECK(dq.error() <= team_tolerance<T>(20));
  if ((wanted & 2) != 0) CHECK(dk.error() <= team_tolerance<T>(20));
  if ((wanted & 4) != 0) CHECK(dv.error() <= team_tolerance<T>(20));
}

// bf16 where the device has products of bf16.
template <class T>
constexpr bool has_products = requires(const T* a, T* c, boot::compute_type<T> x) {
  batched_product(dev, 1, 1, 1, 1, x, a, 1, 1, false, a, 1, 1, false, x, c, 1, 1);
};
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of attention are the host's loops", "[nn][team]", float, double, boot::bf16) {
  if constexpr (has_products<TestType>) {
    const bool accumulate = GENERATE(false, true), masked = GENERATE(false, true);
    attend<TestType>({1, 1, 1, 1, 1}, masked, 0, accumulate);
    attend<TestType>({2, 5, 7, 3, 4}, masked, 1, accumulate);
    attend<TestType>({3, 9, 77, 2, 8, true}, masked, 0, accumulate);
    attend<TestType>({3, 4, 130, 1, 5}, masked, 0, accumulate);
    attend<TestType>({2, 3, 257, 4, 8}, masked, 1, accumulate);
  }
}

TEMPLATE_TEST_CASE("attention of team kernels comes in pieces of queries and samples", "[nn][team]", float, double,
                   boot::bf16) {
  if constexpr (has_products<TestType>) {
    const bool accumulate = GENERATE(false, true);
    const sizes blocks{1, 130, 9, 2, 4}, samples{5, 30, 9, 1, 4};
    const boot::detail::attention_pieces<TestType> some(blocks.q(), blocks.k(), 2, 1);
    CHECK(some.block == 64);
    CHECK(some.group == 1);
    const boot::detail::attention_pieces<TestType> pairs(samples.q(), samples.k(), 1, 1);
    CHECK(pairs.block == 30);
    CHECK(pairs.group == 2);
    attend<TestType>(blocks, accumulate, 0, accumulate, 7, 1);
    attend<TestType>(samples, !accumulate, 0, accumulate, 7, 1);
  }
}

TEST_CASE("attention pieces stay within their memory", "[nn][team]") {
  for (const std::int64_t queries : {1, 64, 77, 256, 1000, 1024, 4096, 9216, 65536})
    for (const std::int64_t keys : {std::int64_t{1}, std::int64_t{77}, queries})
      for (const std::int64_t heads : {1, 8, 16})
        for (const std::int64_t batch : {1, 3, 128}) {
          const boot::detail::attention_pieces<boot::bf16> a({batch, queries, heads * 8}, {batch, keys, heads * 8},
                                                             heads, boot::detail::attention_score_bytes);
          const std::int64_t most = std::max(boot::detail::attention_score_bytes / 2, 64 * heads * (keys + 7));
          std::int64_t done = 0;
          a.for_each([&](std::int64_t s, std::int64_t n, std::int64_t first, std::int64_t count) {
            done += n * count;
            if (n > a.group || count > a.block || s + n > batch || first + count > queries) done = -1'000'000'000;
          });
          CAPTURE(queries, keys, heads, batch, a.block, a.group);
          CHECK(a.scores() <= most);
          CHECK(done == batch * queries);
        }
}

TEST_CASE("attention of team kernels computes what is wanted", "[nn][team]") {
  for (unsigned wanted = 0; wanted < 7; ++wanted) attend<float>({2, 5, 7, 2, 4}, true, 0, wanted % 2 == 0, wanted);
}

TEMPLATE_TEST_CASE("q, k and v of team attention may be one array, and so their gradients", "[nn][team]", float,
                   double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  const std::int64_t score_bytes = GENERATE(boot::detail::attention_score_bytes, std::int64_t{1});
  const sizes s{1, 130, 130, 1, 3};
  const boot::detail::attention_pieces<T> pieces(s.q(), s.k(), 1, score_bytes);
  const team_array<T> x(s.q(), 1), dout(s.q(), 2);
  team_array<T> y(s.q(), 3), dx(s.q(), 4), lse(s.lse(), 5);
  if (!accumulate) dx.poison();
  boot::detail::attention_forward_in<boot::team_device, T>(dev, pieces, x.in().data(), x.in().data(), x.in().data(),
                                                           nullptr, y.numbers.data(), lse.numbers.data());
  boot::detail::attention_backward_in<boot::team_device, T>(
      dev, pieces,
      {x.in().data(), x.in().data(), x.in().data(), nullptr, lse.in().data(), dout.in().data(), dx.numbers.data(),
       dx.numbers.data(), dx.numbers.data(), accumulate, true, true});
  const auto hx = in(x.host, s.q());
  boot::attention_forward(host, hx, hx, hx, nullptr, 1, out(y.host, s.q()), lse.host.data());
  boot::attention_backward(host, hx, hx, hx, nullptr, 1, in(y.host, s.q()), lse.host.data(), in(dout.host, s.q()),
                           out(dx.host, s.q()), out(dx.host, s.q()), out(dx.host, s.q()), accumulate, true, true);
  CHECK(dx.error() <= team_tolerance<T>(50));
}

TEST_CASE("team attention: large scores neither overflow nor lose the softmax, a NaN is not lost", "[nn][team]") {
  const boot::shape s{1, 4, 2}, t{1, 400, 2};
  team_array<float> q(s, 1), k(t, 2), v(t, 3), y(s, 4), lse({1, 4}, 5);
  for (auto* a : {&q, &k})
    for (std::size_t i = 0; i < a->host.size(); ++i) {
      a->numbers.data()[i] *= 3000;
      a->host[i] = static_cast<double>(a->numbers.data()[i]);
    }
  const auto forward = [&] {
    boot::attention_forward(dev, q.in(), k.in(), v.in(), nullptr, 1, y.numbers, lse.numbers.data());
    return boot::to_host(dev, y.in());
  };
  static_cast<void>(forward());
  boot::attention_forward(host, in(q.host, s), in(k.host, t), in(v.host, t), nullptr, 1, out(y.host, s),
                          lse.host.data());
  CHECK(y.error() <= 1e-5);
  k.numbers.data()[7] = std::numeric_limits<float>::quiet_NaN();
  for (const float x : forward()) CHECK(std::isnan(x));
  for (const float x : boot::to_host(dev, lse.in())) CHECK(std::isnan(x));
}

TEST_CASE("team attention of no sample", "[nn][team]") {
  team_array<float> none({0, 3, 4}, 1), one({1, 3, 4}, 2), lse({1, 3}, 3);
  boot::attention_forward(dev, none.in(), none.in(), none.in(), nullptr, 2, none.numbers, lse.numbers.data());
  boot::attention_backward(dev, none.in(), none.in(), none.in(), nullptr, 2, none.in(), lse.in().data(), none.in(),
                           none.numbers, none.numbers, none.numbers, false, true, true);
  boot::attention_backward(dev, none.in(), one.in(), one.in(), nullptr, 2, none.in(), lse.in().data(), none.in(),
                           none.numbers, one.numbers, {}, false, true, false);
  CHECK(one.error() == 0);
  std::fill(one.host.begin(), one.host.end(), 0.0);
  boot::attention_backward(dev, none.in(), one.in(), one.in(), nullptr, 2, none.in(), lse.in().data(), none.in(),
                           none.numbers, one.numbers, {}, false, false, false);
  CHECK(one.error() == 0);
}
