// SPDX-License-Identifier: MIT
/// The host's building blocks one by one: matrix products, noise, the fused loss, AdamW with its averages, activations.
#include <boot/bench/bench.hpp>
#include <boot/core/random.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/tensor.hpp>

#include <array>
#include <numeric>
#include <span>
#include <vector>

namespace {

using boot::cpu;
using boot::bench::axis;
using boot::bench::run_state;

constexpr double float_bytes = sizeof(float);

/// Normal numbers, so that no side meets denormals.
template <class T>
boot::tensor<T, cpu> numbers(const cpu& dev, std::int64_t n, std::int64_t which = 0) {
  boot::tensor<T, cpu> t(dev, {n});
  boot::parallel_chunks(dev, n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      t.data()[i] = static_cast<T>(
          boot::normal({1, boot::stream::test, 0}, static_cast<std::uint64_t>(which), static_cast<std::uint64_t>(i)));
  });
  return t;
}

/// C = A B with the weights of a layer as the right side, as linear layers have it.
template <class T>
void matrix_product(run_state& run) {
  const cpu dev = run.device();
  const std::int64_t m = run["rows"], n = run["n"];
  const auto a = numbers<T>(dev, m * n), b = numbers<T>(dev, n * n, 1);
  boot::tensor<T, cpu> c(dev, {m, n});
  run.flop(2. * static_cast<double>(m * n * n));
  run.measure([&] { boot::gemm<T>(dev, m, n, n, {a.data(), n, 1}, {b.data(), 1, n}, c.data(), n, false); });
}

void noise(run_state& run) {
  const cpu dev = run.device();
  const std::int64_t n = run["n"], rows = 256;
  boot::tensor<float, cpu> out(dev, {rows, n});
  std::vector<std::int64_t> samples(static_cast<std::size_t>(rows));
  std::iota(samples.begin(), samples.end(), 0);
  run.bytes_written(static_cast<double>(rows * n) * float_bytes);
  run.measure([&] {
    boot::fill_noise(dev, {1, boot::stream::noise, 0}, std::span<const std::int64_t>(samples), out.get());
  });
}

/// Target, residual, weight, loss and gradient in one pass; the teacher's outputs are stored as X.
template <class X>
void bootstrap_loss(run_state& run) {
  const cpu dev = run.device();
  const std::int64_t n = run["n"], batch = run["batch"], all = batch * n;
  const auto y_s = numbers<float>(dev, all), y_t = numbers<float>(dev, all, 1);
  const auto x = numbers<X>(dev, all, 2), out_c = numbers<X>(dev, all, 3), out_n = numbers<X>(dev, all, 4);
  boot::tensor<float, cpu> gradient(dev, {all});
  const std::vector<boot::bootstrap_row<float>> rows(static_cast<std::size_t>(batch),
                                                     {.5f, -.5f, 1.5f, .1f, 0, 1, 1e-6f, 2e-6f, -HUGE_VALF, HUGE_VALF});
  std::vector<float> sums(static_cast<std::size_t>(batch));
  std::vector<float> scratch(static_cast<std::size_t>(boot::element_partials(dev, batch, n)));
  run.bytes_read(static_cast<double>(all) * (2 * float_bytes + 3 * static_cast<double>(sizeof(X))));
  run.bytes_written(static_cast<double>(all) * float_bytes);
  run.measure([&] {
    boot::for_each_element<float>(
        dev, boot::bootstrap_euler_op<float>{}, rows.data(), batch, n,
        boot::inputs<float, float, X, X, X>(y_s.data(), y_t.data(), x.data(), out_c.data(), out_n.data()),
        boot::outputs<float>(gradient.data()), sums.data(), scratch.data());
  });
}

void adamw(run_state& run) {
  const cpu dev = run.device();
  const std::int64_t n = run["n"];
  const int averages = static_cast<int>(run["averages"]);
  std::vector<boot::tensor<float, cpu>> a;
  for (std::int64_t k = 0; k < 4 + averages; ++k) a.push_back(numbers<float>(dev, n, k));
  for (std::int64_t i = 0; i < n; ++i) a[3].data()[i] *= a[3].data()[i];
  std::array<float*, boot::max_averages> average{};
  for (std::size_t k = 0; k < static_cast<std::size_t>(averages); ++k) average[k] = a[4 + k].data();
  const boot::adamw_row<float> row{.5f, 1e-4f, .01f, .9f, .999f, 1.2f, 1.1f, 1e-8f, {1e-3f, 1e-3f, 1e-3f, 1e-3f}, 0};
  const boot::group_row<float> group{1, 1};
  const boot::parameter_range range{0, n, 0};
  run.bytes_read(static_cast<double>(n) * (4 + averages) * float_bytes);
  run.bytes_written(static_cast<double>(n) * (3 + averages) * float_bytes);
  run.measure([&] {
    boot::adamw_ema(dev, &row, &group, &range, 1, a[0].data(), static_cast<const float*>(a[1].data()), a[2].data(),
                    a[3].data(), average, averages);
  });
}

void silu(run_state& run) {
  const cpu dev = run.device();
  const std::int64_t n = run["n"];
  const auto x = numbers<float>(dev, n), slope = numbers<float>(dev, n, 1);
  boot::tensor<float, cpu> out(dev, {n});
  run.bytes_read(2 * static_cast<double>(n) * float_bytes);
  run.bytes_written(2 * static_cast<double>(n) * float_bytes);
  run.measure([&] {
    boot::silu_forward(dev, x.get(), out.get());
    boot::silu_backward(dev, x.get(), slope.get(), out.get(), false);
  });
}

}  // namespace

int main(int argc, char** argv) {
  boot::bench::suite suite("host");
  suite.add("gemm", axis("rows", {64, 256, 1024}) * axis("n", {128, 512}), matrix_product<float>);
  suite.add("gemm_double", axis("rows", {256}) * axis("n", {512}), matrix_product<double>);
  suite.add("noise", axis("n", {64, 3072}), noise);
  suite.add("bootstrap_loss", axis("batch", {256}) * axis("n", {64, 3072, 65536}), bootstrap_loss<float>);
  suite.add("bootstrap_loss_bf16", axis("batch", {256}) * axis("n", {64, 3072, 65536}), bootstrap_loss<boot::bf16>);
  suite.add("adamw", axis("n", {1 << 20, 1 << 24}) * axis("averages", {0, 1, 4}), adamw);
  suite.add("silu", axis("n", {1 << 17, 1 << 22}), silu);
  return suite.main(argc, argv);
}
