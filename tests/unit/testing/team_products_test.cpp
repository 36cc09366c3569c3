// SPDX-License-Identifier: MIT
/// Products of the test device: batched_product() against a sum written out; convolutions against boot::cpu.
#include "support/catch.hpp"

#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_products.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

std::vector<double> waves(std::int64_t n, double f) {
  std::vector<double> x(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = std::sin(f * static_cast<double>(i + 1));
  return x;
}

}  // namespace

TEST_CASE("batched_product of the test device: transposes, strides, alpha and beta", "[testing][team_products]") {
  constexpr std::int64_t batch = 2, m = 3, n = 5, k = 4, ld = 7, apart = 40;
  const auto a = waves(2 * apart, 0.7), b = waves(2 * apart, 1.3), c = waves(2 * apart, 0.4);
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const double beta : {0.0, 0.5}) {
        auto got = c;
        if (beta == 0) got.assign(got.size(), NAN);
        boot::batched_product(boot::team_device{}, batch, m, n, k, 2.0, a.data(), ld, apart, ta, b.data(), ld, apart,
                              tb, beta, got.data(), ld, apart);
        for (std::int64_t i = 0; i < batch; ++i)
          for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (std::int64_t l = 0; l < k; ++l)
                sum += a[static_cast<std::size_t>(i * apart + (ta ? l * ld + r : r * ld + l))] *
                       b[static_cast<std::size_t>(i * apart + (tb ? j * ld + l : l * ld + j))];
              const auto at = static_cast<std::size_t>(i * apart + r * ld + j);
              CHECK(std::fabs(got[at] - (2 * sum + beta * c[at])) < 1e-13);
            }
      }
}

TEST_CASE("convolutions of the test device are those of boot::cpu", "[testing][team_products]") {
  using boot::cpu, boot::team_device, boot::view;
  const boot::shape sx{2, 5, 4, 3}, sw{6, 3, 3, 3}, sy{2, 5, 4, 6};
  const auto x = waves(sx.size(), 0.3), w = waves(sw.size(), 0.9), dy = waves(sy.size(), 0.5);
  std::vector<double> results[2][3];
  const auto all = [&]<class D>(const D& dev, std::vector<double>* to) {
    to[0].assign(dy.size(), NAN), to[1].assign(x.size(), 1.0), to[2].assign(w.size(), 1.0);
    const view<const double, D> vx(x.data(), sx), vw(w.data(), sw), vdy(dy.data(), sy);
    conv2d_forward(dev, vx, vw, static_cast<const double*>(nullptr), 1, 1, view<double, D>(to[0].data(), sy));
    conv2d_input_gradient(dev, vdy, vw, 1, 1, view<double, D>(to[1].data(), sx), true);
    conv2d_weight_gradient(dev, vdy, vx, 1, 1, view<double, D>(to[2].data(), sw), true);
  };
  all(cpu{1}, results[0]);
  all(team_device{}, results[1]);
  for (int i = 0; i < 3; ++i) CHECK(results[0][i] == results[1][i]);
}

TEST_CASE("a bias in bf16 is what it is in float", "[testing][team_products]") {
  using boot::bf16, boot::team_device, boot::view;
  constexpr std::int64_t rows = 3, in = 5, out = 7;
  const auto stored = [](std::int64_t n, double f) {
    std::vector<bf16> v;
    for (const double x : waves(n, f)) v.emplace_back(static_cast<float>(x));
    return v;
  };
  const auto x = stored(rows * in, 0.3), w = stored(out * in, 0.9), bias = stored(out, 0.5);
  std::vector<float> in_full;
  for (const bf16 b : bias) in_full.push_back(static_cast<float>(b));
  const view<const bf16, team_device> vx(x.data(), {rows, in}), vw(w.data(), {out, in});
  const auto result = [&](const auto* b) {
    std::vector<bf16> y(rows * out);
    boot::linear_forward(team_device{}, vx, vw, b, view<bf16, team_device>(y.data(), {rows, out}));
    std::vector<float> numbers;
    for (const bf16 v : y) numbers.push_back(static_cast<float>(v));
    return numbers;
  };
  CHECK(result(bias.data()) == result(in_full.data()));
  CHECK(result(static_cast<const bf16*>(nullptr)) == result(static_cast<const float*>(nullptr)));
  CHECK(result(bias.data()) != result(static_cast<const bf16*>(nullptr)));
}
