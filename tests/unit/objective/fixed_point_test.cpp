// SPDX-License-Identifier: MIT
/// The fixed-point objective against a float64 computation of its loss and gradient, sample by sample.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/objective/fixed_point.hpp>

#include <string>

using namespace objective_reference;
using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

namespace {

struct reference_result {
  std::vector<term> terms;
  double inner = 0, boundary = 0, total = 0;
};

// y(eps, t) -> SG[f(x^_t, t) + (1/lambda'_t) (y(eps, t + h) - y(eps, t))/h]; everything in the target is a constant.
reference_result reference(const toy<double>& student, const teacher_signal& f, const any_schedule& z, bool labelled,
                           const boot::fixed_point_options& o, double beta, const boot::batch_request& r,
                           const rho& distance) {
  reference_result result;
  const double range = z.high - z.low, h = o.delta * range, b = static_cast<double>(toy_features);
  const double share = beta > 0 ? o.boundary_fraction : 0;
  const auto boundaries_before = [&](std::int64_t n) { return std::floor(static_cast<double>(n) * share + 1e-9); };
  const double boundary_total = boundaries_before(r.batch());
  const double inner_total = static_cast<double>(r.batch()) - boundary_total;
  const double alpha_max = z.alpha(z.high), sigma_max = z.sigma(z.high);
  std::vector<term> inner, boundary;
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
      boundary.push_back(q);
      q.factor *= beta;
      result.terms.push_back(q);
      continue;
    }
    const double u = boot::uniform_double({r.seed, boot::stream::time, static_cast<std::uint64_t>(r.step)},
                                          static_cast<std::uint64_t>(i), 0);
    double t = z.low + boot::time_position(o.time, u, r.progress) * range;
    t = std::min(t, z.high - h / 64);
    const double later = std::min(t + h, z.high), slope = z.dlambda(t);
    const vec y = y_at(t), derivative = combine(1 / (later - t), y_at(later), -1 / (later - t), y);
    q.t_target = t;
    q.target = combine(1, f(combine(z.alpha(t), y, z.sigma(t), eps), t, label), 1 / slope, derivative);
    q.factor = (o.own_weight ? o.own_weight({t, t, 0, slope, 0, r.progress}) : 1) / (b * inner_total);
    inner.push_back(q);
    result.terms.push_back(q);
  }
  result.inner = loss_of(student, inner, distance);
  result.boundary = loss_of(student, boundary, distance);
  result.total = result.inner + beta * result.boundary;
  return result;
}

template <class Objective>
void check(Objective& objective, const toy<double>& student, const reference_result& want,
           const boot::batch_request& request, const rho& distance, double tolerance) {
  boot::loss_report report;
  const vec gradient = run(objective, request, report);
  CHECK(report.part[0].first == "fixed_point");
  CHECK(report.part[1].first == "boundary");
  CHECK_THAT(report.part[0].second, Catch::Matchers::WithinRel(want.inner, tolerance));
  CHECK_THAT(report.part[1].second, Catch::Matchers::WithinAbs(want.boundary, tolerance * want.boundary));
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(want.total, tolerance));
  check_gradient(gradient, student, want.terms, distance, tolerance);
}

using setup = toy_pair<21>;

const boot::batch_request whole{.seed = 9, .step = 4, .first = 0, .count = 22, .total = 22, .progress = 0.2};

}  // namespace

TEST_CASE("fixed_point: loss and gradient on every schedule, with the boundary as the schedule needs it",
          "[objective][fixed_point]") {
  const std::string name = GENERATE("cosine", "cosine_short", "flow", "linear", "edm");
  const double delta = GENERATE(0.04, 0.4);
  CAPTURE(name, delta);
  setup m(name, prediction_kind::v, prediction_kind::v);
  const boot::fixed_point_options o{.delta = delta};
  const double beta = name == "linear" || name == "edm" ? 0.5 : 0;
  boot::fixed_point loss{m.teacher, m.student, m.schedule, o};
  CHECK(loss.boundary_weight() == beta);
  check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, beta, whole, square()), whole,
        square(), 1e-10);
  CHECK(loss.describe(100).teacher_samples == 100);
  CHECK(loss.describe(100).student_samples == (beta > 0 ? 75 : 100));
  CHECK(loss.describe(100).student_recorded_samples == 100);
}

TEST_CASE("fixed_point: every kind of teacher with every kind of student", "[objective][fixed_point]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  for (const auto teacher_kind : kinds_for(schedule_called(name)))
    for (const auto student_kind : kinds_for(schedule_called(name))) {
      CAPTURE(name, boot::to_string(teacher_kind), boot::to_string(student_kind));
      setup m(name, teacher_kind, student_kind);
      const boot::fixed_point_options o{.boundary_weight = 0.7};
      boot::fixed_point loss{m.teacher, m.student, m.schedule, o};
      check(loss, m.student, reference(m.student, m.signal(o, false), m.schedule, false, o, 0.7, whole, square()),
            whole, square(), 1e-9);
    }
}

TEST_CASE("fixed_point: labels, guidance, distance, clip, own weight and boundary share", "[objective][fixed_point]") {
  const std::string name = GENERATE("cosine", "edm");
  setup m(name, prediction_kind::sample, prediction_kind::v);
  boot::fixed_point_options o{.boundary_weight = 2};
  const toy_guided<double> guided{&m.teacher};
  using guided_loss = boot::fixed_point<toy_guided<double>, toy<double>, any_schedule, toy_labels_source>;
  SECTION("labels and guidance") {
    guided_loss loss(guided, m.student, m.schedule, o);
    check(loss, m.student, reference(m.student, m.signal(o, true, true), m.schedule, true, o, 2, whole, square()),
          whole, square(), 1e-10);
    CHECK(loss.describe(100).teacher_samples == 200);
  }
  SECTION("clip with guidance, and no boundary samples") {
    o.limits = {-0.3, 0.15};
    o.boundary_fraction = 0;
    guided_loss loss(guided, m.student, m.schedule, o);
    check(loss, m.student, reference(m.student, m.signal(o, true, true), m.schedule, true, o, 2, whole, square()),
          whole, square(), 1e-10);
  }
  SECTION("pseudo-Huber, own weight, progressive times") {
    o.own_weight = [](const boot::weight_arguments& a) { return 1 + a.t + a.s + a.dlambda + a.progress; };
    o.time.kind = boot::time_distribution::progressive;
    boot::fixed_point<toy<double>, toy<double>, any_schedule, toy_labels_source, boot::pseudo_huber_distance> loss(
        m.teacher, m.student, m.schedule, o, {}, {0.05});
    check(loss, m.student, reference(m.student, m.signal(o, true), m.schedule, true, o, 2, whole, huber(0.05)), whole,
          huber(0.05), 1e-9);
  }
}

TEST_CASE("fixed_point: the difference looks to the noise side and never collapses", "[objective][fixed_point]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  toy<double>::log_type log;
  m.student.log = &log;
  boot::fixed_point loss{m.teacher, m.student, m.schedule, {.delta = 0.1}};
  boot::loss_report report;
  static_cast<void>(run(loss, {.seed = 1, .step = 0, .count = 4000}, report));
  REQUIRE(log.size() == 8000);
  const double h = 0.1 * 0.999;
  int clipped = 0, ended = 0;
  for (std::size_t i = 0; i < 4000; ++i) {
    const double later = log[i].t_target, t = log[4000 + i].t_target;
    REQUIRE(log[i].x == log[4000 + i].x);
    REQUIRE(later <= 1);
    REQUIRE(later - t >= h / 64 - 1e-15);
    REQUIRE((later == 1 || std::abs(later - t - h) <= 1e-15));
    clipped += later == 1 ? 1 : 0;
    ended += t == 1 - h / 64 ? 1 : 0;
  }
  CHECK(std::abs(clipped - 400) < 90);
  CHECK(ended < 25);
  CHECK(report.finite());
}

TEST_CASE("fixed_point: two half requests add up to the whole, bit by bit per sample", "[objective][fixed_point]") {
  setup m("edm", prediction_kind::v, prediction_kind::v);
  boot::fixed_point<toy<double>, toy<double>, any_schedule, toy_labels_source> loss(m.teacher, m.student, m.schedule);
  check_halves(loss, whole, 9);
}

TEST_CASE("fixed_point: float agrees with double", "[objective][fixed_point]") {
  const std::string name = GENERATE("cosine", "linear", "edm");
  CAPTURE(name);
  setup m(name, prediction_kind::v, prediction_kind::v);
  const boot::fixed_point_options o{.boundary_weight = 0.5};
  const auto teacher = m.teacher.as<float>();
  auto student = m.student.as<float>();
  boot::fixed_point loss{teacher, student, m.schedule, o};
  boot::loss_report report;
  const vec g = run(loss, whole, report);
  const auto want = reference(m.student, m.signal(o, false), m.schedule, false, o, 0.5, whole, square());
  // The difference quotient multiplies rounding by 1/(lambda' h): up to 8 for these schedules.
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(want.total, 3e-5));
  CHECK(relative_difference(g, gradient_of(m.student, want.terms, square())) <= 5e-5);
}

TEST_CASE("fixed_point: the exact trajectory of a Gaussian is its fixed point up to the first-order difference",
          "[objective][fixed_point]") {
  // N(0, S^2), cosine: y_t = v_t/v_T-scaled noise in closed form; the residual must shrink with h, and only so.
  const auto z = schedule_called("cosine");
  const double deviation = 0.5;
  const auto residual = [&](double t, double h) {
    const auto y = [&](double at) {
      const double a = z.alpha(at), s = z.sigma(at), v = std::sqrt(a * a * deviation * deviation + s * s);
      return (v - s) / a;  // eps = 1, v_T = 1: (x_t - sigma_t eps)/alpha_t
    };
    const double a = z.alpha(t), s = z.sigma(t), v2 = a * a * deviation * deviation + s * s;
    const double x = a * y(t) + s, f = a * deviation * deviation / v2 * x;
    boot::bootstrap_row<double> row{0, 1, 1, boot::inverse_dlambda(z, t) / h, 0, 1, 1, 1, -1e9, 1e9};
    // f comes as a sample prediction (a = 0, b = 1); the residual is half the gradient of the squared distance.
    return 0.5 * boot::fixed_point_op<double>{}(row, y(t), y(t + h), x, f, f).out[0];
  };
  for (const double t : {0.2, 0.5, 0.8}) {
    CAPTURE(t);
    CHECK(std::abs(residual(t, 1e-2)) > 1e-5);
    CHECK_THAT(residual(t, 1e-4) / residual(t, 1e-3), Catch::Matchers::WithinRel(0.1, 0.02));
  }
}

TEST_CASE("fixed_point: wrong options and pairs are refused with a sentence", "[objective][fixed_point]") {
  setup m("cosine", prediction_kind::v, prediction_kind::v);
  const auto made_with = [&](boot::fixed_point_options o) {
    boot::fixed_point loss{m.teacher, m.student, m.schedule, o};
  };
  for (const double delta : {0.0, -0.1, 1.0, std::nan("")})
    CHECK_THROWS_WITH(made_with({.delta = delta}), ContainsSubstring("needs a share of the time range in (0, 1)"));
  CHECK_THROWS_WITH(made_with({.boundary_weight = -1}), ContainsSubstring("boundary_weight = -1"));
  CHECK_THROWS_WITH(made_with({.boundary_fraction = -0.1}), ContainsSubstring("share of the batch in [0, 1]"));
  CHECK_THROWS_WITH(made_with({.limits = {1, -1}}), ContainsSubstring("low < high"));
  toy<double> epsilon({prediction_kind::epsilon}, 1);
  CHECK_THROWS_WITH((boot::fixed_point{m.teacher, epsilon, m.schedule}),
                    ContainsSubstring("the student predicts epsilon"));
  CHECK(boot::fixed_point{m.teacher, epsilon, schedule_called("linear")}.warnings().size() == 1);
  CHECK(boot::fixed_point{m.teacher, m.student, m.schedule}.warnings().empty());
}
