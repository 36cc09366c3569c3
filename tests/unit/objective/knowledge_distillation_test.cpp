// SPDX-License-Identifier: MIT
/// Direct distillation against float64 endpoints of the teacher's own trajectory, online and from a stored pool.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/objective/knowledge_distillation.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/heun.hpp>

#include <set>
#include <string>

using namespace objective_reference;
using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

namespace {

// y_T = f(sigma_T eps), x_T = alpha_T y_T + sigma_T eps, then DDIM (or exponential Heun) in x, and y from the last x.
vec endpoint(const teacher_signal& f, const any_schedule& z, std::int64_t steps, boot::target_solver solver,
             const vec& eps, int label) {
  const double range = z.high - z.low;
  vec y = f(combine(z.sigma(z.high), eps, 0, eps), z.high, label);
  vec x = combine(z.alpha(z.high), y, z.sigma(z.high), eps);
  for (std::int64_t i = 0; i < steps; ++i) {
    const double n = static_cast<double>(steps), t = z.high - range * static_cast<double>(i) / n;
    const double s = i + 1 == steps ? z.low : z.high - range * static_cast<double>(i + 1) / n;
    const vec f1 = f(x, t, label);
    const double ratio = z.sigma(s) / z.sigma(t);
    vec next = combine(ratio, x, z.alpha(s) - z.alpha(t) * ratio, f1);
    if (solver == boot::target_solver::heun) {
      const vec f2 = f(next, s, label);
      const double h = heun_between(z, t, s) * z.alpha(s);
      next = combine(1, next, h, combine(1, f2, -1, f1));
    }
    x = next;
  }
  return combine(1 / z.alpha(z.low), x, -z.sigma(z.low) / z.alpha(z.low), eps);
}

using setup = toy_pair<51>;

std::vector<term> reference(const toy<double>& student, const teacher_signal& f, const any_schedule& z, bool labelled,
                            const boot::knowledge_distillation_options& o, const boot::batch_request& r) {
  std::vector<term> terms;
  for (std::int64_t i = r.first; i < r.first + r.count; ++i) {
    std::int64_t sample = i, step = r.step;
    if (o.pool > 0) {
      sample = boot::uniform_index(static_cast<std::uint32_t>(o.pool),
                                   {r.seed, boot::stream::shuffle, static_cast<std::uint64_t>(r.step)},
                                   static_cast<std::uint64_t>(i), 0);
      step = (std::int64_t{1} << 40) - 1;
    }
    const vec eps = noise(r.seed, step, sample);
    const int label = labelled ? label_of(r.seed, step, sample) : -1;
    const double sigma = z.sigma(z.high);
    terms.push_back({combine(sigma, eps, 0, eps), z.high, z.low, label, student.prediction(), z.alpha(z.high), sigma,
                     endpoint(f, z, o.steps, o.target, eps, label),
                     1 / (toy_features * static_cast<double>(r.batch()))});
  }
  return terms;
}

template <class Objective>
void check(Objective& objective, const toy<double>& student, const std::vector<term>& terms,
           const boot::batch_request& request, const rho& distance, double tolerance) {
  boot::loss_report report;
  const vec gradient = run(objective, request, report);
  CHECK(report.part[0].first == "knowledge_distillation");
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(student, terms, distance), tolerance));
  check_gradient(gradient, student, terms, distance, tolerance);
}

const boot::batch_request whole{.seed = 4, .step = 6, .first = 0, .count = 12, .total = 12, .progress = 0.5};

}  // namespace

TEST_CASE("knowledge_distillation: loss and gradient, online and stored, both solvers, every schedule",
          "[objective][knowledge_distillation]") {
  const std::string name = GENERATE("cosine", "cosine_short", "flow", "linear", "edm");
  const auto solver = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  const std::int64_t pool = GENERATE(0, 7), steps = GENERATE(1, 6);
  CAPTURE(name, static_cast<int>(solver), pool, steps);
  setup m(name, prediction_kind::v, prediction_kind::v);
  const boot::knowledge_distillation_options o{.steps = steps, .target = solver, .pool = pool, .pool_batch = 3};
  boot::knowledge_distillation loss{m.teacher, m.student, m.schedule, o};
  check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole), whole, square(), 1e-10);
}

TEST_CASE("knowledge_distillation: every kind of teacher with every kind of student",
          "[objective][knowledge_distillation]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  for (const auto teacher_kind : kinds_for(schedule_called(name)))
    for (const auto student_kind : kinds_for(schedule_called(name))) {
      CAPTURE(name, boot::to_string(teacher_kind), boot::to_string(student_kind));
      setup m(name, teacher_kind, student_kind);
      const boot::knowledge_distillation_options o{.steps = 4};
      boot::knowledge_distillation loss{m.teacher, m.student, m.schedule, o};
      check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole), whole, square(),
            1e-9);
    }
}

TEST_CASE("knowledge_distillation: labels, guidance, clip and distance, online and stored",
          "[objective][knowledge_distillation]") {
  const std::int64_t pool = GENERATE(0, 7);
  setup m("edm", prediction_kind::sample, prediction_kind::v);
  boot::knowledge_distillation_options o{.steps = 4, .pool = pool, .limits = {-0.3, 0.15}};
  const toy_guided<double> guided{&m.teacher};
  SECTION("guidance and clip") {
    boot::knowledge_distillation<toy_guided<double>, toy<double>, any_schedule, toy_labels_source> loss(
        guided, m.student, m.schedule, o);
    check(loss, m.student, reference(m.student, m.signal(o, true, true), m.schedule, true, o, whole), whole, square(),
          1e-10);
    CHECK(loss.describe(10).teacher_samples == (pool > 0 ? 0 : 10 * 2 * 5));
  }
  SECTION("labels and pseudo-Huber") {
    boot::knowledge_distillation<toy<double>, toy<double>, any_schedule, toy_labels_source, boot::pseudo_huber_distance>
        loss(m.teacher, m.student, m.schedule, o, {}, {0.05});
    check(loss, m.student, reference(m.student, m.signal(o, true), m.schedule, true, o, whole), whole, huber(0.05),
          1e-9);
  }
}

TEST_CASE("knowledge_distillation: its endpoints are the samplers'", "[objective][knowledge_distillation]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  CAPTURE(name);
  setup m(name, prediction_kind::v, prediction_kind::v);
  vec eps;
  for (std::int64_t i = 0; i < 4; ++i)
    for (const double v : noise(1, 0, i)) eps.push_back(v);
  const boot::view<const double, boot::cpu> from(eps.data(), {4, toy_features});
  vec ours(eps.size(), std::nan("")), theirs(eps.size(), std::nan(""));
  const boot::view<double, boot::cpu> a(ours.data(), from.extents()), b(theirs.data(), from.extents());
  boot::teacher_trajectory<toy<double>, boot::no_condition, double, boot::cpu> follow;
  follow({}, m.teacher, m.schedule, 7, boot::target_solver::euler, {}, from, {}, a);
  boot::ddim_sample(boot::cpu{}, m.teacher, m.schedule, boot::no_condition{}, from, {.steps = 7}, b);
  CHECK(relative_difference(ours, theirs) <= 1e-13);
  follow({}, m.teacher, m.schedule, 7, boot::target_solver::heun, {}, from, {}, a);
  boot::heun_sample(boot::cpu{}, m.teacher, m.schedule, boot::no_condition{}, from, {.steps = 7}, b);
  CHECK(relative_difference(ours, theirs) <= 1e-13);
}

TEST_CASE("knowledge_distillation: the pool is made once per seed, and again the same",
          "[objective][knowledge_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  toy<double>::log_type calls, student_calls;
  m.teacher.log = &calls;
  m.student.log = &student_calls;
  const boot::knowledge_distillation_options o{.steps = 4, .pool = 9, .pool_batch = 4};
  boot::knowledge_distillation loss{m.teacher, m.student, m.schedule, o};
  boot::loss_report a, b, c;
  const vec first = run(loss, whole, a);
  const std::size_t made = calls.size();
  CHECK(made == 9 * 4);  // cosine: alpha = 0 at t_max, no extra call for the start
  auto later = whole;
  later.step = 7;
  static_cast<void>(run(loss, later, b));
  CHECK(calls.size() == made);
  CHECK(a.total != b.total);
  std::set<vec> noises;
  for (const auto& k : student_calls) noises.insert(k.x);
  CHECK(noises.size() <= 9);
  CHECK(noises.size() > 5);
  // A resumed run: a fresh objective that begins at step 7.
  boot::knowledge_distillation resumed{m.teacher, m.student, m.schedule, o};
  static_cast<void>(run(resumed, later, c));
  CHECK(c.total == b.total);
  auto other = whole;
  other.seed = 5;
  static_cast<void>(run(loss, other, c));
  CHECK(calls.size() == 3 * made);
}

TEST_CASE("knowledge_distillation: two half requests add up to the whole, bit by bit per sample",
          "[objective][knowledge_distillation]") {
  setup m("edm", prediction_kind::v, prediction_kind::v);
  const std::int64_t pool = GENERATE(0, 30);
  boot::knowledge_distillation<toy<double>, toy<double>, any_schedule, toy_labels_source> loss(
      m.teacher, m.student, m.schedule, {.steps = 3, .pool = pool});
  check_halves(loss, whole, 5);
}

TEST_CASE("knowledge_distillation: float agrees with double", "[objective][knowledge_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const boot::knowledge_distillation_options o{.steps = 8};
  const auto teacher = m.teacher.as<float>();
  auto student = m.student.as<float>();
  boot::knowledge_distillation loss{teacher, student, m.schedule, o};
  boot::loss_report report;
  const vec g = run(loss, whole, report);
  const auto terms = reference(m.student, m.signal(o, false), m.schedule, false, o, whole);
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(m.student, terms, square()), 1e-5));
  CHECK(relative_difference(g, gradient_of(m.student, terms, square())) <= 1e-5);
}

TEST_CASE("knowledge_distillation: wrong options and pairs are refused with a sentence",
          "[objective][knowledge_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const auto made_with = [&](boot::knowledge_distillation_options o) {
    boot::knowledge_distillation loss{m.teacher, m.student, m.schedule, o};
  };
  CHECK_THROWS_WITH(made_with({.steps = 0}), ContainsSubstring("needs at least 1, 16 is a good start"));
  CHECK_THROWS_WITH(made_with({.pool = -1}), ContainsSubstring("pool of -1"));
  CHECK_THROWS_WITH(made_with({.pool = 4, .pool_batch = 0}), ContainsSubstring("at least 1 at a time"));
  CHECK_THROWS_WITH(made_with({.limits = {1, -1}}), ContainsSubstring("low < high"));
  toy<double> epsilon({prediction_kind::epsilon}, 1);
  CHECK_THROWS_WITH((boot::knowledge_distillation{m.teacher, epsilon, m.schedule}),
                    ContainsSubstring("the student predicts epsilon"));
  CHECK(boot::knowledge_distillation{m.teacher, epsilon, schedule_called("linear")}.warnings().size() == 1);
}
