// SPDX-License-Identifier: MIT
// The examples of docs/your_own_model.md: each contract filled by a user's own type, and checked.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/testing/conformance.hpp>
#include <boot/testing/gradient_check.hpp>
#include <boot/train/distiller.hpp>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace {

const boot::cpu dev{1};

// example: schedule
/// A straight line between data and noise that leaves the data slowly. Everything else is derived from these four.
struct slow_start {
  double alpha(double t) const { return 1 - t * t; }
  double sigma(double t) const { return t * t; }
  double t_min() const { return 0.05; }
  double t_max() const { return 1; }
};
static_assert(boot::NoiseSchedule<slow_start>);

TEST_CASE("a schedule of one's own") {
  const slow_start schedule;
  CHECK_NOTHROW(boot::validate_schedule(schedule));   // ordered, finite, noise grows with t
  CHECK(boot::signal_step(schedule, 1.0, 0.5) == 1);  // no signal at t = 1: the step goes all the way to f
  CHECK(boot::schedule_lambda(schedule, 0.5) == Catch::Approx(std::log(0.25 / 0.75)));
}
// example-end: schedule

// example: teacher
/// Knows data whose numbers are -1 or +1 with equal chance: E[x0 | x_t = x] = tanh(alpha x/sigma^2).
struct sign_teacher {
  slow_start schedule;

  template <boot::Condition C>
  void predict(const boot::cpu&, boot::view<const float, boot::cpu> x, const boot::times<boot::cpu>& t, const C&,
               boot::view<float, boot::cpu> out) const {
    const std::int64_t n = x.sample_size();
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double at = t.time[i / n], sigma = schedule.sigma(at);
      out[i] = static_cast<float>(std::tanh(schedule.alpha(at) * static_cast<double>(x[i]) / (sigma * sigma)));
    }
  }
  boot::prediction prediction() const { return {boot::prediction_kind::sample}; }
  boot::shape sample_shape() const { return {3}; }
};
static_assert(boot::Teacher<sign_teacher, boot::cpu>);

TEST_CASE("a teacher of one's own") {
  const slow_start schedule;
  const sign_teacher teacher{schedule};
  const auto report = boot::testing::check_teacher_conformance<float>(dev, teacher, schedule, boot::no_condition{}, 8);
  INFO(report.text());  // one sentence per broken promise
  CHECK(report.passed());
}
// example-end: teacher

// example: network
/// Two residual layers; both times are embedded, that of the target starts at zero.
struct small_network {
  boot::linear in{3, 24}, middle{24, 24}, out{24, 3};
  boot::time_embedding source{{.features = 8}, 24}, target{{.features = 8}, 24};

  small_network() { target.linear_2.zero(); }
  template <class G, class Times, class C>
  typename G::value operator()(G& g, const typename G::value& x, const Times& t_source, const Times& t_target,
                               const C&) const {
    auto h = add(g, in(g, x), source(g, t_source));
    h = add(g, h, target(g, t_target));
    h = add(g, h, middle(g, silu(g, h)));
    return out(g, silu(g, h));
  }
  template <class V>
  void visit(V& v) {  // names for files, checkpoints and messages: "in.weight", "target.linear_1.bias", ...
    v("in", in);
    v("middle", middle);
    v("out", out);
    v("source", source);
    v("target", target);
  }
  boot::shape sample_shape() const { return {3}; }
  double time_input(double t) const { return 10 * t; }  // what the sinusoids read; runs on the host in float64
};

TEST_CASE("a network of one's own is a student and a teacher") {
  boot::network_model student(dev, small_network{}, {boot::prediction_kind::v}, 7);
  static_assert(boot::Student<decltype(student), boot::cpu> && boot::Teacher<decltype(student), boot::cpu>);
  const auto report = boot::testing::check_student_conformance(dev, student, slow_start{}, boot::no_condition{}, 6);
  INFO(report.text());
  CHECK(report.passed());
}

TEST_CASE("its gradient in float64 agrees with finite differences") {
  boot::network_model<small_network, boot::cpu, double> student(dev, small_network{}, {boot::prediction_kind::v}, 7);
  boot::times_buffer<boot::cpu, double> source, target;
  const std::vector<double> x{.3, -1, .2, 2, .5, -.7}, t{.2, .8};
  const auto report = boot::testing::check_student_gradient(
      dev, student, boot::view<const double, boot::cpu>(x.data(), {2, 3}), source.set(dev, student, 1.0, 2),
      target.set(dev, student, t), boot::no_condition{});
  INFO(report.worst_name);
  CHECK(report.worst < 1e-6);
}
// example-end: network

// example: student
/// A Student without a graph: out = (p0 + p1 t) x + p2 + p3 t for a target time t. The way back is written by hand.
template <boot::ComputeScalar T>
class line_student {
 public:
  using scalar_type = T;  // what it computes in; float where a model does not say
  using input = boot::view<const T, boot::cpu>;
  using times = boot::times<boot::cpu, T>;

  /// What record() returns: it keeps what backward() reads. x lives longer than the tape, the times may not.
  class tape {
   public:
    tape(line_student& s, input x, const times& to)
        : student_(&s), x_(x), t_(to_host(dev, to.input)), y_(dev, x.extents()) {
      s.predict(dev, x, to, to, boot::no_condition{}, y_.get());
    }
    input output() const { return y_.get(); }
    void backward(const boot::cpu&, input gradient) {
      const auto g = student_->parameters().gradient(0);
      for (std::int64_t i = 0; i < x_.size(); ++i) {
        const T t = t_[static_cast<std::size_t>(i / x_.sample_size())];
        g[0] += gradient[i] * x_[i];  // adds: the caller clears, and other tapes may have written already
        g[1] += gradient[i] * x_[i] * t;
        g[2] += gradient[i];
        g[3] += gradient[i] * t;
      }
    }

   private:
    line_student* student_;
    input x_;
    std::vector<T> t_;
    boot::tensor<T, boot::cpu> y_;
  };

  line_student() : arena_(dev, boot::parameter_layout(network_)) { arena_.initialize(dev, 0); }
  template <boot::Condition C>
  void predict(const boot::cpu&, input x, const times&, const times& to, const C&, boot::view<T, boot::cpu> out) const {
    const auto p = arena_.values();
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const T t = to.input[i / x.sample_size()];
      out[i] = (p[0] + p[1] * t) * x[i] + p[2] + p[3] * t;
    }
  }
  template <boot::Condition C>
  tape record(const boot::cpu&, input x, const times&, const times& to, const C&) {
    return {*this, x, to};
  }
  boot::parameter_arena<T, boot::cpu>& parameters() { return arena_; }
  boot::prediction prediction() const { return {boot::prediction_kind::sample}; }
  boot::shape sample_shape() const { return {3}; }

 private:
  struct network {
    boot::parameter line{{4}, {boot::initializer::rule::normal, 0.1}};
    template <class V>
    void visit(V& v) {
      v("line", line);
    }
  };
  network network_;
  boot::parameter_arena<T, boot::cpu> arena_;
};
static_assert(boot::Student<line_student<float>, boot::cpu>);

TEST_CASE("a student written by hand") {
  line_student<float> student;
  const auto report = boot::testing::check_student_conformance(dev, student, slow_start{}, boot::no_condition{}, 6);
  INFO(report.text());
  CHECK(report.passed());

  line_student<double> precise;
  boot::times_buffer<boot::cpu, double> source, target;
  const std::vector<double> x{.3, -1, .2, 2, .5, -.7}, t{.2, .8};
  const auto gradient = boot::testing::check_student_gradient(
      dev, precise, boot::view<const double, boot::cpu>(x.data(), {2, 3}), source.set(dev, precise, 1.0, 2),
      target.set(dev, precise, t), boot::no_condition{});
  CHECK(gradient.worst < 1e-6);
}
// example-end: student

// example: condition
/// A prompt: four numbers per sample. `none` holds what stands for "no prompt", row by row, for guidance.
struct prompt {
  boot::view<const float, boot::cpu> vectors, none;  // [batch, 4] each

  prompt rows(std::int64_t first, std::int64_t count) const {
    return {vectors.rows(first, count), none.rows(first, count)};
  }
  prompt null() const { return {none, none}; }
};
static_assert(boot::Condition<prompt>);

/// Takes the prompt where the condition holds one, alone or as a part of boot::conditions.
struct prompted_network {
  boot::linear in{3, 16}, prompt_in{4, 16}, out{16, 3};
  boot::time_embedding target{{.features = 8}, 16};

  template <class G, class Times, class C>
  typename G::value operator()(G& g, const typename G::value& x, const Times&, const Times& t_target,
                               const C& condition) const {
    auto h = add(g, in(g, x), target(g, t_target));
    h = add(g, h, prompt_in(g, g.input(boot::condition_part<prompt>(condition).vectors)));
    return out(g, silu(g, h));
  }
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("prompt_in", prompt_in);
    v("out", out);
    v("target", target);
  }
  boot::shape sample_shape() const { return {3}; }
};
// example-end: condition

// example: condition-source
/// A table of prompts: which one a sample gets is a function of seed, step and the sample's number, and of nothing else.
class prompt_table {
 public:
  explicit prompt_table(std::vector<float> table) : table_(std::move(table)) {}

  prompt operator()(const boot::cpu&, std::uint64_t seed, std::int64_t step, std::span<const std::int64_t> samples) {
    const auto batch = static_cast<std::int64_t>(samples.size());
    const auto prompts = static_cast<std::uint32_t>(table_.size() / 4);
    chosen_.clear();
    none_.assign(samples.size() * 4, 0.0f);
    for (const std::int64_t i : samples) {
      const boot::counter_key key{seed, boot::stream::condition, static_cast<std::uint64_t>(step)};
      const std::uint32_t row = boot::uniform_index(prompts, key, static_cast<std::uint64_t>(i), 0);
      chosen_.insert(chosen_.end(), table_.begin() + row * 4, table_.begin() + row * 4 + 4);
    }
    return {{chosen_.data(), {batch, 4}}, {none_.data(), {batch, 4}}};  // valid until the next call
  }

 private:
  std::vector<float> table_, chosen_, none_;
};
static_assert(boot::ConditionSource<prompt_table, boot::cpu>);

TEST_CASE("prompts of one's own reach teacher and student") {
  const slow_start schedule;
  const sign_teacher teacher{schedule};
  boot::network_model student(dev, prompted_network{}, {boot::prediction_kind::v}, 3);
  prompt_table source({1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0});

  const std::vector<std::int64_t> samples{0, 1, 2, 3, 4, 5};
  const auto report = boot::testing::check_student_conformance(dev, student, schedule, source(dev, 1, 0, samples), 6);
  INFO(report.text());
  CHECK(report.passed());

  boot::bootstrap loss(teacher, student, schedule, {}, source);
  CHECK(loss(dev, {.seed = 1, .count = 32}).finite());
}
// example-end: condition-source

// example: objective
/// The boundary at every target time: the mean over samples and elements of (y(eps, t) - f(sigma_T eps, t_max))^2.
template <class Teacher, class Student, boot::NoiseSchedule Schedule>
class boundary_everywhere {
 public:
  boundary_everywhere(const Teacher& teacher, Student& student, Schedule schedule)
      : teacher_(&teacher), student_(&student), schedule_(std::move(schedule)) {}

  /// Loss of one part of a batch; its gradient is added to the student's.
  boot::loss_report operator()(const boot::cpu& on, const boot::batch_request& r) {
    const auto step = static_cast<std::uint64_t>(r.step);
    const double t_max = schedule_.t_max(), t_min = schedule_.t_min();
    std::vector<std::int64_t> samples(static_cast<std::size_t>(r.count));
    std::iota(samples.begin(), samples.end(), r.first);
    std::vector<double> t;  // everything random is a function of seed, step and the sample's number
    for (const std::int64_t i : samples)
      t.push_back(t_min + (t_max - t_min) * boot::uniform_double({r.seed, boot::stream::time, step},
                                                                 static_cast<std::uint64_t>(i), 0));
    const boot::shape all = student_->sample_shape().batched(r.count);
    boot::tensor<float, boot::cpu> x(on, all), f(on, all), gradient(on, all);
    boot::fill_noise(on, {r.seed, boot::stream::noise, step}, samples, x.get());
    for (std::int64_t i = 0; i < x.size(); ++i) x.data()[i] *= static_cast<float>(schedule_.sigma(t_max));

    const boot::no_condition none;
    teacher_->predict(on, std::as_const(x).get(), teacher_times_.set(on, *teacher_, t_max, r.count), none, f.get());
    auto tape = student_->record(on, std::as_const(x).get(), source_.set(on, *student_, t_max, r.count),
                                 target_.set(on, *student_, t), none);
    // Raw outputs become clean signals by a x + b out; a student's a and b are always those of t_max.
    const auto of_teacher = boot::clean_signal_at(teacher_->prediction(), schedule_, t_max);
    const auto of_student = boot::student_signal(student_->prediction(), schedule_);
    const double share = 1 / static_cast<double>(r.batch() * all.sample_size());
    double sum = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const auto in = static_cast<double>(x.data()[i]), out = static_cast<double>(tape.output()[i]);
      const double wanted = of_teacher.a * in + of_teacher.b * static_cast<double>(f.data()[i]);
      const double off = of_student.a * in + of_student.b * out - wanted;
      sum += share * off * off;
      gradient.data()[i] = static_cast<float>(2 * share * off * of_student.b);
    }
    tape.backward(on, gradient);
    boot::loss_report report;
    report.total = sum;
    report.part[0] = {"boundary", sum};
    return report;
  }
  Student& student() const { return *student_; }
  /// For the dry run.
  boot::objective_cost describe(std::int64_t batch) const {
    return {.teacher_samples = static_cast<double>(batch), .student_recorded_samples = static_cast<double>(batch)};
  }

 private:
  const Teacher* teacher_;
  Student* student_;
  Schedule schedule_;
  boot::times_buffer<boot::cpu> teacher_times_, source_, target_;
};

TEST_CASE("an objective of one's own trains in the same loop") {
  const slow_start schedule;
  const sign_teacher teacher{schedule};
  boot::network_model student(dev, small_network{}, {boot::prediction_kind::v}, 5);
  boundary_everywhere loss(teacher, student, schedule);
  static_assert(boot::Objective<decltype(loss), boot::cpu>);

  const double whole = loss(dev, {.seed = 3, .count = 64}).total;
  boot::loss_report parts = loss(dev, {.seed = 3, .first = 0, .count = 40, .total = 64});
  parts += loss(dev, {.seed = 3, .first = 40, .count = 24, .total = 64});
  CHECK(parts.total == Catch::Approx(whole).epsilon(1e-6));  // a batch may be cut into parts

  boot::distiller trainer{dev, loss, {.steps = 150, .batch = 64, .progress = boot::progress_mode::off}};
  trainer.run();
  CHECK(loss(dev, {.seed = 3, .count = 64}).total < 0.5 * whole);
}
// example-end: objective

// example: operation
/// y = sin(x), an operation of the user's own. `saves` says what backward() reads: bit 0 is operand 0.
struct sine_op {
  static constexpr unsigned saves = 0b1;
  boot::shape result(const boot::shape& x) const { return x; }
  template <class C>
  void forward(const boot::cpu& on, C& c) const {
    boot::parallel_for(on, c.out.size(), [&](std::int64_t i) { c.out[i] = std::sin(c.in[0][i]); });
  }
  template <class C>
  void backward(const boot::cpu& on, C& c) const {
    boot::parallel_for(on, c.out_gradient.size(), [&](std::int64_t i) {
      const auto slope = c.out_gradient[i] * std::cos(c.in[0][i]);
      c.gradient[0][i] = c.accumulate[0] ? c.gradient[0][i] + slope : slope;  // write, or add to what is there
    });
  }
};

template <class G>
typename G::value sine(G& g, const typename G::value& x) {
  return g.apply(sine_op{}, x);
}

struct one_parameter {
  boot::parameter p{{2, 5}, {}};
  template <class V>
  void visit(V& v) {
    v("p", p);
  }
};

TEST_CASE("an operation of one's own") {
  one_parameter network;
  const auto report = boot::testing::check_graph_gradient(dev, network, [&](auto& g) {
    const auto once = sine(g, g(network.p));
    return add(g, sine(g, once), once);  // used twice: the gradient is written once and added to once
  });
  CHECK(report.worst < 1e-6);
}
// example-end: operation

// example: distance
/// rho(r) = 2 log cosh r: r^2 for small r, 2 |r| for large r. For a CUDA device both functions would be BOOT_HD.
struct log_cosh_distance {
  template <class T>
  T value(T r) const noexcept {
    const T size = std::abs(r);  // log cosh r = |r| + log(1 + exp(-2|r|)) - log 2, which does not overflow
    return T{2} * (size + std::log1p(std::exp(T{-2} * size)) - static_cast<T>(0.6931471805599453));
  }
  template <class T>
  T derivative(T r) const noexcept {
    return T{2} * std::tanh(r);
  }
};

TEST_CASE("a distance, a weight and a distribution of times of one's own") {
  const slow_start schedule;
  const sign_teacher teacher{schedule};
  boot::network_model student(dev, small_network{}, {boot::prediction_kind::v}, 5);

  boot::bootstrap_options options;
  options.own_weight = [](const boot::weight_arguments& w) { return 1 / std::sqrt(std::abs(w.step)); };
  options.time.own = [](double u, double /*progress*/) { return u * u; };  // more of the times near the data
  boot::bootstrap squared(teacher, student, schedule, options);
  boot::bootstrap robust(teacher, student, schedule, options, boot::no_condition_source{}, log_cosh_distance{});

  // 2 log cosh r <= r^2, and the noise, times and weights are the same in both.
  const double plain = squared(dev, {.seed = 1, .count = 64}).total,
               softened = robust(dev, {.seed = 1, .count = 64}).total;
  CHECK(softened > 0);
  CHECK(softened < plain);
}
// example-end: distance

}  // namespace
