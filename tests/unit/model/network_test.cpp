// SPDX-License-Identifier: MIT
// network_model: teacher and student in one, nothing allocated after the first call, plans, clones, threads.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/mlp.hpp>
#include <boot/model/network.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/conformance.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

const boot::cpu dev;

// A user's own network: one linear layer on the input scaled as EDM does, plus the target time.
class own_network {
 public:
  template <class G, class C>
  [[nodiscard]] typename G::value operator()(G& g, const typename G::value& x,
                                             const boot::times<typename G::device_type, typename G::scalar_type>& from,
                                             const boot::times<typename G::device_type, typename G::scalar_type>& to,
                                             const C&) const {
    return boot::add(g, layer_(g, boot::scale_input(g, x, from)), embedding_(g, to));
  }
  template <class V>
  void visit(V& v) {
    v("layer", layer_);
    v("embedding", embedding_);
  }
  [[nodiscard]] boot::shape sample_shape() const { return {3}; }
  [[nodiscard]] double time_input(double t) const { return std::log(t) / 4; }
  [[nodiscard]] double input_scale(double t) const { return 1 / std::sqrt(t * t + 0.25); }

 private:
  boot::linear layer_{3, 3};
  boot::time_embedding embedding_{{.features = 4}, 3};
};
using model = boot::network_model<own_network, boot::cpu, float>;
static_assert(boot::Teacher<model, boot::cpu> && boot::Student<model, boot::cpu>);
static_assert(!boot::Teacher<model, boot::cpu, boot::no_condition, double>);
using exact_model = boot::network_model<own_network, boot::cpu, double>;
static_assert(boot::Student<exact_model, boot::cpu>);

struct data {
  std::vector<float> x;
  std::int64_t n;
  explicit data(std::int64_t batch) : n(batch) {
    for (std::int64_t i = 0; i < 3 * n; ++i) x.push_back(std::cos(static_cast<float>(i)));
  }
  [[nodiscard]] boot::view<const float, boot::cpu> get() const { return {x.data(), {n, 3}}; }
};

}  // namespace

TEST_CASE("a user's own network keeps both contracts", "[model][network]") {
  model m(dev, own_network{}, {boot::prediction_kind::edm, 0.5}, 1);
  const boot::cosine_schedule schedule;
  CHECK(boot::testing::check_teacher_conformance<float>(dev, m, schedule, boot::no_condition{}, 5).text() == "");
  CHECK(boot::testing::check_student_conformance(dev, m, schedule, boot::no_condition{}, 5).text() == "");
  CHECK(m.prediction().kind == boot::prediction_kind::edm);
  CHECK(m.sample_shape() == boot::shape{3});
  CHECK(m.time_input(2.0) == std::log(2.0) / 4);
  CHECK(m.input_scale(0) == 2);
}

TEST_CASE("after the first call of each size nothing is allocated", "[model][network]") {
  model m(dev, own_network{}, {}, 1);
  const data big(9), small(4);
  boot::times_buffer<boot::cpu, float> from, to;
  boot::tensor<float, boot::cpu> out(dev, {9, 3});
  boot::fill_zero(dev, out.get());
  const auto round = [&] {
    for (const data* d : {&big, &small}) {
      const auto& source = from.set(dev, m, 0.9, d->n);
      const auto& target = to.set(dev, m, 0.2, d->n);
      m.predict(dev, d->get(), source, target, boot::no_condition{}, out.get().rows(0, d->n));
      auto one = m.record(dev, d->get(), source, target, boot::no_condition{});
      auto two = m.record(dev, d->get(), source, target, boot::no_condition{});
      two.backward(dev, out.get().rows(0, d->n));
      one.backward(dev, out.get().rows(0, d->n));
    }
  };
  round();
  round();
  const auto before = boot::memory_use<boot::cpu>().allocations;
  for (int i = 0; i < 5; ++i) round();
  CHECK(boot::memory_use<boot::cpu>().allocations == before);
}

TEST_CASE("a plan tells bytes and operations; a uniform target time costs less", "[model][network]") {
  const model m(dev, own_network{}, {}, 1);
  const auto inference = m.plan(dev, 64, boot::no_condition{}, false, true, false);
  const auto recorded = m.plan(dev, 64, boot::no_condition{}, true, true, false);
  const auto uniform = m.plan(dev, 64, boot::no_condition{}, false, true, true);
  CHECK(inference.bytes > 0);
  CHECK(recorded.bytes > inference.bytes);
  CHECK(inference.forward_flop == 2.0 * 64 * (3 * 3 + 4 * 3 + 3 * 3));
  CHECK(uniform.forward_flop == 2.0 * (64 * 3 * 3 + 4 * 3 + 3 * 3));
  CHECK(recorded.backward_flop > 0);
}

TEST_CASE("seeds, clones and moves", "[model][network]") {
  model a(dev, own_network{}, {boot::prediction_kind::flow}, 1);
  const model same(dev, own_network{}, {}, 1), other(dev, own_network{}, {}, 2);
  const auto values = [](const model& m) { return boot::to_host(dev, m.parameters().values()); };
  CHECK(values(a) == values(same));
  CHECK_FALSE(values(a) == values(other));
  const model copy = a.clone(dev), average = a.clone(dev, other.parameters().values());
  CHECK(values(copy) == values(a));
  CHECK(values(average) == values(other));
  CHECK(copy.prediction().kind == boot::prediction_kind::flow);
  a.parameters().values()[0] += 1;
  CHECK_FALSE(values(copy) == values(a));
  const auto kept = values(a);
  const model moved = std::move(a);
  CHECK(values(moved) == kept);
  const data d(2);
  boot::times_buffer<boot::cpu, float> at;
  boot::tensor<float, boot::cpu> out(dev, {2, 3});
  CHECK_NOTHROW(moved.predict(dev, d.get(), at.set(dev, moved, 0.5, 2), boot::no_condition{}, out.get()));
}

TEST_CASE("a tape that is never used gives its memory back", "[model][network]") {
  model m(dev, own_network{}, {}, 1);
  const data d(6);
  boot::times_buffer<boot::cpu, float> at;
  const auto& t = at.set(dev, m, 0.5, 6);
  { const auto unused = m.record(dev, d.get(), t, t, boot::no_condition{}); }
  const auto live = boot::memory_use<boot::cpu>().live_bytes;
  for (int i = 0; i < 3; ++i) const auto unused = m.record(dev, d.get(), t, t, boot::no_condition{});
  CHECK(boot::memory_use<boot::cpu>().live_bytes == live);
}

TEST_CASE("freezing and thawing a group after the first tape changes what the next tape needs", "[model][network]") {
  boot::network_model net(dev, boot::mlp({.features = 3, .width = 8, .hidden_layers = 2}), {}, 1);
  boot::times_buffer<boot::cpu> times;
  const auto& t = times.set(dev, net, 0.5, 4);
  const auto x = boot::zeros<float>(dev, {4, 3});
  const std::vector<float> slope(12, 1.0f);
  const boot::view<const float, boot::cpu> gradient(slope.data(), {4, 3});
  const auto in_layer = [](std::string_view name) { return name.starts_with("layer_in"); };
  net.parameters().layout().assign_group({.name = "frozen", .trainable = false}, in_layer);
  net.record(dev, x.get(), t, t, boot::no_condition{}).backward(dev, gradient);
  const int index = net.parameters().layout().find("layer_in.bias");
  for (std::int64_t i = 0; i < 8; ++i) REQUIRE(net.parameters().gradient(index)[i] == 0.0f);
  net.parameters().layout().assign_group({.name = "thawed"}, in_layer);
  net.record(dev, x.get(), t, t, boot::no_condition{}).backward(dev, gradient);
  float largest = 0;
  for (std::int64_t i = 0; i < 8; ++i) largest = std::max(largest, std::abs(net.parameters().gradient(index)[i]));
  REQUIRE(largest > 0);
}

TEST_CASE("models that share memory need the larger amount, and may be called at once", "[model][network]") {
  using mlp_model = boot::network_model<boot::mlp, boot::cpu>;
  const mlp_model teacher(dev, boot::mlp({.features = 3, .width = 64, .hidden_layers = 3}), {}, 3);
  mlp_model student = boot::student_of(dev, teacher);
  const data d(200);
  boot::times_buffer<boot::cpu> from;
  const auto t = from.set(dev, teacher, 0.7, 200);
  const auto call = [&](const mlp_model& m) {
    boot::tensor<float, boot::cpu> out(dev, {200, 3});
    m.predict(boot::cpu{1}, d.get(), t, t, boot::no_condition{}, out.get());
    return boot::to_host(dev, out.get());
  };
  const auto by_student = call(student);
  const auto before = boot::memory_use<boot::cpu>().live_bytes;
  const auto by_teacher = call(teacher);
  CHECK(boot::memory_use<boot::cpu>().live_bytes == before);  // smaller: the student's serves it
  {
    const auto tape = student.record(dev, d.get(), t, t, boot::no_condition{});
    const std::vector<float> recorded = boot::to_host(dev, tape.output());
    CHECK(call(teacher) == by_teacher);  // beside a tape it takes its own
    CHECK(boot::to_host(dev, tape.output()) == recorded);
  }
  std::vector<std::vector<float>> made(2);
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < made.size(); ++k)
    threads.emplace_back([&, k] {
      for (int i = 0; i < 20; ++i) made[k] = call(k == 0 ? student : teacher);
    });
  for (auto& thread : threads) thread.join();
  CHECK(made[0] == by_student);
  CHECK(made[1] == by_teacher);
}
