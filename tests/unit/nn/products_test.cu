// SPDX-License-Identifier: MIT
// Products in bf16 on a device against float64. What converts between types needs kernels, so this is no host code.
#include "products_cases.hpp"
#include "support/catch.hpp"

#include <boot/core/scalar.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot_cuda.cuh>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

namespace {
using namespace products_test;
}

TEST_CASE("a dense layer in bf16 on a device: any width, either bias, timed or not", "[nn][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  boot::cuda dev = stream.device();
  dev.autotune = GENERATE(0, 10);
  const std::int64_t rows = GENERATE(1, 77), in = GENERATE(7, 12, 64), out = GENERATE(12, 7, 65);
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed, dev.autotune, rows, in, out);
  const auto narrow = [&](std::int64_t n, std::uint64_t which) {
    std::vector<boot::bf16> v;
    for (const float x : fresh_floats(n, seed + which)) v.emplace_back(x);
    return v;
  };
  const auto x = narrow(rows * in, 0), w = narrow(out * in, 1), bias = narrow(out, 2), dy = narrow(rows * out, 3);
  std::vector<float> wide_bias;
  for (const boot::bf16 b : bias) wide_bias.push_back(static_cast<float>(b));
  const auto upload = [&](const auto& v, boot::shape s) {
    using T = typename std::remove_cvref_t<decltype(v)>::value_type;
    return boot::tensor_of<T>(dev, std::span<const T>(v), s);
  };
  const auto tx = upload(x, {rows, in}), tw = upload(w, {out, in}), tb = upload(bias, {out}),
             tg = upload(dy, {rows, out});
  const auto tw32 = upload(wide_bias, {out});
  using in_view = boot::view<const boot::bf16, boot::cuda>;
  using out_view = boot::view<boot::bf16, boot::cuda>;
  boot::tensor<boot::bf16, boot::cuda> y(dev, {rows, out}), gx(dev, {rows, in});
  boot::tensor<float, boot::cuda> gw(dev, {out, in});
  const problem forward{rows, out, in, false, true}, back{rows, in, out, false, false},
      weight{out, in, rows, true, false};
  const auto check = [](const auto& got, std::int64_t m, std::int64_t n, const auto& wanted, double part) {
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        const double want = wanted(i, j);
        const double have = static_cast<double>(static_cast<float>(got[static_cast<std::size_t>(i * n + j)]));
        worst = std::max(worst, std::abs(have - want) / (1 + std::abs(want)));
      }
    CHECK(worst <= part);
  };
  const auto with_bias = [&](std::int64_t i, std::int64_t j) {
    return forward.at(x.data(), w.data(), i, j) + static_cast<double>(wide_bias[static_cast<std::size_t>(j)]);
  };
  boot::linear_forward(dev, in_view(tx), in_view(tw), tw32.data(), out_view(y));
  check(boot::to_host(dev, in_view(y)), rows, out, with_bias, 5e-3);  // one rounding to 8 bits
  boot::linear_forward(dev, in_view(tx), in_view(tw), tb.data(), out_view(y));
  check(boot::to_host(dev, in_view(y)), rows, out, with_bias, 5e-3);
  boot::linear_input_gradient(dev, in_view(tg), in_view(tw), out_view(gx), false);
  check(
      boot::to_host(dev, in_view(gx)), rows, in,
      [&](std::int64_t i, std::int64_t j) { return back.at(dy.data(), w.data(), i, j); }, 5e-3);
  boot::linear_weight_gradient(dev, in_view(tg), in_view(tx), boot::view<float, boot::cuda>(gw), false);
  boot::linear_weight_gradient(dev, in_view(tg), in_view(tx), boot::view<float, boot::cuda>(gw), true);
  check(
      boot::to_host(dev, boot::view<const float, boot::cuda>(gw)), out, in,
      [&](std::int64_t i, std::int64_t j) { return 2 * weight.at(dy.data(), x.data(), i, j); }, 1e-5);
}
