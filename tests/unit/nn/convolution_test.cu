// SPDX-License-Identifier: MIT
// Convolutions on boot::cuda against boot::cpu in float64: the three passes, strides, paddings, bf16, unaligned memory.
#include "support/catch.hpp"
#include "support/distance.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/nn/cpu/convolution.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot_cuda.cuh>

#include <cstdint>
#include <span>
#include <vector>

namespace {

using boot::bf16;
using boot::cuda;

// Numbers as T stores them, in float64 and on the device, `shift` numbers behind a 16-byte address.
template <class T>
struct numbers {
  std::vector<double> host;
  boot::tensor<T, cuda> memory;
  boot::shape extents;
  std::int64_t shift;

  numbers(const cuda& dev, const boot::shape& s, std::uint64_t what, std::int64_t away) : extents(s), shift(away) {
    std::vector<T> stored(static_cast<std::size_t>(shift), T(0.0f));
    for (const float z : boot::testing::normal_numbers<float>(s.size(), 11, what)) {
      stored.push_back(T(z));
      host.push_back(static_cast<double>(static_cast<float>(stored.back())));
    }
    memory = boot::tensor_of<T>(dev, std::span<const T>(stored), {std::ssize(stored)});
  }
  boot::view<T, cuda> out() { return {memory.data() + shift, extents}; }
  boot::view<const T, cuda> in() const { return {memory.data() + shift, extents}; }
  boot::view<const double, boot::cpu> reference() const { return {host.data(), extents}; }
  boot::view<double, boot::cpu> result() { return {host.data(), extents}; }
  std::vector<float> found(const cuda& dev) {
    std::vector<float> values;
    for (const T v : boot::to_host(dev, in())) values.push_back(static_cast<float>(v));
    return values;
  }
};

template <class T>
void check(const cuda& dev, const boot::shape& image, std::int64_t channels, std::int64_t kernel, std::int64_t stride,
           std::int64_t before, std::int64_t results, std::int64_t shift, bool accumulate) {
  CAPTURE(boot::to_string(image), channels, kernel, stride, before, shift, accumulate, sizeof(T));
  const boot::cpu host;
  const boot::shape weights{channels, kernel, kernel, image[3]}, result{image[0], results, results, channels};
  const numbers<T> x(dev, image, 1, shift), w(dev, weights, 2, shift), dy(dev, result, 3, shift);
  const numbers<float> bias(dev, {channels}, 4, 0);
  numbers<T> y(dev, result, 5, shift), dx(dev, image, 6, shift);
  numbers<float> dw(dev, weights, 7, shift);
  boot::poison(dev, y.out().data(), static_cast<std::size_t>(y.out().size()) * sizeof(T));
  if (!accumulate) {
    boot::poison(dev, dx.out().data(), static_cast<std::size_t>(image.size()) * sizeof(T));
    boot::poison(dev, dw.out().data(), static_cast<std::size_t>(weights.size()) * sizeof(float));
  }
  boot::conv2d_forward(dev, x.in(), w.in(), bias.in().data(), stride, before, y.out());
  boot::conv2d_input_gradient(dev, dy.in(), w.in(), stride, before, dx.out(), accumulate);
  boot::conv2d_weight_gradient(dev, dy.in(), x.in(), stride, before, dw.out(), accumulate);
  boot::conv2d_forward(host, x.reference(), w.reference(), bias.host.data(), stride, before, y.result());
  boot::conv2d_input_gradient(host, dy.reference(), w.reference(), stride, before, dx.result(), accumulate);
  boot::conv2d_weight_gradient(host, dy.reference(), x.reference(), stride, before, dw.result(), accumulate);
  const double tolerance = std::is_same_v<T, float> ? 1e-5 : 1e-2;
  CHECK(boot_test::relative_distance(y.found(dev), y.host) < tolerance);
  CHECK(boot_test::relative_distance(dx.found(dev), dx.host) < tolerance);
  CHECK(boot_test::relative_distance(dw.found(dev), dw.host) < tolerance);
}

}  // namespace

TEMPLATE_TEST_CASE("convolutions on a device", "[nn][cuda]", float, bf16) {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  cuda dev = stream.device();
  dev.autotune = GENERATE(0, 4);
  for (const bool accumulate : {false, true}) {
    check<TestType>(dev, {2, 8, 8, 3}, 16, 3, 1, 1, 8, 0, accumulate);
    check<TestType>(dev, {2, 8, 8, 16}, 3, 3, 1, 1, 8, 0, accumulate);
    check<TestType>(dev, {3, 8, 8, 32}, 16, 3, 2, 0, 4, 0, accumulate);  // zeros below and on the right only
    check<TestType>(dev, {3, 8, 8, 32}, 16, 3, 2, 1, 4, 0, accumulate);
    check<TestType>(dev, {2, 7, 7, 8}, 8, 3, 2, 1, 4, 0, accumulate);
    check<TestType>(dev, {2, 6, 6, 8}, 24, 1, 1, 0, 6, 0, accumulate);  // a product
    check<TestType>(dev, {2, 6, 6, 8}, 8, 1, 2, 0, 3, 0, accumulate);
    check<TestType>(dev, {1, 9, 9, 8}, 8, 5, 1, 2, 9, 0, accumulate);
    check<TestType>(dev, {2, 8, 8, 5}, 7, 3, 1, 1, 8, 1, accumulate);  // unaligned
  }
}

TEST_CASE("an empty batch of a convolution on a device", "[nn][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const cuda dev = stream.device();
  numbers<float> w(dev, {4, 3, 3, 2}, 1, 0);
  const boot::view<const float, cuda> x{nullptr, {0, 4, 4, 2}}, dy{nullptr, {0, 4, 4, 4}};
  boot::conv2d_forward(dev, x, w.in(), nullptr, 1, 1, boot::view<float, cuda>{nullptr, {0, 4, 4, 4}});
  boot::conv2d_weight_gradient(dev, dy, x, 1, 1, w.out(), false);
  CHECK(boot::to_host(dev, w.in()) == std::vector<float>(72, 0.0f));
}
