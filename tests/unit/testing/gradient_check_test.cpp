// SPDX-License-Identifier: MIT
// The gradient check passes right gradients, and finds wrong ones: a scale, one element, a frozen parameter.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/testing/gradient_check.hpp>

#include <cmath>
#include <string_view>
#include <vector>

namespace {

struct two_parameters {
  boot::parameter a{{3}, {}}, b{{2, 5}, {}};
  template <class V>
  void visit(V& v) {
    v("a", a);
    v("b", b);
  }
};

// L = sum_i exp(a_i) + a_0 sum b^3 / 3.
double loss_of(const boot::parameter_arena<double, boot::cpu>& arena) {
  const double* p = arena.values().data();
  const auto& e = arena.layout().entries();
  double sum = 0, cubes = 0;
  for (int i = 0; i < 3; ++i) sum += std::exp(p[e[0].offset + i]);
  for (int i = 0; i < 10; ++i) cubes += std::pow(p[e[1].offset + i], 3) / 3;
  return sum + p[e[0].offset] * cubes;
}

struct fixture {
  two_parameters network;
  boot::cpu dev;
  boot::parameter_arena<double, boot::cpu> arena{dev, boot::parameter_layout(network)};
  fixture() {
    auto a = arena.value(0), b = arena.value(1);
    for (int i = 0; i < 3; ++i) a[i] = 0.3 * i - 0.7;
    for (int i = 0; i < 10; ++i) b[i] = 0.2 * i - 0.9;
    double cubes = 0;
    for (int i = 0; i < 10; ++i) cubes += std::pow(b[i], 3) / 3;
    auto da = arena.gradient(0), db = arena.gradient(1);
    for (int i = 0; i < 3; ++i) da[i] = std::exp(a[i]) + (i == 0 ? cubes : 0);
    for (int i = 0; i < 10; ++i) db[i] = a[0] * b[i] * b[i];
  }
};

}  // namespace

TEST_CASE("the right gradient passes far below the bound, and the values stay", "[testing][gradient]") {
  fixture f;
  const auto before = boot::to_host(f.dev, f.arena.values());
  const auto report = boot::testing::compare_gradient(f.dev, f.arena, [&] { return loss_of(f.arena); });
  CHECK(report.worst < 1e-9);
  CHECK(report.elements == 13);
  CHECK(report.gradient_norm > 0.5);
  CHECK(boot::to_host(f.dev, f.arena.values()) == before);
  boot::testing::gradient_check_options few;
  few.most_per_parameter = 2;
  CHECK(boot::testing::compare_gradient(
            f.dev, f.arena, [&] { return loss_of(f.arena); }, few)
            .elements == 4);
}

TEST_CASE("wrong gradients are found and named", "[testing][gradient]") {
  fixture f;
  const auto check = [&] { return boot::testing::compare_gradient(f.dev, f.arena, [&] { return loss_of(f.arena); }); };
  SECTION("one element") {
    f.arena.gradient(1)[7] += 1e-3;
    const auto report = check();
    CHECK(report.worst_tensor > 1e-4);
    CHECK(report.worst_name == "b");
    CHECK(report.worst_direction > 0);
  }
  SECTION("a factor") {
    for (int i = 0; i < 3; ++i) f.arena.gradient(0)[i] *= 1.01;
    const auto report = check();
    CHECK(report.worst_tensor == Catch::Approx(0.01).epsilon(1e-6));
    CHECK(report.worst_name == "a");
  }
  SECTION("NaN") {
    f.arena.gradient(0)[1] = std::nan("");
    CHECK(std::isinf(check().worst));
  }
  SECTION("a gradient of a frozen parameter") {
    f.arena.layout().assign_group({"frozen", false, 0, 0}, [](std::string_view name) { return name == "a"; });
    const auto report = check();
    CHECK(std::isinf(report.worst));
    CHECK(report.worst_name == "a");
    for (int i = 0; i < 3; ++i) f.arena.gradient(0)[i] = 0;
    CHECK(check().worst < 1e-9);
  }
  SECTION("options that make no sense") {
    boot::testing::gradient_check_options options;
    options.step = 0;
    CHECK_THROWS_AS(boot::testing::compare_gradient(
                        f.dev, f.arena, [] { return 0.0; }, options),
                    boot::error);
  }
}

TEST_CASE("a student in float64 is checked through its own tape", "[testing][gradient]") {
  const boot::cpu dev;
  boot::mlp_options o;
  o.features = 3;
  o.width = 7;
  o.hidden_layers = 2;
  o.time.features = 6;
  o.time_scale = 4;
  o.target_time = true;
  boot::network_model<boot::mlp, boot::cpu, double> student(dev, boot::mlp(o), {boot::prediction_kind::sample}, 5);
  const int last = student.parameters().layout().find("target_embedding.linear_2.weight");
  REQUIRE(last >= 0);
  for (std::int64_t i = 0; i < student.parameters().value(last).size(); ++i)
    student.parameters().value(last)[i] = 0.1 * static_cast<double>(i % 5) - 0.2;
  std::vector<double> numbers(4 * 3), t{0.1, 0.4, 0.4, 0.9};
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::sin(static_cast<double>(i));
  const auto x = boot::tensor_of<double>(dev, std::span<const double>(numbers), {4, 3});
  boot::times_buffer<boot::cpu, double> from, to;
  const auto report = boot::testing::check_student_gradient(dev, student, x.get(), from.set(dev, student, 1.0, 4),
                                                            to.set(dev, student, t), boot::no_condition{});
  INFO(report.worst_name);
  CHECK(report.worst < 1e-8);
  CHECK(report.elements == student.parameters().layout().count());
}
