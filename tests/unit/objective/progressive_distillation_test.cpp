// SPDX-License-Identifier: MIT
/// Progressive distillation against Salimans and Ho's target in float64, phase by phase, and its state.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/objective/progressive_distillation.hpp>

#include <string>
#include <string_view>

using namespace objective_reference;
using boot::prediction_kind;
using boot::progressive_weighting;
using Catch::Matchers::ContainsSubstring;

namespace {

using options = boot::progressive_distillation_options;

// The phase's teacher is `f` in phase 0, else `frozen`, the student as it was when the phase began.
std::vector<term> reference(const toy<double>& student, const teacher_signal& f, const toy<double>* frozen,
                            const any_schedule& z, bool labelled, const options& o, std::int64_t phase,
                            const boot::batch_request& r) {
  std::vector<term> terms;
  const std::int64_t n = o.first_steps >> phase, start_step = phase * o.phase_steps;
  const double range = z.high - z.low, sigma_max = z.sigma(z.high), alpha_max = z.alpha(z.high);
  const auto time = [&](std::int64_t i) {
    return i == 2 * n ? z.low : z.high - range * static_cast<double>(i) / static_cast<double>(2 * n);
  };
  for (std::int64_t i = r.first; i < r.first + r.count; ++i) {
    const std::int64_t k = (r.step - start_step) * r.batch() + i, trajectory = k / n, at = k % n;
    const vec eps = noise(r.seed, start_step, trajectory), noise_end = combine(sigma_max, eps, 0, eps);
    const int label = labelled ? label_of(r.seed, start_step, trajectory) : -1;
    const auto signal = [&](const vec& x, double t, double s) {
      if (frozen == nullptr) return f(x, t, label);
      return clean(frozen->prediction(), z.alpha(t), z.sigma(t), x, frozen->output(x, t, s, label));
    };
    // x at each of the 2 n + 1 times.
    std::vector<vec> x{noise_end};
    if (frozen == nullptr) x[0] = combine(alpha_max, f(noise_end, z.high, label), sigma_max, eps);
    for (std::int64_t j = 0; j < 2 * (at + 1); ++j) {
      const double t = time(j), s = time(j + 1), ratio = z.sigma(s) / z.sigma(t);
      const vec g = signal(x.back(), t, s);
      if (j == 0 && frozen != nullptr) {
        x.push_back(combine(z.alpha(s), g, z.sigma(s), eps));
      } else {
        x.push_back(combine(ratio, x.back(), z.alpha(s) - z.alpha(t) * ratio, g));
      }
    }
    const double t = time(2 * at), s = time(2 * at + 2), ratio = z.sigma(s) / z.sigma(t);
    const vec from = at == 0 ? noise_end : x[static_cast<std::size_t>(2 * at)], &to = x.back();
    vec target;
    if (at == 0) {
      target = combine(1 / z.alpha(s), to, -z.sigma(s) / z.alpha(s), eps);
    } else {
      const double b = z.alpha(s) - z.alpha(t) * ratio;
      target = combine(1 / b, to, -ratio / b, from);
    }
    const double snr = std::pow(z.alpha(t) / z.sigma(t), 2);
    double weight = 1;
    if (o.weight == progressive_weighting::truncated_snr) weight = snr > 1 ? snr : 1;
    if (o.weight == progressive_weighting::snr_plus_one) weight = 1 + snr;
    if (o.own_weight) weight = o.own_weight({t, s, step_between(z, t, s), z.dlambda(t), t - s, r.progress});
    terms.push_back({from, t, s, label, student.prediction(), z.alpha(t), z.sigma(t), target,
                     weight / (toy_features * static_cast<double>(r.batch()))});
  }
  return terms;
}

using setup = toy_pair<71>;

void disturb(toy<double>& m, std::uint64_t seed) {
  const auto w = m.parameters().values();
  for (std::int64_t i = 0; i < w.size(); ++i)
    w[i] += 0.1 * static_cast<double>(boot::normal({seed, boot::stream::test, 2}, 0, static_cast<std::uint64_t>(i)));
}

template <class Objective>
void check(Objective& objective, const toy<double>& student, const std::vector<term>& terms,
           const boot::batch_request& request, const rho& distance, double tolerance) {
  boot::loss_report report;
  const vec gradient = run(objective, request, report);
  CHECK(report.part[0].first == "progressive");
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(student, terms, distance), tolerance));
  check_gradient(gradient, student, terms, distance, tolerance);
}

// Goes through all phases with changing weights and checks a step in each: its first, and a later one.
template <class Objective>
void check_phases(Objective& objective, setup& m, const teacher_signal& f, bool labelled, const options& o,
                  const rho& distance, double tolerance) {
  toy<double> frozen = m.student.clone(boot::cpu{});
  for (std::int64_t phase = 0; (o.first_steps >> phase) > 0; ++phase) {
    if (phase > 0) frozen = m.student.clone(boot::cpu{});
    for (const std::int64_t offset : {std::int64_t{0}, o.phase_steps - 1}) {
      CAPTURE(phase, offset);
      const boot::batch_request request{
          .seed = 6, .step = phase * o.phase_steps + offset, .first = 0, .count = 10, .total = 10, .progress = 0.3};
      check(objective, m.student,
            reference(m.student, f, phase == 0 ? nullptr : &frozen, m.schedule, labelled, o, phase, request), request,
            distance, tolerance);
      CHECK(objective.phase() == phase);
      disturb(m.student, static_cast<std::uint64_t>(10 * phase + offset));
    }
  }
}

// A checkpoint in memory: the same visitor saves and loads.
struct memory_visitor {
  bool saving = true;
  std::int64_t phase = -1;
  vec teacher;
  void operator()(std::string_view name, std::int64_t& value) {
    REQUIRE(name == "phase");
    if (saving)
      phase = value;
    else
      value = phase;
  }
  void operator()(std::string_view name, boot::view<double, boot::cpu> values) {
    REQUIRE(name == "teacher");
    if (saving)
      teacher.assign(values.data(), values.data() + values.size());
    else
      std::copy(teacher.begin(), teacher.end(), values.data());
  }
};

}  // namespace

TEST_CASE("progressive_distillation: loss and gradient in every phase, all weights, every schedule",
          "[objective][progressive_distillation]") {
  const std::string name = GENERATE("cosine", "cosine_short", "flow", "linear", "edm");
  const auto weight = GENERATE(progressive_weighting::truncated_snr, progressive_weighting::snr_plus_one,
                               progressive_weighting::signal);
  CAPTURE(name, static_cast<int>(weight));
  setup m(name, prediction_kind::v, prediction_kind::v);
  const options o{.first_steps = 4, .phase_steps = 3, .weight = weight};
  boot::progressive_distillation loss{m.teacher, m.student, m.schedule, o};
  CHECK(loss.phases() == 3);
  check_phases(loss, m, m.signal(o, false), false, o, square(), 1e-9);
}

TEST_CASE("progressive_distillation: every kind of teacher with every kind of student",
          "[objective][progressive_distillation]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  for (const auto teacher_kind : kinds_for(schedule_called(name)))
    for (const auto student_kind : kinds_for(schedule_called(name))) {
      CAPTURE(name, boot::to_string(teacher_kind), boot::to_string(student_kind));
      setup m(name, teacher_kind, student_kind);
      const options o{.first_steps = 2, .phase_steps = 2, .weight = progressive_weighting::signal};
      boot::progressive_distillation loss{m.teacher, m.student, m.schedule, o};
      check_phases(loss, m, m.signal(o, false), false, o, square(), 1e-8);
    }
}

TEST_CASE("progressive_distillation: labels, guidance, clip, distance and own weight",
          "[objective][progressive_distillation]") {
  const std::string name = GENERATE("cosine", "linear");
  setup m(name, prediction_kind::sample, prediction_kind::v);
  options o{.first_steps = 4, .phase_steps = 2, .limits = {-0.3, 0.15}};
  const toy_guided<double> guided{&m.teacher};
  SECTION("guidance and clip") {
    boot::progressive_distillation<toy_guided<double>, toy<double>, any_schedule, toy_labels_source> loss(
        guided, m.student, m.schedule, o);
    CHECK(loss.describe(20).teacher_samples == (name == "cosine" ? 80 : 90));
    check_phases(loss, m, m.signal(o, true, true), true, o, square(), 1e-9);
    CHECK(loss.describe(20).teacher_samples == 0);
    CHECK(loss.describe(20).student_samples == 40);
  }
  SECTION("labels, pseudo-Huber, own weight") {
    o.own_weight = [](const boot::weight_arguments& a) { return 1 + a.t + 2 * a.s + a.step + a.progress + a.delta; };
    boot::progressive_distillation<toy<double>, toy<double>, any_schedule, toy_labels_source,
                                   boot::pseudo_huber_distance>
        loss(m.teacher, m.student, m.schedule, o, {}, {0.05});
    check_phases(loss, m, m.signal(o, true), true, o, huber(0.05), 1e-9);
  }
}

TEST_CASE("progressive_distillation: the last phase trains one step from noise to signal and does not end",
          "[objective][progressive_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  toy<double>::log_type log;
  m.student.log = &log;
  boot::progressive_distillation loss{m.teacher, m.student, m.schedule, {.first_steps = 1, .phase_steps = 5}};
  boot::loss_report report;
  static_cast<void>(run(loss, {.seed = 6, .step = 100, .count = 8}, report));  // one phase lasts for ever
  REQUIRE(log.size() == 8);
  for (const auto& c : log) {
    CHECK(c.t_source == 1);
    CHECK(c.t_target == 0.001);
  }
}

TEST_CASE("progressive_distillation: parts of a batch add up, bit by bit per sample",
          "[objective][progressive_distillation]") {
  setup m("edm", prediction_kind::v, prediction_kind::v);
  const options o{.first_steps = 4, .phase_steps = 3};
  boot::progressive_distillation<toy<double>, toy<double>, any_schedule, toy_labels_source> loss(m.teacher, m.student,
                                                                                                 m.schedule, o);
  const std::int64_t phase = GENERATE(0, 1);
  boot::loss_report before;
  if (phase == 1) {
    static_cast<void>(run(loss, {.seed = 6, .step = 3, .count = 10}, before));
    disturb(m.student, 5);
  }
  const boot::batch_request whole{.seed = 6, .step = 3 * phase + 1, .first = 0, .count = 10, .total = 10};
  check_halves(loss, whole, 3);  // cut within a trajectory of four steps
}

TEST_CASE("progressive_distillation: its state resumes a phase, and nothing else does",
          "[objective][progressive_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const options o{.first_steps = 4, .phase_steps = 3};
  boot::progressive_distillation loss{m.teacher, m.student, m.schedule, o};
  boot::loss_report want, got;
  static_cast<void>(run(loss, {.seed = 6, .step = 0, .count = 10}, want));
  disturb(m.student, 1);
  static_cast<void>(run(loss, {.seed = 6, .step = 3, .count = 10}, want));
  disturb(m.student, 2);
  const vec gradient = run(loss, {.seed = 6, .step = 4, .count = 10}, want);
  memory_visitor checkpoint;
  loss.visit_state(checkpoint);
  CHECK(checkpoint.phase == 1);
  const auto now = std::as_const(m.student).parameters().values();
  CHECK(checkpoint.teacher != vec(now.data(), now.data() + now.size()));

  boot::progressive_distillation resumed{m.teacher, m.student, m.schedule, o};
  CHECK_THROWS_WITH(resumed({}, {.seed = 6, .step = 4, .count = 10}),
                    ContainsSubstring("in phase 0 but step 4 is within phase 1") && ContainsSubstring("checkpoint"));
  checkpoint.saving = false;
  resumed.visit_state(checkpoint);
  CHECK(resumed.phase() == 1);
  CHECK(run(resumed, {.seed = 6, .step = 4, .count = 10}, got) == gradient);
  CHECK(got.total == want.total);
  CHECK_THROWS_WITH(resumed({}, {.seed = 6, .step = 2, .count = 10}), ContainsSubstring("in phase 1 but step 2"));
  CHECK_THROWS_WITH(resumed({}, {.seed = 6, .step = 7, .count = 10}), ContainsSubstring("within phase 2"));
  CHECK_NOTHROW(resumed({}, {.seed = 6, .step = 6, .count = 10}));
}

TEST_CASE("progressive_distillation: a phase may end with an average", "[objective][progressive_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const options o{.first_steps = 2, .phase_steps = 2};
  boot::progressive_distillation loss{m.teacher, m.student, m.schedule, o};
  toy<double> average = m.student.clone({});
  disturb(average, 9);
  loss.end_phases_with(std::as_const(average).parameters().values());
  boot::loss_report report;
  static_cast<void>(run(loss, {.seed = 6, .step = 1, .count = 6}, report));
  loss.begin_step({}, 2, 4);
  const auto is = std::as_const(m.student).parameters().values(), want = std::as_const(average).parameters().values();
  for (std::int64_t i = 0; i < is.size(); ++i) REQUIRE(is[i] == want[i]);
  const boot::batch_request request{.seed = 6, .step = 2, .first = 0, .count = 6, .total = 6};
  check(loss, m.student, reference(m.student, m.signal(o, false), &average, m.schedule, false, o, 1, request), request,
        square(), 1e-9);
  CHECK_THROWS_WITH(loss.end_phases_with(want.rows(0, 3)), ContainsSubstring("weights of 3 elements"));
}

TEST_CASE("progressive_distillation: float agrees with double", "[objective][progressive_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const options o{.first_steps = 4};
  const auto teacher = m.teacher.as<float>();
  auto student = m.student.as<float>();
  boot::progressive_distillation loss{teacher, student, m.schedule, o};
  boot::loss_report report;
  const boot::batch_request request{.seed = 6, .step = 5, .first = 0, .count = 12, .total = 12};
  const vec g = run(loss, request, report);
  const auto terms = reference(m.student, m.signal(o, false), nullptr, m.schedule, false, o, 0, request);
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(m.student, terms, square()), 1e-5));
  CHECK(relative_difference(g, gradient_of(m.student, terms, square())) <= 1e-5);
}

TEST_CASE("progressive_distillation: wrong options and pairs are refused with a sentence",
          "[objective][progressive_distillation]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const auto made_with = [&](options o) { boot::progressive_distillation loss{m.teacher, m.student, m.schedule, o}; };
  for (const std::int64_t n : {0, -4, 3, 12})
    CHECK_THROWS_WITH(made_with({.first_steps = n}), ContainsSubstring("needs a power of two"));
  CHECK_THROWS_WITH(made_with({.phase_steps = 0}), ContainsSubstring("at least 1 training step a phase"));
  CHECK_THROWS_WITH(made_with({.limits = {1, -1}}), ContainsSubstring("low < high"));
  toy<double> epsilon({prediction_kind::epsilon}, 1);
  CHECK_THROWS_WITH((boot::progressive_distillation{m.teacher, epsilon, m.schedule}),
                    ContainsSubstring("the student predicts epsilon"));
  CHECK(boot::progressive_distillation{m.teacher, epsilon, schedule_called("linear")}.warnings().size() == 1);
}
