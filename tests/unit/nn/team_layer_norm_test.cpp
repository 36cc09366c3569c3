// SPDX-License-Identifier: MIT
/// Layer norm as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/team/layer_norm.hpp>

#include <cstring>

namespace {
using boot::testing::team_array;
using boot::testing::team_tolerance;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void norm(std::int64_t rows, std::int64_t n, std::int64_t shift, bool accumulate) {
  using C = boot::compute_type<T>;
  CAPTURE(rows, n, shift, accumulate, sizeof(T));
  const boot::shape s{rows, n};
  const team_array<T> x(s, 1, shift), dy(s, 4, shift);
  const team_array<C> w({n}, 2, shift), b({n}, 3, shift);
  team_array<T> y(s, 5, shift), dx(s, 6, shift);
  team_array<C> dw({n}, 7, shift), db({n}, 8, shift), saved({rows, 2}, 9);
  y.poison(), saved.poison();
  if (!accumulate) dx.poison();

  const auto hx = boot::testing::in(x.host, s), hdy = boot::testing::in(dy.host, s);
  boot::layer_norm_forward(dev, x.in(), w.in().data(), b.in().data(), 1e-3, y.numbers, saved.numbers.data(), n);
  boot::layer_norm_forward(host, hx, w.host.data(), b.host.data(), 1e-3, boot::testing::out(y.host, s),
                           saved.host.data(), n);
  CHECK(y.error() <= team_tolerance<T>(5));
  CHECK(saved.error() <= team_tolerance<C>(5));

  boot::layer_norm_backward(dev, x.in(), w.in().data(), saved.in().data(), dy.in(), dx.numbers, accumulate,
                            dw.numbers.data(), db.numbers.data(), n);
  boot::layer_norm_backward(host, hx, w.host.data(), saved.host.data(), hdy, boot::testing::out(dx.host, s), accumulate,
                            dw.host.data(), db.host.data(), n);
  CHECK(dx.error() <= team_tolerance<T>(20));
  CHECK(dw.error() <= team_tolerance<C>(20));
  CHECK(db.error() <= team_tolerance<C>(20));

  // Gradients nobody wants.
  const auto before = to_host(dev, db.in());
  boot::layer_norm_backward(dev, x.in(), w.in().data(), saved.in().data(), dy.in(), {}, false, dw.numbers.data(),
                            static_cast<C*>(nullptr), n);
  boot::layer_norm_backward(host, hx, w.host.data(), saved.host.data(), hdy, {}, false, dw.host.data(),
                            static_cast<double*>(nullptr), n);
  CHECK(dw.error() <= team_tolerance<C>(40));
  CHECK(std::memcmp(before.data(), db.numbers.data(), before.size() * sizeof(C)) == 0);
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of layer norm are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const bool accumulate : {false, true}) {
    norm<TestType>(1, 8, 0, accumulate);
    norm<TestType>(3, 3, 1, accumulate);
    norm<TestType>(5, 127, 0, accumulate);
    norm<TestType>(4, 256, 0, accumulate);
    norm<TestType>(3, 257, 1, accumulate);
  }
  norm<TestType>(300, 16, 0, false);
  norm<TestType>(2, 1152, 0, true);
}
