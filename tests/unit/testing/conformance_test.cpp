// SPDX-License-Identifier: MIT
// The conformance checks pass the shipped models, and name what is wrong with models that break one promise each.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/conformance.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using input = boot::view<const float, boot::cpu>;
using output = boot::view<float, boot::cpu>;
using times_type = boot::times<boot::cpu, float>;
using model = boot::network_model<boot::mlp, boot::cpu, float>;

boot::mlp_options small_options(bool target_time) {
  boot::mlp_options o;
  o.features = 5;
  o.width = 19;
  o.hidden_layers = 2;
  o.time.features = 8;
  o.time_scale = 10;
  o.target_time = target_time;
  return o;
}
model small_student() { return {boot::cpu{}, boot::mlp(small_options(true)), {boot::prediction_kind::v}, 3}; }

enum class fault { none, unwritten, writes_input, random, looks_at_batch };

struct faulty_teacher {
  fault f = fault::none;
  mutable int calls = 0;
  void predict(const boot::cpu&, input x, const times_type&, const boot::no_condition&, output out) const {
    ++calls;
    for (std::int64_t i = 0; i < x.size(); ++i) out[i] = 2 * x[i];
    if (f == fault::unwritten) out[x.size() - 1] = std::numeric_limits<float>::quiet_NaN();
    if (f == fault::writes_input) const_cast<float*>(x.data())[0] = 7;
    if (f == fault::random) out[0] += static_cast<float>(calls);
    if (f == fault::looks_at_batch) out[0] += static_cast<float>(x.batch());
  }
  static boot::prediction prediction() { return {boot::prediction_kind::sample}; }
  static boot::shape sample_shape() { return {2, 3}; }
};

enum class student_fault { none, overwrites, shared_output, other_output, moves_weights };

// y = a x + b t_target with the two numbers a and b in one parameter.
class line_student {
 public:
  struct network {
    boot::parameter line{{2}, {boot::initializer::rule::constant, 0.5}};
    template <class V>
    void visit(V& v) {
      v("line", line);
    }
  };
  class tape {
   public:
    tape(line_student& s, input x, const times_type& t)
        : s_(s), t_(t.time.data(), t.time.data() + t.batch()), shape_(x.extents()) {
      x_.assign(x.data(), x.data() + x.size());
      auto& y = s_.fault_ == student_fault::shared_output ? s_.shared_ : y_;
      y.resize(x_.size());
      s_.fill(x, t, y.data());
      if (s_.fault_ == student_fault::other_output) y[0] += 1;
    }
    [[nodiscard]] input output() const {
      return {s_.fault_ == student_fault::shared_output ? s_.shared_.data() : y_.data(), shape_};
    }
    void backward(const boot::cpu&, input gradient) {
      const auto g = s_.parameters().gradient();
      if (s_.fault_ == student_fault::overwrites) g[0] = g[1] = 0;
      const auto n = static_cast<std::size_t>(shape_.sample_size());
      for (std::size_t i = 0; i < x_.size(); ++i) {
        g[0] += gradient[static_cast<std::int64_t>(i)] * x_[i];
        g[1] += gradient[static_cast<std::int64_t>(i)] * static_cast<float>(t_[i / n]);
      }
      if (s_.fault_ == student_fault::moves_weights) s_.parameters().values()[0] += 1e-3f;
    }

   private:
    line_student& s_;
    std::vector<double> t_;
    boot::shape shape_;
    std::vector<float> x_, y_;
  };

  explicit line_student(student_fault f) : fault_(f), arena_(boot::cpu{}, boot::parameter_layout(network_)) {
    arena_.initialize(boot::cpu{}, 0);
  }
  void predict(const boot::cpu&, input x, const times_type&, const times_type& to, const boot::no_condition&,
               output out) const {
    fill(x, to, out.data());
  }
  [[nodiscard]] tape record(const boot::cpu&, input x, const times_type&, const times_type& to,
                            const boot::no_condition&) {
    return {*this, x, to};
  }
  boot::parameter_arena<float, boot::cpu>& parameters() { return arena_; }
  static boot::prediction prediction() { return {boot::prediction_kind::sample}; }
  static boot::shape sample_shape() { return {3}; }

 private:
  void fill(input x, const times_type& to, float* y) const {
    const auto p = arena_.values();
    for (std::int64_t i = 0; i < x.size(); ++i)
      y[i] = p[0] * x[i] + p[1] * static_cast<float>(to.time[i / x.sample_size()]);
  }
  student_fault fault_;
  network network_;
  boot::parameter_arena<float, boot::cpu> arena_;
  std::vector<float> shared_;
};
static_assert(boot::Student<line_student, boot::cpu>);

}  // namespace

TEST_CASE("shipped teachers keep the contract", "[testing][conformance]") {
  const boot::cosine_schedule schedule;
  const boot::gaussian_mixture mixture(schedule, {{1, {1, 0, 2}, .3, 0}, {2, {-1, 1, 0}, .2, 1}});
  const auto unconditional =
      boot::testing::check_teacher_conformance<float>(boot::cpu{}, mixture, schedule, boot::no_condition{}, 7);
  CHECK(unconditional.text() == "");
  CHECK(unconditional.checks >= 7);
  const std::array<std::int32_t, 4> ids{0, 1, -1, 1};
  const boot::class_labels<boot::cpu> labels{{ids.data(), {4}}};
  CHECK(boot::testing::check_teacher_conformance<double>(boot::cpu{}, mixture, schedule, labels, 4).text() == "");
  const model network(boot::cpu{}, boot::mlp(small_options(false)), {boot::prediction_kind::v}, 1);
  CHECK(
      boot::testing::check_teacher_conformance<float>(boot::cpu{}, network, schedule, boot::no_condition{}, 9).text() ==
      "");
}

TEST_CASE("a shipped student keeps the contract", "[testing][conformance]") {
  model student = small_student();
  for (float& v :
       std::span(student.parameters().values().data(), static_cast<std::size_t>(student.parameters().layout().size())))
    v += 0.01f;  // the target-time embedding starts at zero and would take no part
  const auto report =
      boot::testing::check_student_conformance(boot::cpu{}, student, boot::cosine_schedule{}, boot::no_condition{}, 6);
  CHECK(report.text() == "");
  CHECK(report.checks >= 15);
  for (const float g : boot::to_host(boot::cpu{}, student.parameters().gradient())) REQUIRE(g == 0);
}

TEST_CASE("a teacher that breaks a promise is told which", "[testing][conformance]") {
  const auto check = [](fault f) {
    return boot::testing::check_teacher_conformance<float>(boot::cpu{}, faulty_teacher{f}, boot::cosine_schedule{},
                                                           boot::no_condition{}, 4);
  };
  CHECK(check(fault::none).passed());
  CHECK_THAT(check(fault::unwritten).text(), ContainsSubstring("leaves elements of out unwritten"));
  CHECK_THAT(check(fault::writes_input).text(), ContainsSubstring("writes to its input"));
  CHECK_THAT(check(fault::random).text(), ContainsSubstring("different bits for the same input"));
  CHECK_THAT(check(fault::looks_at_batch).text(), ContainsSubstring("depend on the others of its batch"));
  CHECK_THROWS_AS(boot::testing::check_teacher_conformance<float>(boot::cpu{}, faulty_teacher{},
                                                                  boot::cosine_schedule{}, boot::no_condition{}, 1),
                  boot::error);
}

TEST_CASE("a student that breaks a promise is told which", "[testing][conformance]") {
  const auto check = [](student_fault f) {
    line_student student(f);
    return boot::testing::check_student_conformance(boot::cpu{}, student, boot::cosine_schedule{}, boot::no_condition{},
                                                    4);
  };
  CHECK(check(student_fault::none).text() == "");
  CHECK_THAT(check(student_fault::overwrites).text(), ContainsSubstring("does not add its own gradient"));
  CHECK_THAT(check(student_fault::shared_output).text(), ContainsSubstring("a tape's output changes"));
  CHECK_THAT(check(student_fault::other_output).text(), ContainsSubstring("another output than predict()"));
  CHECK_THAT(check(student_fault::moves_weights).text(), ContainsSubstring("changes the weights"));
}

TEST_CASE("the distance from the boundary is 0 for student_of and not for another student", "[testing][conformance]") {
  const boot::cpu dev;
  const boot::cosine_schedule schedule;
  const model teacher(dev, boot::mlp(small_options(false)), {boot::prediction_kind::v}, 1);
  const auto student = boot::student_of(dev, teacher);
  const std::array<double, 4> targets{schedule.t_min(), 0.3, 0.77, schedule.t_max()};
  const auto distance = [&](const model& s) {
    return boot::testing::distance_from_boundary(dev, teacher, s, schedule, boot::no_condition{}, 5,
                                                 std::span<const double>(targets));
  };
  CHECK(distance(student) == 0);
  CHECK(distance(small_student()) > 0.1);
}
