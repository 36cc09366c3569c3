// SPDX-License-Identifier: MIT
// times: the model's own maps evaluated in float64 on the host, uniform batches noticed, memory kept.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>
#include <boot/nn/times.hpp>

#include <array>
#include <cmath>
#include <span>
#include <vector>

namespace {

const boot::cpu dev;

struct plain_model {};
struct scaled_model {
  mutable int inputs = 0, scales = 0;
  double time_input(double t) const {
    ++inputs;
    return 1000 * t;
  }
  double input_scale(double t) const {
    ++scales;
    return 1 / std::sqrt(t * t + 0.25);
  }
};

}  // namespace

TEST_CASE("a model without maps reads the time itself and has no scale", "[nn][times]") {
  boot::times_buffer<boot::cpu, float> buffer;
  const std::vector<double> t{0.1, 0.9, 0.9};
  const auto& got = buffer.set(dev, plain_model{}, t);
  CHECK(got.batch() == 3);
  CHECK(got.scale.empty());
  CHECK_FALSE(got.uniform);
  for (int i = 0; i < 3; ++i) {
    CHECK(got.time[i] == t[static_cast<std::size_t>(i)]);
    CHECK(got.input[i] == static_cast<float>(t[static_cast<std::size_t>(i)]));
  }
  CHECK(&buffer.get() == &got);
}

TEST_CASE("the model's maps are evaluated in float64 and rounded once; equal neighbours once", "[nn][times]") {
  boot::times_buffer<boot::cpu, float> buffer;
  const scaled_model model;
  const std::vector<double> t{0.1, 0.1, 0.1, 0.7};
  const auto& got = buffer.set(dev, model, t);
  for (int i = 0; i < 4; ++i) {
    const double at = t[static_cast<std::size_t>(i)];
    CHECK(got.input[i] == static_cast<float>(1000 * at));
    CHECK(got.scale[i] == static_cast<float>(1 / std::sqrt(at * at + 0.25)));
  }
  CHECK(model.inputs == 2);
  CHECK(model.scales == 2);
  boot::times_buffer<boot::cpu, double> exact;
  CHECK(exact.set(dev, model, t).input[3] == 1000 * 0.7);
}

TEST_CASE("uniform batches, parts of a batch", "[nn][times]") {
  boot::times_buffer<boot::cpu, float> buffer;
  const scaled_model model;
  CHECK(buffer.set(dev, model, 0.25, 5).uniform);
  CHECK(buffer.get().batch() == 5);
  CHECK(buffer.get().input[4] == 250.0f);
  const std::array<double, 1> one{0.5};
  CHECK(buffer.set(dev, model, one).uniform);
  const std::vector<double> t{0.2, 0.4, 0.6};
  const auto part = buffer.set(dev, model, t).rows(1, 2);
  CHECK(part.batch() == 2);
  CHECK(part.time[0] == 0.4);
  CHECK(part.input[1] == 600.0f);
  CHECK(part.scale.batch() == 2);
  CHECK_FALSE(part.uniform);
  CHECK_THROWS_AS(buffer.get().rows(2, 2), boot::error);
  CHECK(buffer.set(dev, model, std::span<const double>()).batch() == 0);
}

TEST_CASE("setting as many times again, or fewer, allocates nothing", "[nn][times]") {
  boot::times_buffer<boot::cpu, float> buffer;
  static_cast<void>(buffer.set(dev, scaled_model{}, 0.5, 8));
  const auto before = boot::memory_use<boot::cpu>().allocations;
  static_cast<void>(buffer.set(dev, scaled_model{}, 0.1, 8));
  static_cast<void>(buffer.set(dev, scaled_model{}, 0.2, 3));
  CHECK(boot::memory_use<boot::cpu>().allocations == before);
  static_cast<void>(buffer.set(dev, scaled_model{}, 0.2, 9));
  CHECK(boot::memory_use<boot::cpu>().allocations > before);
  CHECK(buffer.get().input[8] == 200.0f);
}
