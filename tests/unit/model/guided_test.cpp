// SPDX-License-Identifier: MIT
/// guided: its identities, fixed and per-sample scales, negative conditions, what it forwards, and its errors.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/guided.hpp>
#include <boot/schedule/cosine.hpp>

#include <cmath>
#include <random>
#include <string>
#include <vector>

using boot::cpu;
using Catch::Matchers::ContainsSubstring;

namespace {

using labels = boot::class_labels<cpu>;
using scales = boot::guidance_scale<cpu, float>;
using labelled_scales = boot::conditions<labels, scales>;

// Labelled mixture that counts its calls and has what a network has beside predict().
struct counted {
  boot::gaussian_mixture<boot::cosine_schedule> inner{
      boot::cosine_schedule{}, {{1, {1, 0}, 0.2, 0}, {1, {-1, 0}, 0.3, 1}, {2, {0, 1}, 0.25, 2}}};
  mutable int calls = 0;

  template <boot::ComputeScalar T, boot::Condition C>
  void predict(const cpu& dev, boot::view<const T, cpu> x, const boot::times<cpu, T>& t, const C& c,
               boot::view<T, cpu> out) const {
    ++calls;
    inner.predict(dev, x, t, c, out);
  }
  [[nodiscard]] boot::prediction prediction() const { return inner.prediction(); }
  [[nodiscard]] boot::shape sample_shape() const { return inner.sample_shape(); }
  [[nodiscard]] double time_input(double t) const { return 7 * t; }
  [[nodiscard]] double input_scale(double t) const { return 1 + t; }
};

// Everybody's negative is class 2.
struct against_class_2 {
  static constexpr std::int32_t twos[] = {2, 2, 2, 2, 2};
  labels operator()(const labels& c) const { return {{twos, {c.ids.batch()}}}; }
};

struct same_condition {
  template <class C>
  C operator()(const C& c) const {
    return c;
  }
};

struct bench {
  boot::tensor<float, cpu> x{cpu{}, {5, 2}};
  std::vector<std::int32_t> ids{0, 1, 2, 1, 0};
  std::vector<float> w{0, 1, 2.5f, 4, -1};
  std::vector<double> when{0.2, 0.4, 0.6, 0.8, 0.9};
  boot::times_buffer<cpu, float> times;

  explicit bench(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < 10; ++i) x.data()[i] = normal(random);
  }
  labels label() const { return {{ids.data(), {5}}}; }
  labelled_scales both() const { return labelled_scales(label(), scales{{w.data(), {5}}}); }
  template <class M, class C>
  std::vector<float> operator()(const M& m, const C& c) {
    boot::tensor<float, cpu> out(cpu{}, {5, 2});
    m.predict(cpu{}, boot::view<const float, cpu>(x), times.set(cpu{}, m, when), c, out.get());
    return boot::to_host(cpu{}, out.get());
  }
};

template <class F>
std::string message_of_guided(const F& f) {
  try {
    f();
  } catch (const boot::error& e) {
    return e.what();
  }
  return "no error";
}

template <class M>
concept has_input_scale = requires(const M& m) {
  m.input_scale(1.0);
};

static_assert(boot::GuidedTeacher<boot::guided<counted>, cpu, labels, float>);
static_assert(boot::GuidedTeacher<boot::guided<counted>, cpu, labelled_scales, double>);
static_assert(boot::GuidedTeacher<boot::guided<counted, against_class_2>, cpu, labels, float>);
static_assert(!boot::GuidedTeacher<counted, cpu, labels, float>);

}  // namespace

TEST_CASE("guided: scale 1 is the condition, 0 the null, equal conditions ignore the scale", "[model]") {
  const counted teacher;
  bench run(1);
  const auto with = run(teacher, run.label()), without = run(teacher, run.label().null());
  REQUIRE(with != without);
  teacher.calls = 0;
  REQUIRE(run(boot::guided(teacher, 1.0), run.label()) == with);
  REQUIRE(teacher.calls == 1);
  REQUIRE(boot::guided(teacher, 1.0).calls_per_prediction() == 1);
  teacher.calls = 0;
  REQUIRE(run(boot::guided(teacher, 0.0), run.label()) == without);
  REQUIRE(teacher.calls == 2);
  REQUIRE(run(boot::guided(teacher, 3.0, same_condition{}), run.label()) == with);
  REQUIRE(run(boot::guided(teacher, 3.0), run.label().null()) == without);
}

TEST_CASE("guided: the combination, its pair, fixed and per sample", "[model]") {
  const counted teacher;
  bench run(2);
  const auto with = run(teacher, run.label()), without = run(teacher, run.label().null());
  const auto check = [&](const auto& guided, const auto& condition, const auto& scale,
                         const std::vector<float>& negative) {
    const auto out = run(guided, condition);
    boot::tensor<float, cpu> out_c(cpu{}, {5, 2}), out_n(cpu{}, {5, 2});
    guided.predict_pair(cpu{}, boot::view<const float, cpu>(run.x), run.times.get(), condition, out_c.get(),
                        out_n.get());
    REQUIRE(boot::to_host(cpu{}, out_c.get()) == with);
    REQUIRE(boot::to_host(cpu{}, out_n.get()) == negative);
    for (std::size_t i = 0; i < 10; ++i) {
      const double w = scale(i / 2), n = negative[i], c = with[i];
      REQUIRE(guided.guidance(condition, static_cast<std::int64_t>(i / 2)) == w);
      REQUIRE(std::abs(out[i] - (n + w * (c - n))) < 1e-6 * (1 + std::abs(w)));
    }
  };
  check(
      boot::guided(teacher, 2.5), run.label(), [](std::size_t) { return 2.5; }, without);
  check(
      boot::guided(teacher, 2.5), run.both(), [](std::size_t) { return 2.5; }, without);  // the fixed scale wins
  check(
      boot::guided(teacher), run.both(), [&](std::size_t i) { return static_cast<double>(run.w[i]); }, without);
  const labels twos = against_class_2{}(run.label());
  check(
      boot::guided(teacher, 2.0, against_class_2{}), run.label(), [](std::size_t) { return 2.0; }, run(teacher, twos));
}

TEST_CASE("guided: parts of a batch keep their own scales, also those kept on the host", "[model]") {
  const counted teacher;
  const boot::guided guided(teacher);
  bench run(3);
  const auto part = run.both().rows(2, 3);
  for (std::int64_t i = 0; i < 3; ++i)
    REQUIRE(guided.guidance(part, i) == static_cast<double>(run.w[static_cast<std::size_t>(i) + 2]));
  REQUIRE(guided.guidance(part.null(), 1) == 4);
  const labelled_scales host(run.label(), scales{{nullptr, {5}}, run.w});
  REQUIRE(guided.guidance(host.rows(1, 4), 1) == 2.5);
  REQUIRE_THAT(message_of_guided([&] { (void)guided.guidance(host.rows(1, 2), 2); }), ContainsSubstring("on_host"));
}

TEST_CASE("guided: forwards what the teacher has, grows with the batch, copies own buffers", "[model]") {
  const counted teacher;
  const boot::guided guided(teacher, 2.0);
  REQUIRE(guided.time_input(0.5) == 3.5);
  REQUIRE(guided.input_scale(0.5) == 1.5);
  REQUIRE(guided.sample_shape() == boot::shape{2});
  REQUIRE(guided.prediction().kind == boot::prediction_kind::sample);
  REQUIRE(&guided.teacher() == &teacher);
  STATIC_REQUIRE(has_input_scale<boot::guided<counted>>);
  STATIC_REQUIRE(!has_input_scale<boot::guided<boot::gaussian_mixture<boot::cosine_schedule>>>);
  bench run(4);
  const auto copy = guided;
  const auto first = run(guided, run.label());
  REQUIRE(first == run(copy, run.label()));
  const auto before = boot::memory_use<cpu>().allocations;
  boot::tensor<float, cpu> out(cpu{}, {3, 2});
  guided.predict(cpu{}, boot::view<const float, cpu>(run.x).rows(0, 3), run.times.get().rows(0, 3),
                 run.label().rows(0, 3), out.get());
  REQUIRE(boot::memory_use<cpu>().allocations == before + 1);  // `out` alone
  for (std::int64_t i = 0; i < 6; ++i) REQUIRE(out.data()[i] == first[static_cast<std::size_t>(i)]);
}

TEST_CASE("guided: errors name what was given and what is needed", "[model]") {
  const counted teacher;
  bench run(5);
  REQUIRE_THAT(message_of_guided([&] { boot::guided(teacher, std::nan("")); }),
               ContainsSubstring("guidance scale nan"));
  REQUIRE_THAT(message_of_guided([&] { run(boot::guided(teacher), run.label()); }),
               ContainsSubstring("without boot::guidance_scale"));
}
