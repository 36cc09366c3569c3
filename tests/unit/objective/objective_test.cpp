// SPDX-License-Identifier: MIT
/// Requests, reports and the Objective concept, modelled by every shipped objective.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/objective/objective.hpp>
#include <boot/objective/progressive_distillation.hpp>

#include <limits>
#include <string>

using namespace objective_reference;

static_assert(boot::Objective<boot::bootstrap<toy<float>, toy<float>, boot::cosine_schedule>, boot::cpu>);
static_assert(boot::Objective<boot::fixed_point<toy<float>, toy<float>, boot::cosine_schedule>, boot::cpu>);
static_assert(boot::Objective<boot::denoising<toy<float>, boot::cosine_schedule>, boot::cpu>);
static_assert(boot::Objective<boot::knowledge_distillation<toy<float>, toy<float>, boot::cosine_schedule>, boot::cpu>);
static_assert(
    boot::Objective<boot::progressive_distillation<toy<float>, toy<float>, boot::cosine_schedule>, boot::cpu>);
static_assert(!boot::Objective<int, boot::cpu>);
static_assert(boot::ConditionSource<boot::no_condition_source, boot::cpu>);
static_assert(boot::ConditionSource<toy_labels_source, boot::cpu>);
static_assert(std::same_as<boot::condition_of<toy_labels_source, boot::cpu>, boot::class_labels<boot::cpu>>);
// A teacher or student that would die at once is refused at compile time.
static_assert(!std::constructible_from<boot::bootstrap<toy<float>, toy<float>, boot::cosine_schedule>, toy<float>&&,
                                       toy<float>&, boot::cosine_schedule>);

TEST_CASE("objective: a request's batch is its total, else its count", "[objective]") {
  CHECK(boot::batch_request{.count = 5}.batch() == 5);
  CHECK(boot::batch_request{.count = 5, .total = 12}.batch() == 12);
}

TEST_CASE("objective: reports of parts add up by term", "[objective]") {
  boot::loss_report a, b;
  b.total = 2;
  b.part[0] = {"x", 1.5};
  b.part[1] = {"y", 0.5};
  a += b;
  CHECK(a.total == 2);
  CHECK(a.part[0].first == "x");
  a += b;
  CHECK(a.total == 4);
  CHECK(a.part[0].second == 3);
  CHECK(a.part[1].second == 1);
  CHECK(a.part[2].first.empty());
}

TEST_CASE("objective: a report knows NaN and infinity", "[objective]") {
  boot::loss_report r;
  CHECK(r.finite());
  r.total = 1e300;
  CHECK(r.finite());
  r.total = std::nan("");
  CHECK_FALSE(r.finite());
  r.total = -std::numeric_limits<double>::infinity();
  CHECK_FALSE(r.finite());
}

TEST_CASE("objective: boundary samples are spread evenly and belong to numbers, not to parts", "[objective]") {
  for (const double fraction : {0.0, 0.1, 0.25, 1.0 / 3, 0.5, 0.9, 1.0}) {
    const boot::boundary_samples b("this", 1, fraction);
    std::int64_t seen = 0;
    for (std::int64_t i = 0; i < 1000; ++i) {
      CHECK(b.before(i) == seen);
      seen += b.contains(i) ? 1 : 0;
      CHECK(std::abs(static_cast<double>(seen) - fraction * static_cast<double>(i + 1)) < 1 + 1e-6);
    }
    std::vector<std::int64_t> all, part;
    const std::int64_t inner = b.lay_out({.first = 3, .count = 40, .total = 100}, all);
    CHECK(all.size() == 40);
    CHECK(inner == 40 - (b.before(43) - b.before(3)));
    for (std::size_t i = 0; i < all.size(); ++i) CHECK(b.contains(all[i]) == (static_cast<std::int64_t>(i) >= inner));
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < all.size(); ++i) REQUIRE(all[i] == static_cast<std::int64_t>(i) + 3);
  }
  CHECK(boot::boundary_samples("this", 0, 0.5).fraction() == 0);
  CHECK_THROWS_WITH(boot::boundary_samples("this", -1, 0.5),
                    Catch::Matchers::ContainsSubstring("this boundary_weight = -1"));
  CHECK_THROWS_WITH(boot::boundary_samples("this", 1, 1.5),
                    Catch::Matchers::ContainsSubstring("this boundary_fraction = 1.5"));
}

TEST_CASE("objective: the same request gives the same bits, another seed or step another loss", "[objective]") {
  const boot::cosine_schedule z;
  const toy<float> teacher({boot::prediction_kind::v}, 1);
  toy<float> student({boot::prediction_kind::v}, 2);
  const std::vector<float> data(30, 0.5f);
  const auto check = [](auto loss) {
    boot::loss_report a, b, c, d;
    const auto g = run(loss, {.seed = 1, .step = 5, .count = 9}, a);
    static_cast<void>(run(loss, {.seed = 2, .step = 5, .count = 9}, b));
    static_cast<void>(run(loss, {.seed = 1, .step = 6, .count = 9}, c));
    CHECK(run(loss, {.seed = 1, .step = 5, .count = 9}, d) == g);
    CHECK(a.total == d.total);
    CHECK(a.total != b.total);
    CHECK(a.total != c.total);
    CHECK(norm(g) > 0);
    CHECK(a.total > 0);
    CHECK(loss(boot::cpu{}, {.seed = 1, .count = 0, .total = 9}).total == 0);
  };
  check(boot::bootstrap{teacher, student, z});
  check(boot::fixed_point{teacher, student, z});
  check(boot::denoising{student, z, boot::view<const float, boot::cpu>(data.data(), {10, 3})});
  check(boot::knowledge_distillation{teacher, student, z, {.steps = 2}});
  check(boot::knowledge_distillation{teacher, student, z, {.steps = 2, .pool = 50}});
  check(boot::progressive_distillation{teacher, student, z});
}

TEST_CASE("objective: a fingerprint names the objective and changes with its options", "[objective]") {
  const boot::cosine_schedule z;
  const toy<float> teacher({boot::prediction_kind::v}, 1);
  toy<float> student({boot::prediction_kind::v}, 2);
  const std::vector<float> data(30, 0.5f);
  const boot::view<const float, boot::cpu> rows(data.data(), {10, 3});
  const std::vector<std::string> all{
      boot::bootstrap{teacher, student, z}.fingerprint(),
      boot::bootstrap{teacher, student, z, {.delta = 0.05}}.fingerprint(),
      boot::bootstrap{teacher, student, z, {.own_weight = [](const boot::weight_arguments&) { return 1.0; }}}
          .fingerprint(),
      boot::bootstrap{teacher, student, z, {.time = {.mean = 1}}}.fingerprint(),
      boot::bootstrap{teacher, student, z, {.limits = {-1, 1}}}.fingerprint(),
      boot::fixed_point{teacher, student, z}.fingerprint(),
      boot::fixed_point{teacher, student, z, {.boundary_weight = 1}}.fingerprint(),
      boot::denoising{student, z, rows}.fingerprint(),
      boot::denoising{student, z, rows, {.stratified = false}}.fingerprint(),
      boot::knowledge_distillation{teacher, student, z}.fingerprint(),
      boot::knowledge_distillation{teacher, student, z, {.pool = 9}}.fingerprint(),
      boot::progressive_distillation{teacher, student, z}.fingerprint(),
      boot::progressive_distillation{teacher, student, z, {.phase_steps = 9}}.fingerprint(),
  };
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(all[i] != all[j]);
  CHECK(all[0] == boot::bootstrap{teacher, student, z}.fingerprint());
  CHECK_THAT(all[5], Catch::Matchers::StartsWith("fixed_point"));
}

TEST_CASE("objective: after the first step nothing allocates", "[objective]") {
  const boot::cosine_schedule z;
  const toy<float> teacher({boot::prediction_kind::v}, 1);
  toy<float> student({boot::prediction_kind::v}, 2);
  const std::vector<float> data(30, 0.5f);
  const auto check = [](auto loss) {
    static_cast<void>(loss(boot::cpu{}, {.seed = 1, .step = 0, .count = 32}));
    const auto before = boot::memory_use<boot::cpu>().allocations;
    for (std::int64_t step = 1; step < 20; ++step)
      static_cast<void>(loss(boot::cpu{}, {.seed = 1, .step = step, .count = 32}));
    CHECK(boot::memory_use<boot::cpu>().allocations == before);
  };
  check(boot::bootstrap{teacher, student, z, {.target = boot::target_solver::heun}});
  check(boot::fixed_point{teacher, student, z});
  check(boot::denoising{student, z, boot::view<const float, boot::cpu>(data.data(), {10, 3})});
  check(boot::knowledge_distillation{teacher, student, z, {.steps = 2}});
  check(boot::progressive_distillation{teacher, student, z});
}

TEST_CASE("objective: teacher and student must agree on the sample's shape", "[objective]") {
  struct flat_teacher {
    void predict(const boot::cpu&, boot::view<const float, boot::cpu>, const boot::times<boot::cpu>&,
                 const boot::no_condition&, boot::view<float, boot::cpu>) const {}
    boot::prediction prediction() const { return {}; }
    boot::shape sample_shape() const { return {4}; }
  } const teacher;
  toy<float> student({boot::prediction_kind::v}, 2);
  const boot::cosine_schedule z;
  const auto message = Catch::Matchers::ContainsSubstring("shape [4], the student's [3]");
  CHECK_THROWS_WITH((boot::bootstrap{teacher, student, z}), message);
  CHECK_THROWS_WITH((boot::fixed_point{teacher, student, z}), message);
  CHECK_THROWS_WITH((boot::knowledge_distillation{teacher, student, z}), message);
  CHECK_THROWS_WITH((boot::progressive_distillation{teacher, student, z}), message);
}
