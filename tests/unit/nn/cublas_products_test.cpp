// SPDX-License-Identifier: MIT
// cuBLASLt products: the column-major mapping by a host emulation; on a device against float64 loops.
#include "products_cases.hpp"
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/nn/cuda/products.hpp>
#include <boot/tensor/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace {

using namespace products_test;

const std::vector<problem> problems{{3, 5, 7, false, false}, {3, 5, 7, true, false},     {3, 5, 7, false, true},
                                    {3, 5, 7, true, true},   {1, 1, 1, false, false},    {1, 9, 4, false, true},
                                    {8, 1, 3, true, false},  {4, 6, 2, false, false, 3}, {4, 6, 2, true, true, 5}};

// What the library computes: D = op(A) op(B), column-major, each operand with its own leading dimension.
std::vector<float> column_major(const boot::detail::cublas_product& p, const float* a, const float* b,
                                std::int64_t size) {
  std::vector<float> d(static_cast<std::size_t>(size), -77.0f);
  const auto at = [](const boot::detail::cublas_matrix& m, const float* v, std::int64_t i, std::int64_t j) {
    if (m.transposed) std::swap(i, j);
    REQUIRE(i < m.rows);
    REQUIRE(j < m.columns);
    REQUIRE(m.ld >= m.rows);
    return v[j * m.ld + i];
  };
  for (std::int64_t j = 0; j < p.d.columns; ++j)
    for (std::int64_t i = 0; i < p.d.rows; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < p.k(); ++l)
        sum += static_cast<double>(at(p.a, a, i, l)) * static_cast<double>(at(p.b, b, l, j));
      d[static_cast<std::size_t>(j * p.d.ld + i)] = static_cast<float>(sum);
    }
  return d;
}

}  // namespace

TEST_CASE("a row-major product as the library's column-major one", "[nn][cuda]") {
  const std::uint64_t seed = std::random_device{}();
  for (const problem& p : problems) {
    CAPTURE(seed, p.m, p.n, p.k, p.transpose_a, p.transpose_b, p.extra);
    const auto a = fresh_floats(p.size_a(), seed), b = fresh_floats(p.size_b(), seed + 1);
    const auto mapped =
        boot::detail::cublas_from_rows(p.m, p.n, p.k, p.lda(), p.transpose_a, p.ldb(), p.transpose_b, p.ldc());
    CHECK(mapped.k() == p.k);
    const auto c = column_major(mapped, b.data(), a.data(), p.size_c());
    for (std::int64_t i = 0; i < p.m; ++i)
      for (std::int64_t j = 0; j < p.ldc(); ++j) {
        const float found = c[static_cast<std::size_t>(i * p.ldc() + j)];
        if (j < p.n) {
          REQUIRE(found == Catch::Approx(p.at(a.data(), b.data(), i, j)).epsilon(1e-6).margin(1e-6));
        } else {
          REQUIRE(found == -77.0f);
        }
      }
  }
}

TEST_CASE("a matrix tells the library how its memory is aligned", "[nn][cuda]") {
  alignas(64) const float memory[64] = {};
  const auto alignment = [](const auto* p, std::int64_t stride) {
    boot::detail::cublas_matrix m;
    boot::detail::set_memory(m, p, stride);
    return m.alignment;
  };
  CHECK(alignment(memory, 0) == 16);
  CHECK(alignment(memory + 4, 0) == 16);
  CHECK(alignment(memory + 2, 0) == 8);
  CHECK(alignment(memory + 1, 0) == 4);
  CHECK(alignment(memory, 6) == 8);
  CHECK(alignment(memory, 7) == 4);
  CHECK(alignment(reinterpret_cast<const boot::bf16*>(memory) + 1, 0) == 2);
}

TEST_CASE("without a device a product says so", "[nn][cuda]") {
  if (boot::cuda_device_count() > 0) SKIP("this machine has a device");
  const boot::view<const float, boot::cuda> x{nullptr, {2, 3}}, w{nullptr, {4, 3}};
  CHECK_THROWS_WITH(boot::linear_forward(boot::cuda{}, x, w, nullptr, boot::view<float, boot::cuda>{nullptr, {2, 4}}),
                    Catch::Matchers::ContainsSubstring("boot: CUDA: no device"));
}

TEST_CASE("products of float on a device against float64", "[nn][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const std::uint64_t seed = std::random_device{}();
  std::vector<problem> all = problems;
  all.push_back({130, 257, 511, false, true});
  all.push_back({257, 130, 300, true, false});
  for (const problem& p : all)
    for (const std::int64_t batch : {1, 3})
      for (const std::int64_t offset : {0, 1})  // numbers before the operands: not aligned
        for (const float beta : {0.0f, 1.0f, -0.5f}) {
          CAPTURE(seed, p.m, p.n, p.k, p.transpose_a, p.transpose_b, p.extra, batch, offset, beta);
          const auto a = fresh_floats(offset + batch * p.size_a(), seed);
          const auto b = fresh_floats(offset + batch * p.size_b(), seed + 1);
          const auto before = fresh_floats(offset + batch * p.size_c(), seed + 2);
          const auto device_a = boot::tensor_of<float>(dev, std::span<const float>(a), {std::ssize(a)});
          const auto device_b = boot::tensor_of<float>(dev, std::span<const float>(b), {std::ssize(b)});
          auto device_c = boot::tensor_of<float>(dev, std::span<const float>(before), {std::ssize(before)});
          boot::batched_product(dev, batch, p.m, p.n, p.k, 1.5f, device_a.data() + offset, p.lda(), p.size_a(),
                                p.transpose_a, device_b.data() + offset, p.ldb(), p.size_b(), p.transpose_b, beta,
                                device_c.data() + offset, p.ldc(), p.size_c());
          const auto c = boot::to_host(dev, boot::view<const float, boot::cuda>(device_c));
          double worst = 0;
          for (std::int64_t s = 0; s < batch; ++s)
            for (std::int64_t i = 0; i < p.m; ++i)
              for (std::int64_t j = 0; j < p.ldc(); ++j) {
                const auto at = static_cast<std::size_t>(offset + s * p.size_c() + i * p.ldc() + j);
                const double was = static_cast<double>(before[at]);
                const double wanted = j >= p.n ? was
                                               : 1.5 * p.at(a.data() + offset + s * p.size_a(),
                                                            b.data() + offset + s * p.size_b(), i, j) +
                                                     static_cast<double>(beta) * was;
                worst = std::max(worst, std::abs(static_cast<double>(c[at]) - wanted));
              }
          CHECK(worst < 2e-6 * std::sqrt(static_cast<double>(p.k)) * 4);
        }
}

TEST_CASE("a dense layer and its gradients on a device, twice with the same bits", "[nn][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const std::uint64_t seed = std::random_device{}();
  const std::int64_t rows = 77, in = 33, out = 65;
  CAPTURE(seed);
  const auto x = fresh_floats(rows * in, seed), w = fresh_floats(out * in, seed + 1),
             bias = fresh_floats(out, seed + 2), dy = fresh_floats(rows * out, seed + 3);
  const auto upload = [&](const std::vector<float>& v, boot::shape s) {
    return boot::tensor_of<float>(dev, std::span<const float>(v), s);
  };
  const auto dx_ = upload(x, {rows, in}), dw_ = upload(w, {out, in}), db_ = upload(bias, {out}),
             dg_ = upload(dy, {rows, out});
  using in_view = boot::view<const float, boot::cuda>;
  const auto run = [&] {
    boot::tensor<float, boot::cuda> y(dev, {rows, out}), gx(dev, {rows, in}), gw(dev, {out, in});
    boot::linear_forward(dev, in_view(dx_), in_view(dw_), db_.data(), boot::view<float, boot::cuda>(y));
    boot::linear_input_gradient(dev, in_view(dg_), in_view(dw_), boot::view<float, boot::cuda>(gx), false);
    boot::linear_weight_gradient(dev, in_view(dg_), in_view(dx_), boot::view<float, boot::cuda>(gw), false);
    boot::linear_weight_gradient(dev, in_view(dg_), in_view(dx_), boot::view<float, boot::cuda>(gw), true);
    return std::vector{boot::to_host(dev, in_view(y)), boot::to_host(dev, in_view(gx)),
                       boot::to_host(dev, in_view(gw))};
  };
  const auto first = run();
  CHECK(first == run());
  const problem forward{rows, out, in, false, true}, back{rows, in, out, false, false},
      weight{out, in, rows, true, false};
  double worst = 0;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < out; ++j)
      worst = std::max(worst, std::abs(static_cast<double>(first[0][static_cast<std::size_t>(i * out + j)]) -
                                       forward.at(x.data(), w.data(), i, j) -
                                       static_cast<double>(bias[static_cast<std::size_t>(j)])));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < in; ++j)
      worst = std::max(worst, std::abs(static_cast<double>(first[1][static_cast<std::size_t>(i * in + j)]) -
                                       back.at(dy.data(), w.data(), i, j)));
  for (std::int64_t i = 0; i < out; ++i)
    for (std::int64_t j = 0; j < in; ++j)
      worst = std::max(worst, std::abs(static_cast<double>(first[2][static_cast<std::size_t>(i * in + j)]) -
                                       2 * weight.at(dy.data(), x.data(), i, j)));
  CHECK(worst < 1e-4);
}
