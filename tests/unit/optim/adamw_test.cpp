// SPDX-License-Identifier: MIT
// AdamW against PyTorch's update written out in float64: clipping, groups, averages, frozen parameters, skipped steps.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/device/cpu.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/optim/adamw.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;

struct network {
  boot::parameter weight{{37, 5}, {boot::initializer::rule::normal, 1}},
      bias{{70}, {boot::initializer::rule::normal, 1}};
  boot::parameter frozen{{9}, {boot::initializer::rule::normal, 1}},
      large{{40000}, {boot::initializer::rule::normal, 1}};
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
    v("frozen", frozen);
    v("large", large);
  }
};

template <class T>
boot::parameter_arena<T, boot::cpu> make_arena(network& n) {
  boot::parameter_layout layout(n);
  layout.assign_group({"biases", true, 0, 2}, [](std::string_view name) { return name == "bias"; });
  layout.assign_group({"frozen", false, 1, 1}, [](std::string_view name) { return name == "frozen"; });
  boot::parameter_arena<T, boot::cpu> arena(boot::cpu{}, layout);
  arena.initialize(boot::cpu{}, 7);
  return arena;
}
template <class T>
void set_gradient(boot::parameter_arena<T, boot::cpu>& arena, std::uint64_t step, double scale) {
  for (std::size_t p = 0; p < arena.layout().entries().size(); ++p) {
    if (arena.layout().entries()[p].name == "frozen") continue;  // a tape gives it none
    const auto g = arena.gradient(static_cast<int>(p));
    for (std::int64_t i = 0; i < g.size(); ++i)
      g[i] = static_cast<T>(scale * static_cast<double>(boot::normal(boot::counter_key{5, boot::stream::test, step}, p,
                                                                     static_cast<std::uint64_t>(i))));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("fifty steps as PyTorch does them", "[optim][adamw]", float, double) {
  using T = TestType;
  const double clip = GENERATE(0.0, 1.0, 1e9);
  network n;
  auto arena = make_arena<T>(n);
  boot::adamw_options o;
  o.weight_decay = 0.1;
  o.clip_norm = clip;
  o.averages = {{.decay = 0.9, .warmup = false}, {.decay = 0.999, .warmup = true}, {.relative_width = 0.1}};
  const boot::cpu dev{2};
  boot::adamw<T, boot::cpu> optimiser(dev, arena, o);
  const auto size = static_cast<std::size_t>(arena.layout().size());
  std::vector<double> p(size), m(size), v(size), e0, e1, e2;
  for (std::size_t i = 0; i < size; ++i) p[i] = static_cast<double>(arena.values()[static_cast<std::int64_t>(i)]);
  e0 = e1 = e2 = p;
  const std::vector<double> initial = p;
  double gamma_low = 0, gamma_high = 1e4;  // (g + 1) = width^2 (g + 2)^2 (g + 3)
  for (int i = 0; i < 200; ++i) {
    const double g = 0.5 * (gamma_low + gamma_high);
    (g + 1 > 0.01 * (g + 2) * (g + 2) * (g + 3) ? gamma_low : gamma_high) = g;
  }
  for (int step = 0; step < 50; ++step) {
    const double rate = 1e-2 * (1 + 0.5 * std::sin(step));
    set_gradient(arena, static_cast<std::uint64_t>(step), step % 3 == 0 ? 1.0 : 1e-3);
    double square = 0;
    for (std::int64_t i = 0; i < arena.gradient().size(); ++i)
      square += std::pow(static_cast<double>(arena.gradient()[i]), 2);
    const double norm = std::sqrt(square), factor = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
    const auto result = optimiser.step(dev, arena, rate);
    REQUIRE_FALSE(result.skipped);
    REQUIRE(result.gradient_norm == Catch::Approx(norm).epsilon(1e-12));
    const double k = step + 1, c1 = 1 - std::pow(0.9, k), c2 = 1 - std::pow(0.999, k);
    for (const auto& entry : arena.layout().entries()) {
      if (entry.name == "frozen") continue;
      const double lr = rate * (entry.name == "bias" ? 2 : 1), decay = entry.name == "bias" ? 0 : 0.1;
      for (std::int64_t j = 0; j < entry.extents.size(); ++j) {
        const auto i = static_cast<std::size_t>(entry.offset + j);
        const double g = factor * static_cast<double>(arena.gradient()[entry.offset + j]);
        p[i] *= 1 - lr * decay;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        p[i] -= lr / c1 * m[i] / (std::sqrt(v[i]) / std::sqrt(c2) + 1e-8);
        e0[i] = 0.9 * e0[i] + 0.1 * p[i];
        const double warm = std::min(0.999, (1.0 + step) / (10.0 + step));
        e1[i] = warm * e1[i] + (1 - warm) * p[i];
        const double power = std::pow(1 - 1 / k, gamma_low + 1);
        e2[i] = power * e2[i] + (1 - power) * p[i];
      }
    }
  }
  CHECK(optimiser.updates() == 50);
  const double bound = std::is_same_v<T, double> ? 1e-12 : 3e-5;
  double worst = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const auto at = static_cast<std::int64_t>(i);
    worst = std::max({worst, std::abs(static_cast<double>(arena.values()[at]) - p[i]),
                      std::abs(static_cast<double>(optimiser.average(0)[at]) - e0[i]),
                      std::abs(static_cast<double>(optimiser.average(1)[at]) - e1[i]),
                      std::abs(static_cast<double>(optimiser.average(2)[at]) - e2[i]),
                      std::abs(static_cast<double>(optimiser.first_moment()[at]) - m[i])});
  }
  CHECK(worst < bound);
  const auto& frozen = arena.layout().entries()[2];
  for (std::int64_t j = 0; j < frozen.extents.size(); ++j) {
    REQUIRE(static_cast<double>(arena.values()[frozen.offset + j]) ==
            initial[static_cast<std::size_t>(frozen.offset + j)]);
    REQUIRE(static_cast<double>(optimiser.average(1)[frozen.offset + j]) ==
            initial[static_cast<std::size_t>(frozen.offset + j)]);
  }
}

TEST_CASE("a gradient that is not finite changes nothing and is not counted", "[optim][adamw]") {
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  network n;
  auto arena = make_arena<float>(n);
  const boot::cpu dev;
  boot::adamw<float, boot::cpu> optimiser(dev, arena, {});
  set_gradient(arena, 0, 1);
  static_cast<void>(optimiser.step(dev, arena, 1e-2));
  const auto state = [&] {
    auto all = boot::to_host(dev, arena.values());
    for (const auto& part : {optimiser.first_moment(), optimiser.second_moment(), optimiser.average()}) {
      const auto more = boot::to_host(dev, part);
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  };
  const auto before = state();
  set_gradient(arena, 1, 1);
  arena.gradient(3)[39999] = bad;
  const auto result = optimiser.step(dev, arena, 1e-2);
  CHECK(result.skipped);
  CHECK(optimiser.updates() == 1);
  CHECK(state() == before);
  set_gradient(arena, 1, 1);
  CHECK_FALSE(optimiser.step(dev, arena, 1e-2).skipped);
  CHECK_FALSE(state() == before);
}

TEST_CASE("the same bits on 1, 2 and 3 threads, and resumed from stored state", "[optim][adamw]") {
  std::vector<std::vector<float>> results;
  boot::adamw_options options;
  options.averages = {{}, {.relative_width = 0.05}};
  for (const int threads : {1, 2, 3}) {
    network n;
    auto arena = make_arena<float>(n);
    const boot::cpu dev{threads};
    boot::adamw<float, boot::cpu> first(dev, arena, options);
    for (std::uint64_t step = 0; step < 4; ++step) {
      set_gradient(arena, step, 1);
      static_cast<void>(first.step(dev, arena, 1e-2));
    }
    boot::adamw<float, boot::cpu> second(dev, arena, options);
    second.set_updates(first.updates());
    boot::copy(dev, boot::view<const float, boot::cpu>(first.first_moment()), second.first_moment());
    boot::copy(dev, boot::view<const float, boot::cpu>(first.second_moment()), second.second_moment());
    for (std::size_t i = 0; i < 2; ++i)
      boot::copy(dev, boot::view<const float, boot::cpu>(first.average(i)), second.average(i));
    auto& next = threads == 2 ? second : first;  // one of the runs is resumed
    for (std::uint64_t step = 4; step < 8; ++step) {
      set_gradient(arena, step, 1);
      static_cast<void>(next.step(dev, arena, 1e-2));
    }
    auto all = boot::to_host(dev, arena.values());
    for (std::size_t i = 0; i < 2; ++i) {
      const auto more = boot::to_host(dev, next.average(i));
      all.insert(all.end(), more.begin(), more.end());
    }
    results.push_back(std::move(all));
  }
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

TEST_CASE("options that make no sense are refused", "[optim][adamw]") {
  network n;
  auto arena = make_arena<float>(n);
  const boot::cpu dev;
  const auto make = [&](auto change) {
    boot::adamw_options o;
    change(o);
    boot::adamw<float, boot::cpu> a(dev, arena, o);
    return a.average_count();
  };
  CHECK_THROWS_WITH(make([](auto& o) { o.beta1 = 1; }), ContainsSubstring("[0, 1)"));
  CHECK_THROWS_AS(make([](auto& o) { o.beta2 = -0.1; }), boot::error);
  CHECK_THROWS_WITH(make([](auto& o) { o.epsilon = 0; }), ContainsSubstring("epsilon > 0"));
  CHECK_THROWS_AS(make([](auto& o) { o.weight_decay = -1; }), boot::error);
  CHECK_THROWS_AS(make([](auto& o) { o.clip_norm = -1; }), boot::error);
  CHECK_THROWS_WITH(make([](auto& o) { o.averages.resize(5); }), ContainsSubstring("up to 4"));
  CHECK_THROWS_AS(make([](auto& o) { o.averages = {{.decay = 1.5}}; }), boot::error);
  CHECK(make([](auto& o) { o.averages.clear(); }) == 0);
  boot::adamw<float, boot::cpu> none(dev, arena, {.averages = {}});
  CHECK_THROWS_WITH(none.average(0), ContainsSubstring("there are 0"));
}
