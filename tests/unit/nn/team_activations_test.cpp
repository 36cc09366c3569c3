// SPDX-License-Identifier: MIT
/// Activations as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/activations.hpp>
#include <boot/nn/team/activations.hpp>

namespace {
using boot::testing::in;
using boot::testing::out;
using boot::testing::team_array;
using boot::testing::team_tolerance;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void element_wise(std::int64_t n, std::int64_t shift, bool accumulate) {
  CAPTURE(n, shift, accumulate, sizeof(T));
  const team_array<T> x({n}, 1, shift), dy({n}, 2, shift);
  team_array<T> y({n}, 3, shift), dx({n}, 4, shift);
  const auto hx = in(x.host, {n}), hdy = in(dy.host, {n});
  y.poison();
  boot::gelu_forward(dev, x.in(), y.numbers);
  boot::gelu_forward(host, hx, out(y.host, {n}));
  CHECK(y.error() <= team_tolerance<T>());
  y.poison();
  boot::gelu_tanh_forward(dev, x.in(), y.numbers);
  boot::gelu_tanh_forward(host, hx, out(y.host, {n}));
  CHECK(y.error() <= team_tolerance<T>());
  if (!accumulate) dx.poison();
  boot::gelu_backward(dev, x.in(), dy.in(), dx.numbers, accumulate);
  boot::gelu_backward(host, hx, hdy, out(dx.host, {n}), accumulate);
  CHECK(dx.error() <= team_tolerance<T>(2));
  if (!accumulate) dx.poison();
  boot::gelu_tanh_backward(dev, x.in(), dy.in(), dx.numbers, accumulate);
  boot::gelu_tanh_backward(host, hx, hdy, out(dx.host, {n}), accumulate);
  CHECK(dx.error() <= team_tolerance<T>(3));
}

template <class T>
void geglu(std::int64_t rows, std::int64_t n, std::int64_t shift, bool accumulate) {
  CAPTURE(rows, n, shift, accumulate, sizeof(T));
  const boot::shape narrow{rows, n}, wide{rows, 2 * n};
  const team_array<T> x(wide, 1, shift), dy(narrow, 2, shift);
  team_array<T> y(narrow, 3, shift), dx(wide, 4, shift);
  y.poison();
  boot::geglu_forward(dev, x.in(), y.numbers);
  boot::geglu_forward(host, in(x.host, wide), out(y.host, narrow));
  CHECK(y.error() <= team_tolerance<T>());
  if (!accumulate) dx.poison();
  boot::geglu_backward(dev, x.in(), dy.in(), dx.numbers, accumulate);
  boot::geglu_backward(host, in(x.host, wide), in(dy.host, narrow), out(dx.host, wide), accumulate);
  CHECK(dx.error() <= team_tolerance<T>(2));
}

template <class T>
void channels(std::int64_t batch, std::int64_t positions, std::int64_t n, bool shared, bool accumulate) {
  CAPTURE(batch, positions, n, shared, accumulate, sizeof(T));
  const boot::shape s{batch, positions, n}, row{shared ? 1 : batch, n};
  const team_array<T> x(s, 1), e(row, 2);
  team_array<T> y(s, 3), sums(row, 4);
  y.poison();
  boot::add_channels_forward(dev, x.in(), e.in(), y.numbers);
  boot::add_channels_forward(host, in(x.host, s), in(e.host, row), out(y.host, s));
  CHECK(y.error() <= team_tolerance<T>());
  if (!accumulate) sums.poison();
  boot::channel_sums(dev, x.in(), sums.numbers, accumulate);
  boot::channel_sums(host, in(x.host, s), out(sums.host, row), accumulate);
  CHECK(sums.error() <= team_tolerance<T>(10));
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of GELU are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const std::int64_t n : {1, 257, 1030})
    for (const std::int64_t shift : {0, 1}) element_wise<TestType>(n, shift, (n + shift) % 2 == 0);
}

TEST_CASE("Team kernels of GELU keep their limits", "[nn][team]") {
  team_array<float> x({6}, 1), y({6}, 2), ones({6}, 3);
  const float ends[6] = {HUGE_VALF, -HUGE_VALF, 1e30f, -1e30f, 0, NAN};
  for (int i = 0; i < 6; ++i) x.numbers.data()[i] = ends[i], ones.numbers.data()[i] = 1;
  const auto check = [&](double top, double big) {
    const float* r = y.numbers.data();
    CHECK(static_cast<double>(r[0]) == top);
    CHECK(r[1] == 0);
    CHECK(static_cast<double>(r[2]) == big);
    CHECK(r[3] == 0);
    CHECK(std::isnan(r[5]));
  };
  boot::gelu_forward(dev, x.in(), y.numbers);
  check(HUGE_VAL, static_cast<double>(1e30f));
  boot::gelu_tanh_forward(dev, x.in(), y.numbers);
  check(HUGE_VAL, static_cast<double>(1e30f));
  boot::gelu_backward(dev, x.in(), ones.in(), y.numbers, false);
  check(1, 1);
  boot::gelu_tanh_backward(dev, x.in(), ones.in(), y.numbers, false);
  check(1, 1);
}

TEMPLATE_TEST_CASE("Team kernels of GEGLU are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const bool accumulate : {false, true}) {
    geglu<TestType>(1, 1, 0, accumulate);
    geglu<TestType>(5, 64, 0, accumulate);
    geglu<TestType>(7, 33, 1, accumulate);
    geglu<TestType>(2, 520, 0, accumulate);
  }
}

TEMPLATE_TEST_CASE("Team kernels of channels are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const bool shared : {false, true}) {
    channels<TestType>(1, 1, 1, shared, false);
    channels<TestType>(3, 25, 3, shared, true);
    channels<TestType>(2, 16, 136, shared, false);
  }
  channels<TestType>(2, 300, 128, false, true);  // several slices of positions
}

TEMPLATE_TEST_CASE("Team kernels of Fourier features are the host's loops", "[nn][team]", float, double) {
  using T = TestType;
  for (const bool logarithm : {false, true}) {
    const std::int64_t rows = 3, n = 70;
    const team_array<T> w({n}, 1);
    const std::vector<T> input{T(0.002), T(1), T(80)};
    const std::vector<double> exact(input.begin(), input.end());
    team_array<T> y({rows, 2 * n}, 2, 1);
    y.poison();
    boot::fourier_features(dev, boot::testing::on_device(input).data(), rows, w.in(), logarithm, logarithm, y.numbers);
    boot::fourier_features(host, exact.data(), rows, in(w.host, {n}), logarithm, logarithm, out(y.host, {rows, 2 * n}));
    CHECK(y.error() <= team_tolerance<T>());
  }
}

TEST_CASE("Fourier features of the logarithm of what has none are NaN", "[nn][team]") {
  const team_array<float> w({4}, 1);
  team_array<float> y({3, 8}, 2);
  const auto input = boot::testing::on_device(std::vector<float>{0, -1, 1});
  boot::fourier_features(dev, input.data(), 3, w.in(), true, false, y.numbers);
  for (int i = 0; i < 24; ++i) CHECK(std::isnan(y.numbers.data()[i]) == (i < 16));
}
