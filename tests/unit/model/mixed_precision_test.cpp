// SPDX-License-Identifier: MIT
// Networks with bf16 activations: teachers and students as before, near the same network in float, the same bits always.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/conformance.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

using boot::bf16;
const boot::cpu dev;
using full = boot::network_model<boot::unet2d, boot::cpu, float>;
using mixed = boot::network_model<boot::unet2d, boot::cpu, float, bf16>;
static_assert(boot::Teacher<mixed, boot::cpu, boot::class_labels<boot::cpu>>);
static_assert(boot::Student<mixed, boot::cpu, boot::class_labels<boot::cpu>>);

boot::unet2d network(bool recompute = false) {
  using level = boot::unet2d_level;
  return boot::unet2d({.height = 8,
                       .width = 6,
                       .in_channels = 1,
                       .out_channels = 1,
                       .down = {level::plain, level::attention},
                       .up = {level::attention, level::plain},
                       .block_channels = {8, 16},
                       .layers_per_block = 1,
                       .attention_head_dim = 8,
                       .norm_num_groups = 4,
                       .target_time = true,
                       .recompute = recompute});
}

constexpr std::int64_t batch = 3;

struct pass {
  std::vector<float> predicted, recorded, gradient;
  bool operator==(const pass&) const = default;
};

template <class Model>
pass run(const boot::cpu& on, Model& m) {
  const boot::shape all = m.sample_shape().batched(batch);
  boot::tensor<float, boot::cpu> x(on, all), slope(on, all), out(on, all);
  boot::fill_normal(x.data(), all.size(), {5, boot::stream::test, 0}, 0, 0);
  boot::fill_normal(slope.data(), all.size(), {5, boot::stream::test, 0}, 1, 0);
  boot::times_buffer<boot::cpu> from, to;
  const std::vector<double> target{.1, .5, .9};
  const auto t_source = from.set(on, m, .999, batch), t_target = to.set(on, m, target);
  boot::fill_zero(on, m.parameters().gradient());
  m.predict(on, boot::view<const float, boot::cpu>(x.get()), t_source, t_target, boot::no_condition{}, out.get());
  auto tape = m.record(on, boot::view<const float, boot::cpu>(x.get()), t_source, t_target, boot::no_condition{});
  pass p{boot::to_host(on, out.get()), boot::to_host(on, tape.output()), {}};
  tape.backward(on, boot::view<const float, boot::cpu>(slope.get()));
  p.gradient = boot::to_host(on, m.parameters().gradient());
  return p;
}

double relative_rms(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i] - b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("a U-Net with bf16 activations is near the one in float", "[model][mixed]") {
  full exact(dev, network(), {boot::prediction_kind::v}, 4);
  mixed m = exact.with_activations<bf16>(dev);
  const pass a = run(dev, m), b = run(dev, exact);
  CHECK(a.predicted == a.recorded);
  const double output = relative_rms(a.predicted, b.predicted), gradient = relative_rms(a.gradient, b.gradient);
  CHECK(output > 0);
  CHECK(output < 0.02);
  CHECK(gradient > 0);
  CHECK(gradient < 0.03);
  // The output itself is not rounded.
  bool full_precision = false;
  for (const float v : a.predicted) full_precision = full_precision || static_cast<float>(bf16(v)) != v;
  CHECK(full_precision);
  // There and back again.
  full again = m.with_activations<float>(dev);
  CHECK(run(dev, again) == b);
}

TEST_CASE("bf16 activations: the same bits for any number of threads, recomputed or kept", "[model][mixed]") {
  mixed m(dev, network(), {boot::prediction_kind::v}, 6);
  const pass one = run(boot::cpu{1}, m);
  CHECK(run(boot::cpu{2}, m) == one);
  CHECK(run(boot::cpu{3}, m) == one);
  mixed again(dev, network(true), {boot::prediction_kind::v}, 6);
  CHECK(run(dev, again) == one);
  const auto bytes = [](const auto& model) {
    return model.plan(dev, 64, boot::no_condition{}, true, true, false).bytes;
  };
  const full exact(dev, network(), {boot::prediction_kind::v}, 6);
  CHECK(static_cast<double>(bytes(m)) < 0.8 * static_cast<double>(bytes(exact)));
  CHECK(bytes(again) < bytes(m));
}

TEST_CASE("a student with bf16 activations keeps to the contract, and begins as its teacher", "[model][mixed]") {
  boot::unet2d_options o = network().options();
  o.target_time = false;
  const mixed teacher(dev, boot::unet2d(o), {boot::prediction_kind::v}, 2);
  const boot::cosine_schedule schedule;
  CHECK(boot::testing::check_teacher_conformance<float>(dev, teacher, schedule, boot::no_condition{}, 3).text() == "");
  mixed student = boot::student_of(dev, teacher);
  CHECK(boot::testing::check_student_conformance(dev, student, schedule, boot::no_condition{}, 3).text() == "");
  const boot::shape all = teacher.sample_shape().batched(batch);
  boot::tensor<float, boot::cpu> x(dev, all), a(dev, all), b(dev, all);
  boot::fill_normal(x.data(), all.size(), {8, boot::stream::test, 0}, 0, 0);
  boot::times_buffer<boot::cpu> from, to;
  const auto source = from.set(dev, teacher, .999, batch);
  teacher.predict(dev, boot::view<const float, boot::cpu>(x.get()), source, boot::no_condition{}, a.get());
  student.predict(dev, boot::view<const float, boot::cpu>(x.get()), source, to.set(dev, student, .3, batch),
                  boot::no_condition{}, b.get());
  CHECK(boot::to_host(dev, a.get()) == boot::to_host(dev, b.get()));
}
