// SPDX-License-Identifier: MIT
/// Modulation, gates and the layer norm without weights as team kernels on the host device, against boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/modulate.hpp>
#include <boot/nn/team/modulate.hpp>

namespace {
using boot::testing::in;
using boot::testing::out;
using boot::testing::team_array;
using boot::testing::team_tolerance;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void modulated(std::int64_t batch, std::int64_t positions, std::int64_t c, bool shared, std::int64_t shift,
               bool accumulate) {
  CAPTURE(batch, positions, c, shared, shift, accumulate, sizeof(T));
  const boot::shape s{batch, positions, c}, e{shared ? 1 : batch, c};
  const team_array<T> x(s, 1, shift), h(s, 2, shift), dy(s, 3, shift), a(e, 4, shift), b(e, 5, shift);
  team_array<T> y(s, 6, shift), gated(s, 7, shift), dx(s, 8, shift), dh(s, 9, shift), da(e, 10, shift),
      db(e, 11, shift);
  y.poison(), gated.poison();
  if (!accumulate) dx.poison(), dh.poison(), da.poison(), db.poison();
  boot::modulate_forward(dev, x.in(), a.in(), b.in(), y.numbers);
  boot::gate_add_forward(dev, x.in(), h.in(), a.in(), gated.numbers);
  boot::modulate_input_gradient(dev, dy.in(), a.in(), {1}, dx.numbers, accumulate);
  boot::modulate_input_gradient(dev, dy.in(), a.in(), {0}, dh.numbers, accumulate);
  boot::modulate_factor_gradient(dev, dy.in(), x.in(), da.numbers, accumulate);
  boot::modulate_factor_gradient(dev, dy.in(), {}, db.numbers, accumulate);
  const auto hx = in(x.host, s), hh = in(h.host, s), hdy = in(dy.host, s), ha = in(a.host, e), hb = in(b.host, e);
  boot::modulate_forward(host, hx, ha, hb, out(y.host, s));
  boot::gate_add_forward(host, hx, hh, ha, out(gated.host, s));
  boot::modulate_input_gradient(host, hdy, ha, 1.0, out(dx.host, s), accumulate);
  boot::modulate_input_gradient(host, hdy, ha, 0.0, out(dh.host, s), accumulate);
  boot::modulate_factor_gradient(host, hdy, hx, out(da.host, e), accumulate);
  boot::modulate_factor_gradient(host, hdy, {}, out(db.host, e), accumulate);
  CHECK(y.error() <= team_tolerance<T>());
  CHECK(gated.error() <= team_tolerance<T>());
  CHECK(dx.error() <= team_tolerance<T>());
  CHECK(dh.error() <= team_tolerance<T>());
  CHECK(da.error() <= team_tolerance<T>(5));
  CHECK(db.error() <= team_tolerance<T>(5));
}

template <class T>
void normalised(std::int64_t rows, std::int64_t n, std::int64_t shift, bool accumulate, double offset = 0) {
  using C = boot::compute_type<T>;
  CAPTURE(rows, n, shift, accumulate, offset, sizeof(T));
  const boot::shape s{rows, n};
  team_array<T> x(s, 1, shift);
  const team_array<T> dy(s, 2, shift);
  for (std::size_t i = 0; i < x.host.size(); ++i) {
    boot::store(x.numbers.data()[i], static_cast<C>(x.host[i] + offset));
    x.host[i] = static_cast<double>(static_cast<C>(x.numbers.data()[i]));
  }
  team_array<T> y(s, 3, shift), plain(s, 3, shift), dx(s, 4, shift);
  team_array<C> rstd({rows}, 5);
  y.poison(), plain.poison(), rstd.poison();
  if (!accumulate) dx.poison();
  boot::normalise_forward(dev, x.in(), 1e-3, y.numbers, rstd.numbers.data());
  boot::normalise_forward(dev, x.in(), 1e-3, plain.numbers, static_cast<C*>(nullptr));
  boot::normalise_forward(host, in(x.host, s), 1e-3, out(y.host, s), rstd.host.data());
  plain.host = y.host;
  CHECK(y.error() <= team_tolerance<T>(offset > 0 ? 200 : 5));
  CHECK(plain.error() == y.error());
  CHECK(rstd.error() <= team_tolerance<C>(offset > 0 ? 200 : 5));
  // The backward pass reads the result as it is stored.
  for (std::size_t i = 0; i < y.host.size(); ++i) y.host[i] = static_cast<double>(static_cast<C>(y.numbers.data()[i]));
  boot::normalise_backward(dev, y.in(), rstd.in().data(), dy.in(), dx.numbers, accumulate);
  boot::normalise_backward(host, in(y.host, s), rstd.host.data(), in(dy.host, s), out(dx.host, s), accumulate);
  CHECK(dx.error() <= team_tolerance<T>(offset > 0 ? 200 : 20));
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of modulation are the host's loops", "[nn][team]", float, double, boot::bf16) {
  const bool accumulate = GENERATE(false, true);
  modulated<TestType>(1, 1, 1, false, 0, accumulate);
  modulated<TestType>(3, 5, 7, false, 1, accumulate);
  modulated<TestType>(3, 5, 8, true, 0, accumulate);
  modulated<TestType>(2, 9, 257, false, 0, accumulate);
  modulated<TestType>(2, 3, 256, false, 1, accumulate);
  modulated<TestType>(1, 300, 16, true, 0, accumulate);
}

TEST_CASE("sums of modulation's team kernels in two stages", "[nn][team]") {
  modulated<float>(2, 4200, 1, false, 0, true);
  modulated<boot::bf16>(3, 700, 8, true, 0, false);
}

TEST_CASE("team kernels of modulation of nothing", "[nn][team]") {
  team_array<float> none({0, 3, 4}, 1), row({1, 4}, 2), no_row({0, 4}, 3);
  boot::modulate_forward(dev, none.in(), no_row.in(), no_row.in(), none.numbers);
  boot::modulate_forward(dev, none.in(), row.in(), row.in(), none.numbers);
  boot::modulate_factor_gradient(dev, none.in(), none.in(), no_row.numbers, false);
  boot::modulate_factor_gradient(dev, none.in(), none.in(), row.numbers, true);
  CHECK(row.error() == 0);
  boot::modulate_factor_gradient(dev, none.in(), none.in(), row.numbers, false);
  row.host.assign(4, 0.0);
  CHECK(row.error() == 0);
}

TEMPLATE_TEST_CASE("Team kernels of the layer norm without weights are the host's loops", "[nn][team]", float, double,
                   boot::bf16) {
  const bool accumulate = GENERATE(false, true);
  normalised<TestType>(1, 2, 0, accumulate);
  normalised<TestType>(3, 3, 1, accumulate);
  normalised<TestType>(5, 127, 0, accumulate);
  normalised<TestType>(9, 256, 0, accumulate);
  normalised<TestType>(3, 257, 1, accumulate);
  normalised<TestType>(2, 1152, 0, accumulate);
}

TEST_CASE("a large mean costs the team kernels of layer norm few digits", "[nn][team]") {
  normalised<float>(4, 200, 0, false, 1000);
}
