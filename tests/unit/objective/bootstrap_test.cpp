// SPDX-License-Identifier: MIT
/// The bootstrap objective against a float64 computation of its loss and gradient, sample by sample.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/bootstrap.hpp>

#include <string>
#include <type_traits>

using namespace objective_reference;
using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

namespace {

struct reference_result {
  std::vector<term> terms;  // everything that has a gradient
  double inner = 0, boundary = 0, total = 0;
  std::vector<double> t, s;  // of the inner samples
};

// L_BS and L_BC with their stop-gradients: the targets are computed here once and are then constants.
reference_result reference(const toy<double>& student, const teacher_signal& f, const any_schedule& z, bool labelled,
                           const boot::bootstrap_options& o, const boot::batch_request& r, const rho& distance) {
  reference_result result;
  const double range = z.high - z.low, delta = o.delta * range, b = static_cast<double>(toy_features);
  const double share = o.boundary_weight > 0 ? o.boundary_fraction : 0;
  const auto boundaries_before = [&](std::int64_t n) { return std::floor(static_cast<double>(n) * share + 1e-9); };
  const double boundary_total = boundaries_before(r.batch());
  const double inner_total = static_cast<double>(r.batch()) - boundary_total;
  const double alpha_max = z.alpha(z.high), sigma_max = z.sigma(z.high);
  std::vector<term> boundary_terms, inner_terms;
  for (std::int64_t i = r.first; i < r.first + r.count; ++i) {
    const vec eps = noise(r.seed, r.step, i), start = combine(sigma_max, eps, 0, eps);
    const int label = labelled ? label_of(r.seed, r.step, i) : -1;
    const auto y_at = [&](double target_time) {
      return clean(student.prediction(), alpha_max, sigma_max, start,
                   student.output(start, z.high, target_time, label));
    };
    term q{start, z.high, z.high, label, student.prediction(), alpha_max, sigma_max, {}, 0};
    if (boundaries_before(i + 1) > boundaries_before(i)) {
      q.target = f(start, z.high, label);
      q.factor = 1 / (b * boundary_total);
      boundary_terms.push_back(q);
      q.factor *= o.boundary_weight;
      result.terms.push_back(q);
      continue;
    }
    double u = boot::uniform_double({r.seed, boot::stream::time, static_cast<std::uint64_t>(r.step)},
                                    static_cast<std::uint64_t>(i), 0);
    if (o.time.kind == boot::time_distribution::progressive) {
      const double low = std::max(0.0, 1 - r.progress / o.time.progressive_until);
      u = low + (1 - low) * u;
    }
    if (o.time.kind == boot::time_distribution::logit_normal) {
      const double logit = boot::normal_quantile(u) * o.time.deviation + o.time.mean;
      u = std::exp(logit) / (1 + std::exp(logit));
    }
    double t = z.low + u * range, s = t - delta;
    if (s < z.low) {
      t = z.low + delta;
      s = z.low;
    }
    result.t.push_back(t);
    result.s.push_back(s);
    const double step = step_between(z, t, s);
    const vec y = y_at(t), x = combine(z.alpha(t), y, z.sigma(t), eps), f1 = f(x, t, label);
    vec target = combine(1 - step, y, step, f1);
    if (o.target == boot::target_solver::heun) {
      const vec f2 = f(combine(z.alpha(s), target, z.sigma(s), eps), s, label);
      const double h = heun_between(z, t, s);
      for (std::size_t j = 0; j < target.size(); ++j) target[j] += h * (f2[j] - f1[j]);
    }
    double weight = 1 / (step * step);
    if (o.weight == boot::weighting::upwind) weight = 1 / std::abs(step);
    if (o.weight == boot::weighting::paper) weight = std::pow(1 / (z.dlambda(t) * (t - s)), 2);
    if (o.own_weight) weight = o.own_weight({t, s, step, z.dlambda(t), t - s, r.progress});
    q.t_target = s;
    q.target = target;
    q.factor = weight / (b * inner_total);
    inner_terms.push_back(q);
    result.terms.push_back(q);
  }
  result.inner = loss_of(student, inner_terms, distance);
  result.boundary = loss_of(student, boundary_terms, distance);
  result.total = result.inner + o.boundary_weight * result.boundary;
  return result;
}

// Loss and gradient of an objective against the reference; `tolerance` is relative.
template <class Objective>
void check(Objective& objective, const toy<double>& student, const reference_result& want,
           const boot::batch_request& request, const rho& distance, double tolerance) {
  boot::loss_report report;
  const vec gradient = run(objective, request, report);
  CHECK(report.part[0].first == "bootstrap");
  CHECK(report.part[1].first == "boundary");
  CHECK_THAT(report.part[0].second, Catch::Matchers::WithinRel(want.inner, tolerance));
  CHECK_THAT(report.part[1].second, Catch::Matchers::WithinAbs(want.boundary, tolerance * want.boundary));
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(want.total, tolerance));
  CHECK_THAT(loss_of(student, want.terms, distance), Catch::Matchers::WithinRel(report.total, tolerance));
  check_gradient(gradient, student, want.terms, distance, tolerance);
}

using setup = toy_pair<11>;

const boot::batch_request whole{.seed = 7, .step = 3, .first = 0, .count = 22, .total = 22, .progress = 0.2};

}  // namespace

TEST_CASE("bootstrap: loss and gradient of all weights and solvers, on every schedule", "[objective][bootstrap]") {
  const std::string name = GENERATE("cosine", "cosine_short", "flow", "linear", "edm");
  const auto weight = GENERATE(boot::weighting::exact, boot::weighting::paper, boot::weighting::upwind);
  const auto solver = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  CAPTURE(name, static_cast<int>(weight), static_cast<int>(solver));
  setup m(name, prediction_kind::v, prediction_kind::v);
  const boot::bootstrap_options o{.target = solver, .weight = weight};
  boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
  check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square()), whole,
        square(), 1e-10);
}

TEST_CASE("bootstrap: every kind of teacher with every kind of student", "[objective][bootstrap]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  const auto solver = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  for (const auto teacher_kind : kinds_for(schedule_called(name)))
    for (const auto student_kind : kinds_for(schedule_called(name))) {
      CAPTURE(name, boot::to_string(teacher_kind), boot::to_string(student_kind));
      setup m(name, teacher_kind, student_kind);
      const boot::bootstrap_options o{.target = solver, .weight = boot::weighting::upwind};
      boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
      check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square()), whole,
            square(), 1e-9);
    }
}

TEST_CASE("bootstrap: an epsilon teacher on a schedule with alpha = 0 needs no boundary samples",
          "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::epsilon, prediction_kind::v);
  const boot::bootstrap_options o{.boundary_weight = 0};
  boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
  check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square()), whole,
        square(), 1e-9);
}

TEST_CASE("bootstrap: labels, guidance per sample, distances and clip limits", "[objective][bootstrap]") {
  const std::string name = GENERATE("cosine", "edm");
  const auto solver = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  const double limit = GENERATE(0.3, 1e300);
  CAPTURE(name, static_cast<int>(solver), limit);
  setup m(name, prediction_kind::sample, prediction_kind::v);
  boot::bootstrap_options o{.target = solver};
  if (limit < 1) o.limits = {-limit, limit / 2};
  const toy_guided<double> guided{&m.teacher};
  SECTION("labels and guidance, squared distance") {
    boot::bootstrap<toy_guided<double>, toy<double>, any_schedule, toy_labels_source> loss(guided, m.student,
                                                                                           m.schedule, o);
    check(loss, m.student, reference(m.student, m.signal(o, true, true), m.schedule, true, o, whole, square()), whole,
          square(), 1e-10);
    CHECK(loss.describe(100).teacher_samples == (solver == boot::target_solver::heun ? 350 : 200));
  }
  SECTION("labels without guidance, pseudo-Huber distance") {
    const boot::pseudo_huber_distance huber_distance{0.05};
    boot::bootstrap<toy<double>, toy<double>, any_schedule, toy_labels_source, boot::pseudo_huber_distance> loss(
        m.teacher, m.student, m.schedule, o, {}, huber_distance);
    check(loss, m.student, reference(m.student, m.signal(o, true), m.schedule, true, o, whole, huber(0.05)), whole,
          huber(0.05), 1e-9);
    CHECK(loss.describe(100).teacher_samples == (solver == boot::target_solver::heun ? 175 : 100));
    CHECK(loss.describe(100).student_samples == 75);
    CHECK(loss.describe(100).student_recorded_samples == 100);
  }
}

TEST_CASE("bootstrap: the clip is not idle in these tests", "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::sample, prediction_kind::v);
  const boot::bootstrap_options open{}, closed{.limits = {-0.3, 0.15}};
  const auto a = reference(m.student, m.signal(open, false), m.schedule, false, open, whole, square());
  const auto b = reference(m.student, m.signal(closed, false), m.schedule, false, closed, whole, square());
  CHECK(std::abs(a.inner - b.inner) > 1e-2 * a.inner);
  CHECK(std::abs(a.boundary - b.boundary) > 1e-2 * a.boundary);
}

TEST_CASE("bootstrap: boundary share and factor", "[objective][bootstrap]") {
  setup m("linear", prediction_kind::v, prediction_kind::v);
  boot::bootstrap_options o;
  std::size_t boundary = 0;
  SECTION("no share") { o.boundary_fraction = 0; }
  SECTION("a quarter") { boundary = 5; }
  SECTION("most of it") {
    o.boundary_fraction = 0.9;
    o.boundary_weight = 3;
    boundary = 19;
  }
  SECTION("all of it") {
    o.boundary_fraction = 1;
    boundary = 22;
  }
  SECTION("no factor: nothing is spent on it") { o.boundary_weight = 0; }
  toy<double>::log_type log;
  m.student.log = &log;
  boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
  const auto want = reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square());
  log.clear();
  check(loss, m.student, want, whole, square(), 1e-10);
  std::size_t at_end = 0, recorded = 0;
  for (const auto& c : log)
    if (c.recorded) {
      ++recorded;
      at_end += c.t_target == m.schedule.high ? 1 : 0;
    }
  CHECK(recorded == 22);
  CHECK(at_end == boundary);
}

TEST_CASE("bootstrap: delta, time distributions and the user's weight", "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  boot::bootstrap_options o;
  SECTION("tiny steps") { o.delta = 1e-3; }
  SECTION("huge steps: most pairs end at t_min") { o.delta = 0.8; }
  SECTION("progressive") { o.time.kind = boot::time_distribution::progressive; }
  SECTION("logit-normal") { o.time = {.kind = boot::time_distribution::logit_normal, .mean = 0.5, .deviation = 2}; }
  SECTION("own weight") {
    o.own_weight = [](const boot::weight_arguments& a) {
      return a.t + 2 * a.s + a.step + 0.1 * a.dlambda + a.delta + a.progress;
    };
  }
  boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
  check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square()), whole,
        square(), 1e-9);
}

TEST_CASE("bootstrap: the teacher is asked at t, the student trained at s, never over a cut-short step",
          "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const boot::bootstrap_options o{.delta = 0.1, .boundary_weight = 0};
  toy<double>::log_type student_log, teacher_log;
  m.student.log = &student_log;
  m.teacher.log = &teacher_log;
  boot::bootstrap loss{m.teacher, m.student, m.schedule, o};
  boot::loss_report report;
  const boot::batch_request many{.seed = 1, .step = 0, .count = 2000};
  static_cast<void>(run(loss, many, report));
  REQUIRE(student_log.size() == 4000);
  REQUIRE(teacher_log.size() == 2000);
  const double delta = 0.1 * 0.999;
  int at_end = 0;
  for (std::size_t i = 0; i < 2000; ++i) {
    const auto &before = student_log[i], &trained = student_log[2000 + i];
    REQUIRE_FALSE(before.recorded);
    REQUIRE(trained.recorded);
    REQUIRE(before.x == trained.x);
    REQUIRE(teacher_log[i].t_source == before.t_target);
    REQUIRE(before.t_source == 1);
    REQUIRE(trained.t_source == 1);
    REQUIRE(std::abs(before.t_target - trained.t_target - delta) <= 1e-15);
    REQUIRE(trained.t_target >= 0.001);
    at_end += trained.t_target == 0.001 ? 1 : 0;
  }
  CHECK(std::abs(at_end - 200) < 60);  // 4.5 standard deviations
}

TEST_CASE("bootstrap: two half requests add up to the whole, bit by bit per sample", "[objective][bootstrap]") {
  setup m("edm", prediction_kind::v, prediction_kind::v);
  const auto solver = GENERATE(boot::target_solver::euler, boot::target_solver::heun);
  boot::bootstrap<toy<double>, toy<double>, any_schedule, toy_labels_source> loss(m.teacher, m.student, m.schedule,
                                                                                  {.target = solver});
  const auto [all, half] = check_halves(loss, whole, 9);
  CHECK_THAT(half.part[1].second, Catch::Matchers::WithinRel(all.part[1].second, 1e-13));
}

TEST_CASE("bootstrap: noise may be given instead of drawn", "[objective][bootstrap]") {
  setup m("linear", prediction_kind::v, prediction_kind::v);
  boot::bootstrap loss{m.teacher, m.student, m.schedule};
  boot::loss_report drawn, given, other;
  const vec g = run(loss, whole, drawn);
  std::vector<std::int64_t> order;  // boundary samples behind the others
  boot::boundary_samples("bootstrap", 0.5, 0.25).lay_out(whole, order);
  vec eps;
  for (const std::int64_t i : order)
    for (const double v : noise(whole.seed, whole.step, i)) eps.push_back(v);
  const boot::view<const double, boot::cpu> rows(eps.data(), {22, toy_features});
  boot::fill_zero(boot::cpu{}, m.student.parameters().gradient());
  given = loss({}, whole, rows);
  const auto h = m.student.parameters().gradient();
  CHECK(given.total == drawn.total);
  CHECK(vec(h.data(), h.data() + h.size()) == g);
  eps[0] += 0.1;
  CHECK(loss({}, whole, rows).total != drawn.total);
  CHECK_THROWS_WITH(loss({}, whole, rows.rows(0, 21)), ContainsSubstring("[21, 3]"));
}

TEST_CASE("bootstrap: float agrees with double", "[objective][bootstrap]") {
  const std::string name = GENERATE("cosine", "edm");
  setup m(name, prediction_kind::v, prediction_kind::v);
  const boot::bootstrap_options o;
  const auto teacher = m.teacher.as<float>();
  auto student = m.student.as<float>();
  boot::bootstrap loss{teacher, student, m.schedule, o};
  static_assert(std::is_same_v<decltype(loss)::scalar_type, float>);
  boot::loss_report report;
  const vec g = run(loss, whole, report);
  const auto want = reference(m.student, m.signal(o, false), m.schedule, false, o, whole, square());
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(want.total, 1e-5));
  CHECK(relative_difference(g, gradient_of(m.student, want.terms, square())) <= 2e-5);
}

TEST_CASE("bootstrap: an mlp's gradient by differences of the frozen-target loss", "[objective][bootstrap]") {
  const boot::cpu dev;
  const boot::cosine_schedule schedule;
  boot::mlp_options shape{.features = 3, .width = 6, .hidden_layers = 2, .time_scale = 8};
  shape.time.features = 8;
  shape.time.max_period = 8;
  boot::network_model<boot::mlp, boot::cpu, double> teacher(dev, boot::mlp(shape), {prediction_kind::v}, 1);
  shape.target_time = true;
  boot::network_model<boot::mlp, boot::cpu, double> student(dev, boot::mlp(shape), {prediction_kind::v}, 2);
  for (std::int64_t i = 0; i < student.parameters().values().size(); ++i)  // the target embedding starts at zero
    student.parameters().values()[i] +=
        0.2 * static_cast<double>(boot::normal({3, boot::stream::test, 0}, 0, static_cast<std::uint64_t>(i)));
  boot::bootstrap loss{teacher, student, schedule, {.weight = boot::weighting::exact}};
  boot::loss_report report;
  const boot::batch_request request{.seed = 5, .step = 1, .count = 12};
  const vec g = run(loss, request, report);

  // Targets of the 12 samples from the models' own outputs at the unmoved weights.
  const double delta = 0.04 * 0.999, top = 1;
  struct row {
    vec eps, target;
    double s, weight;
  };
  const auto call = [&](const auto& model, const vec& x, double from, double to) {
    boot::times_buffer<boot::cpu, double> a, b;
    vec out(3);
    model.predict(dev, boot::view<const double, boot::cpu>(x.data(), {1, 3}), a.set(dev, model, from, 1),
                  b.set(dev, model, to, 1), boot::no_condition{}, boot::view<double, boot::cpu>(out.data(), {1, 3}));
    return out;
  };
  std::vector<row> rows;
  for (std::int64_t i = 0; i < 12; ++i) {
    row q{noise(5, 1, i), {}, top, 0.5 / (3 * 3)};
    if (i % 4 == 3) {
      q.target = combine(-1, call(teacher, q.eps, top, top), 0, q.eps);
    } else {
      double t = 0.001 + 0.999 * boot::uniform_double({5, boot::stream::time, 1}, static_cast<std::uint64_t>(i), 0);
      q.s = t - delta;
      if (q.s < 0.001) {
        q.s = 0.001;
        t = 0.001 + delta;
      }
      const vec y = combine(-1, call(student, q.eps, top, t), 0, q.eps);
      const double a = schedule.alpha(t), s = schedule.sigma(t);
      const vec x = combine(a, y, s, q.eps), f = combine(a, x, -s, call(teacher, x, t, t));
      const double d = 1 - a * schedule.sigma(q.s) / (s * schedule.alpha(q.s));
      q.target = combine(1 - d, y, d, f);
      q.weight = 1 / (d * d * 9 * 3);
    }
    rows.push_back(q);
  }
  const auto total = [&] {
    double sum = 0;
    for (const auto& q : rows) {
      const vec y = combine(-1, call(student, q.eps, top, q.s), 0, q.eps);
      for (std::size_t j = 0; j < 3; ++j) sum += q.weight * (y[j] - q.target[j]) * (y[j] - q.target[j]);
    }
    return sum;
  };
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(total(), 1e-10));
  const vec at_rest(student.parameters().values().data(), student.parameters().values().data() + g.size());
  for (std::uint64_t k = 0; k < 4; ++k) {
    const vec direction = random_direction(g.size(), 60 + k);
    const auto moved = [&](double h) {
      for (std::size_t i = 0; i < g.size(); ++i)
        student.parameters().values()[static_cast<std::int64_t>(i)] = at_rest[i] + h * direction[i];
      return total();
    };
    const double h = 1e-5, slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
    CHECK(std::abs(dot(g, direction) - slope) <= 1e-7 * norm(g) * norm(direction));
  }
}

TEST_CASE("bootstrap: wrong options and pairs are refused with a sentence", "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const auto made_with = [&](boot::bootstrap_options o) { boot::bootstrap loss{m.teacher, m.student, m.schedule, o}; };
  for (const double delta : {0.0, -0.1, 1.0, std::nan("")})
    CHECK_THROWS_WITH(made_with({.delta = delta}), ContainsSubstring("needs a share of the time range in (0, 1)"));
  CHECK_THROWS_WITH(made_with({.boundary_weight = -1}), ContainsSubstring("boundary_weight = -1"));
  CHECK_THROWS_WITH(made_with({.boundary_fraction = 1.01}), ContainsSubstring("share of the batch in [0, 1]"));
  CHECK_THROWS_WITH(made_with({.limits = {1, -1}}), ContainsSubstring("low < high"));
  boot::bootstrap negative{
      m.teacher, m.student, m.schedule, {.own_weight = [](const boot::weight_arguments&) { return -1.0; }}};
  CHECK_THROWS_WITH(negative({}, whole), ContainsSubstring("finite and not negative"));
  toy<double> epsilon({prediction_kind::epsilon}, 1);
  CHECK_THROWS_WITH((boot::bootstrap{m.teacher, epsilon, m.schedule}),
                    ContainsSubstring("the student predicts epsilon") && ContainsSubstring("prediction_kind::v"));
  CHECK_THROWS_WITH((boot::bootstrap{m.teacher, epsilon, m.schedule, {.boundary_weight = 0}}),
                    ContainsSubstring("alpha = 0"));
}

TEST_CASE("bootstrap: an epsilon student is warned of above sigma/alpha = 50", "[objective][bootstrap]") {
  const auto warnings = [](const std::string& name, prediction_kind kind) {
    setup m(name, prediction_kind::v, kind);
    return boot::bootstrap{m.teacher, m.student, m.schedule}.warnings();
  };
  for (const std::string name : {"linear", "edm", "cosine_short"}) {
    CAPTURE(name);
    REQUIRE(warnings(name, prediction_kind::epsilon).size() == 1);
    CHECK_THAT(warnings(name, prediction_kind::epsilon)[0], ContainsSubstring("predicts epsilon"));
    CHECK(warnings(name, prediction_kind::v).empty());
    CHECK(warnings(name, prediction_kind::sample).empty());
  }
  const any_schedule mild = erase(boot::edm_schedule({.sigma_max = 49}));
  CHECK(boot::student_warnings({prediction_kind::epsilon}, mild).empty());
}

TEST_CASE("bootstrap: an empty request costs nothing and a NaN is reported as not finite", "[objective][bootstrap]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  boot::bootstrap loss{m.teacher, m.student, m.schedule};
  CHECK(loss({}, {.seed = 1, .count = 0, .total = 8}).total == 0);
  CHECK(loss({}, {.seed = 1, .count = 8}).finite());
  m.student.parameters().values()[0] = std::nan("");
  CHECK_FALSE(loss({}, {.seed = 1, .count = 8}).finite());
}
