// SPDX-License-Identifier: MIT
/// Whole networks on another device against boot::cpu in float64: the prediction and the gradient of its parameters.
#pragma once

#include "support/catch.hpp"
#include "support/distance.hpp"

#include <boot/core/random.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/dit.hpp>
#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace boot_test {

using namespace boot;

/// Class labels with their memory; none where `values` is empty.
template <class D>
struct device_labels {
  tensor<std::int32_t, D> memory;
  class_labels<D> labels;

  device_labels(const D& dev, const std::vector<std::int32_t>& values)
      : memory(tensor_of<std::int32_t>(dev, std::span<const std::int32_t>(values), {std::ssize(values)})),
        labels{memory.get(), false} {}
};

template <class T>
struct network_numbers {
  std::vector<T> y, gradient;
};

/// Prediction for two samples and the gradient of a fixed slope; parameters are drawn anew, so that no path is zero.
template <class T, class A = T, class Network, class D>
network_numbers<T> run_network(const D& dev, const Network& network, const std::vector<std::int32_t>& labels,
                               std::uint64_t draw = 3) {
  network_model<Network, D, T, A> m(dev, Network(network), {}, 7);
  const shape s = m.sample_shape().batched(2);
  std::vector<T> v(static_cast<std::size_t>(m.parameters().values().size()));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(0.15 * static_cast<double>(normal(counter_key{draw, stream::test, 1}, 0, i)));
  copy_from_host(dev, v.data(), m.parameters().values().data(), v.size() * sizeof(T));
  std::vector<T> x(static_cast<std::size_t>(s.size()));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(std::sin(1.7 * static_cast<double>(i + 1)));
  const auto input = tensor_of<T>(dev, std::span<const T>(x), s);
  times_buffer<D, T> at;
  const std::vector<double> t{0.3, 0.75};
  const auto& times = at.set(dev, m, t);
  const auto numbers = [&](const auto& condition) {
    auto tape = m.record(dev, input.get(), times, times, condition);
    network_numbers<T> r;
    r.y = to_host(dev, tape.output());
    std::vector<T> slope(r.y.size());
    for (std::size_t i = 0; i < slope.size(); ++i) slope[i] = static_cast<T>(std::cos(0.9 * static_cast<double>(i)));
    const auto slopes = tensor_of<T>(dev, std::span<const T>(slope), tape.output().extents());
    tape.backward(dev, slopes.get());
    r.gradient = to_host(dev, m.parameters().gradient());
    return r;
  };
  if (labels.empty()) return numbers(no_condition{});
  const device_labels<D> given(dev, labels);
  return numbers(given.labels);
}

template <class Network, class D>
void check_network(const D& dev, const Network& network, const std::vector<std::int32_t>& labels) {
  const auto wanted = run_network<double>(cpu{}, network, labels);
  const auto found = run_network<float>(dev, network, labels);
  CHECK(relative_distance(found.y, wanted.y) < 5e-6);
  CHECK(relative_distance(found.gradient, wanted.gradient) < 2e-5);
}

/// Activations in bf16: no further from float64 than boot::cpu's, which computes on copies in float, but for the
/// roundings of gradients that are added up, of biases, of the network's input and result, and of attention's scores.
/// The error of a single draw of parameters is a matter of chance, on either device: the mean of several is compared.
template <class Network, class D>
void check_mixed_network(const D& dev, const Network& network, const std::vector<std::int32_t>& labels) {
  double y = 0, gradient = 0, found_y = 0, found_gradient = 0;
  for (const std::uint64_t draw : {3u, 4u, 5u, 6u, 7u, 8u}) {
    const auto wanted = run_network<double>(cpu{}, network, labels, draw);
    const auto copied = run_network<float, bf16>(cpu{}, network, labels, draw);
    const auto found = run_network<float, bf16>(dev, network, labels, draw);
    y += relative_distance(copied.y, wanted.y) / 6;
    gradient += relative_distance(copied.gradient, wanted.gradient) / 6;
    found_y += relative_distance(found.y, wanted.y) / 6;
    found_gradient += relative_distance(found.gradient, wanted.gradient) / 6;
  }
  CAPTURE(y, gradient);
  CHECK(y > 1e-4);  // it is bf16
  CHECK(found_y < 1.5 * y);
  CHECK(found_gradient < 1.5 * gradient);
}

inline dit compare_dit() {
  dit_options o;
  o.height = o.width = 6;
  o.in_channels = 2;
  o.out_channels = 4;
  o.layers = o.heads = 2;
  o.head_dim = 6;
  o.classes = 5;
  o.time_scale = 1;
  o.target_time = true;
  return dit(o);
}
/// DDPM's kind, or with scale and shift, Fourier times and recomputation.
inline unet2d compare_unet(bool scale_shift) {
  unet2d_options o;
  o.height = o.width = 8;
  o.in_channels = o.out_channels = 3;
  const auto outer = scale_shift ? unet2d_level::resnet : unet2d_level::plain;
  o.down = {outer, unet2d_level::attention};
  o.up = {unet2d_level::attention, outer};
  o.block_channels = {8, 16};
  o.norm_num_groups = 4;
  o.layers_per_block = 1;
  if (scale_shift) {
    o.time = unet2d_time::fourier;
    o.time_scale = 1;
    o.time_scale_shift = true;
    o.mid_block_scale_factor = 1.4142;
    o.center_input_sample = true;
    o.recompute = true;
  } else {
    o.attention_head_dim = 0;
    o.target_time = true;
    o.classes = 5;
    o.downsample_padding = false;
  }
  return unet2d(o);
}
/// Classes without a null class.
inline unet2d compare_unet_without_null() {
  unet2d_options o;
  o.height = o.width = 4;
  o.down = {unet2d_level::attention};
  o.up = {unet2d_level::attention};
  o.block_channels = {8};
  o.norm_num_groups = 4;
  o.layers_per_block = 1;
  o.classes = 5;
  o.null_class = false;
  return unet2d(o);
}

}  // namespace boot_test
