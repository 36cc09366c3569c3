// SPDX-License-Identifier: MIT
/// Network operations as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/team/operations.hpp>

#include <limits>

namespace {
using boot::testing::team_array;
using boot::testing::team_tolerance;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void element_wise(std::int64_t n, std::int64_t shift, bool accumulate) {
  const team_array<T> x({n}, 1, shift), dy({n}, 2, shift);
  team_array<T> y({n}, 3, shift);
  const auto hx = boot::testing::in(x.host, {n}), hdy = boot::testing::in(dy.host, {n});
  CAPTURE(n, shift, accumulate, sizeof(T));

  if (!accumulate) y.poison();
  boot::silu_backward(dev, x.in(), dy.in(), y.numbers, accumulate);
  boot::silu_backward(host, hx, hdy, boot::testing::out(y.host, {n}), accumulate);
  CHECK(y.error() <= team_tolerance<T>());

  team_array<T> z({n}, 4, shift);
  if (!accumulate) z.poison();
  boot::add_to(dev, x.in(), z.numbers, accumulate);
  boot::add_to(host, hx, boot::testing::out(z.host, {n}), accumulate);
  CHECK(z.error() <= team_tolerance<T>());

  z.poison();
  boot::silu_forward(dev, x.in(), z.numbers);
  boot::silu_forward(host, hx, boot::testing::out(z.host, {n}));
  CHECK(z.error() <= team_tolerance<T>());

  z.poison();
  boot::add_forward(dev, x.in(), dy.in(), z.numbers);
  boot::add_forward(host, hx, hdy, boot::testing::out(z.host, {n}));
  CHECK(z.error() <= team_tolerance<T>());
}

template <class T>
void by_rows(std::int64_t rows, std::int64_t n, std::int64_t shift, bool accumulate) {
  const team_array<T> x({rows, n}, 1, shift), b({1, n}, 2, shift), s({rows}, 3);
  team_array<T> y({rows, n}, 4, shift);
  const auto hx = boot::testing::in(x.host, {rows, n});
  CAPTURE(rows, n, shift, accumulate, sizeof(T));

  if (!accumulate) y.poison();
  boot::scale_rows(dev, x.in(), s.in().data(), y.numbers, accumulate);
  boot::scale_rows(host, hx, s.host.data(), boot::testing::out(y.host, {rows, n}), accumulate);
  CHECK(y.error() <= team_tolerance<T>());

  y.poison();
  boot::add_forward(dev, x.in(), b.in(), y.numbers);
  boot::add_forward(host, hx, boot::testing::in(b.host, {1, n}), boot::testing::out(y.host, {rows, n}));
  CHECK(y.error() <= team_tolerance<T>());

  // A bias in full, whatever the rows are stored in; with another array as well.
  const team_array<T> other({rows, n}, 8, shift);
  const team_array<boot::compute_type<T>> bias({n}, 9, shift);
  const auto hother = boot::testing::in(other.host, {rows, n});
  y.poison();
  boot::add_bias_forward(dev, x.in(), bias.in().data(), y.numbers);
  boot::add_bias_forward(host, hx, bias.host.data(), boot::testing::out(y.host, {rows, n}));
  CHECK(y.error() <= team_tolerance<T>());
  y.poison();
  boot::add_bias_forward(dev, x.in(), other.in(), bias.in().data(), y.numbers);
  boot::add_bias_forward(host, hx, hother, bias.host.data(), boot::testing::out(y.host, {rows, n}));
  CHECK(y.error() <= team_tolerance<T>());

  // Into the middle of wider rows: what lies beside stays.
  const std::int64_t wide = n + 8;
  team_array<T> z({rows, wide}, 5, shift);
  boot::copy_columns(dev, x.in().data(), n, z.numbers.data() + 3, wide, rows, n, accumulate);
  boot::copy_columns(host, x.host.data(), n, z.host.data() + 3, wide, rows, n, accumulate);
  CHECK(z.error() <= team_tolerance<T>());

  team_array<T> sums({n}, 6, shift);
  if (!accumulate) sums.poison();
  boot::column_sums(dev, x.in(), n, sums.numbers.data(), accumulate);
  boot::column_sums(host, hx, n, sums.host.data(), accumulate);
  CHECK(sums.error() <= team_tolerance<T>(8));

  // The same into an array of the type it is summed in: nothing is rounded but by the sum.
  team_array<boot::compute_type<T>> full({n}, 7, shift);
  if (!accumulate) full.poison();
  boot::column_sums(dev, x.in(), n, full.numbers.data(), accumulate);
  boot::column_sums(host, hx, n, full.host.data(), accumulate);
  CHECK(full.error() <= team_tolerance<boot::compute_type<T>>(8));
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of single elements are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const std::int64_t n : {1, 7, 255, 256, 257, 2051})
    for (const std::int64_t shift : {0, 1}) element_wise<TestType>(n, shift, (n + shift) % 2 == 0);
}

TEMPLATE_TEST_CASE("Team kernels of rows and columns are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const bool accumulate : {false, true}) {
    by_rows<TestType>(1, 1, 0, accumulate);
    by_rows<TestType>(5, 64, 0, accumulate);
    by_rows<TestType>(33, 24, 1, accumulate);
    by_rows<TestType>(3, 257, 0, accumulate);
    by_rows<TestType>(2, 1025, 1, accumulate);
  }
  by_rows<TestType>(301, 128, 0, true);
  by_rows<TestType>(9001, 3, 0, false);  // several slices of rows
}

TEST_CASE("Columns are copied in 16-byte groups or one by one with the same bits", "[nn][team]") {
  const std::int64_t rows = 3, n = 64;
  team_array<float> x({rows, n}, 1), a({rows, n}, 2), b({rows, n}, 2, 1);
  boot::copy_columns(dev, x.in().data(), n, a.numbers.data(), n, rows, n, true);
  boot::copy_columns(dev, x.in().data(), n, b.numbers.data(), n, rows, n, true);
  CHECK(to_host(dev, a.in()) == to_host(dev, b.in()));
}

TEST_CASE("Column sums of no rows are zero", "[nn][team]") {
  team_array<float> x({0, 5}, 1), sums({5}, 2);
  boot::column_sums(dev, x.in(), 5, sums.numbers.data(), true);
  CHECK(sums.error() == 0);
  boot::column_sums(dev, x.in(), 5, sums.numbers.data(), false);
  CHECK(to_host(dev, sums.in()) == std::vector<float>(5, 0.f));
}

TEST_CASE("Team kernels convert to bf16 and back with the host's bits", "[nn][team]") {
  for (const std::int64_t n : {1, 8, 515}) {
    team_array<float> x({n}, 1), back({n}, 2), rounded({n}, 3);
    team_array<boot::bf16> narrow({n}, 4);
    x.numbers.data()[0] = std::numeric_limits<float>::infinity();
    std::vector<boot::bf16> host_narrow(static_cast<std::size_t>(n));
    std::vector<float> host_back(host_narrow.size());
    boot::convert(host, boot::view<const float, boot::cpu>(x.numbers.data(), {n}),
                  boot::view<boot::bf16, boot::cpu>(host_narrow.data(), {n}));
    boot::convert(host, boot::view<const boot::bf16, boot::cpu>(host_narrow.data(), {n}),
                  boot::testing::out(host_back, {n}));
    boot::convert(dev, x.in(), narrow.numbers);
    boot::convert(dev, narrow.in(), back.numbers);
    CHECK(to_host(dev, back.in()) == host_back);
    boot::round_to<boot::bf16>(dev, x.in(), rounded.numbers);
    CHECK(to_host(dev, rounded.in()) == host_back);
    boot::round_to<boot::bf16>(dev, x.numbers);
    CHECK(to_host(dev, x.in()) == host_back);
  }
}
