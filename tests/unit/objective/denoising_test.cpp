// SPDX-License-Identifier: MIT
/// The denoising objective against a float64 computation of its loss and gradient, and how it draws its data.
#include "reference.hpp"
#include "support/catch.hpp"

#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/denoising.hpp>

#include <set>
#include <string>

using namespace objective_reference;
using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t data_count = 10;

template <class T>
std::vector<T> data_values() {
  std::vector<T> v(data_count * toy_features);
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(boot::normal({99, boot::stream::test, 1}, 0, i)) * T(0.7);
  return v;
}
template <class T>
boot::view<const T, boot::cpu> view_of(const std::vector<T>& v) {
  return {v.data(), {data_count, toy_features}};
}
std::vector<std::int32_t> row_labels() {
  std::vector<std::int32_t> labels;
  for (std::int32_t i = 0; i < data_count; ++i) labels.push_back(i % toy_labels);
  return labels;
}

// What a perfect network would put out for x = alpha x0 + sigma eps: from each kind's definition.
vec wanted_output(const boot::prediction& p, double alpha, double sigma, const vec& x0, const vec& eps) {
  const vec x = combine(alpha, x0, sigma, eps);
  const double d = p.sigma_data, n = sigma * sigma + d * d;
  switch (p.kind) {
    case prediction_kind::sample:
      return x0;
    case prediction_kind::epsilon:
      return eps;
    case prediction_kind::v:
      return combine(alpha, eps, -sigma, x0);
    case prediction_kind::flow:
      return combine(1, eps, -1, x0);
    case prediction_kind::edm: {
      const double c_skip = d * d / n, c_out = sigma * d / std::sqrt(n);
      return combine(1 / c_out, x0, -c_skip / c_out, x);
    }
  }
  return {};
}

// `rows` tells which row each sample came from: the drawing is tested apart.
template <class Objective>
std::vector<term> reference(const Objective& loss, const toy<double>& m, const any_schedule& z, const vec& data,
                            bool labelled, double dropout, const boot::denoising_options& o,
                            const boot::batch_request& r) {
  std::vector<term> terms;
  for (std::int64_t i = r.first; i < r.first + r.count; ++i) {
    const auto at = data.begin() + loss.data_row(r, i) * toy_features;
    const vec x0(at, at + toy_features), eps = noise(r.seed, r.step, i);
    double u = boot::uniform_double({r.seed, boot::stream::time, static_cast<std::uint64_t>(r.step)},
                                    static_cast<std::uint64_t>(i), 0);
    if (o.stratified) u = (static_cast<double>(i) + u) / static_cast<double>(r.batch());
    if (o.time.kind == boot::time_distribution::logit_normal) {
      const double logit = boot::normal_quantile(u);
      u = std::exp(logit) / (1 + std::exp(logit));
    }
    const double t = z.low + u * (z.high - z.low), alpha = z.alpha(t), sigma = z.sigma(t);
    int label = -1;
    if (labelled && boot::uniform_double({r.seed, boot::stream::condition, static_cast<std::uint64_t>(r.step)},
                                         static_cast<std::uint64_t>(i), 0) >= dropout)
      label = static_cast<int>(loss.data_row(r, i) % toy_labels);
    term q{combine(alpha, x0, sigma, eps), t, t, label, m.prediction(), alpha, sigma, {}, 0};
    q.raw = true;
    q.target = wanted_output(m.prediction(), alpha, sigma, x0, eps);
    if (o.space == boot::residual_space::signal) q.slope = clean_slope(m.prediction(), alpha, sigma);
    const double weight = o.own_weight ? o.own_weight({t, t, 0, z.dlambda(t), 0, r.progress}) : 1;
    q.factor = weight / (toy_features * static_cast<double>(r.batch()));
    terms.push_back(q);
  }
  return terms;
}

template <class Objective>
void check(Objective& objective, const toy<double>& student, const std::vector<term>& terms,
           const boot::batch_request& request, const rho& distance, double tolerance) {
  boot::loss_report report;
  const vec gradient = run(objective, request, report);
  CHECK(report.part[0].first == "denoising");
  CHECK(report.part[0].second == report.total);
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(student, terms, distance), tolerance));
  check_gradient(gradient, student, terms, distance, tolerance);
}

const boot::batch_request whole{.seed = 3, .step = 2, .first = 0, .count = 24, .total = 24, .progress = 0.5};

}  // namespace

TEST_CASE("denoising: loss and gradient of every kind in either space, on every schedule", "[objective][denoising]") {
  const std::string name = GENERATE("cosine", "flow", "linear", "edm");
  const auto space = GENERATE(boot::residual_space::prediction, boot::residual_space::signal);
  using enum prediction_kind;
  const vec data = data_values<double>();
  const any_schedule z = schedule_called(name);
  for (const auto kind : {sample, epsilon, v, flow, edm}) {
    CAPTURE(name, boot::to_string(kind), static_cast<int>(space));
    toy<double> student({kind}, 31);
    // EDM's c_skip, c_out assume alpha = 1; elsewhere its target grows as 1/sigma and loses that many digits.
    const double tolerance = kind == edm && name != "edm" ? 1e-8 : 1e-10;
    const boot::denoising_options o{.space = space};
    boot::denoising loss{student, z, view_of(data), o};
    check(loss, student, reference(loss, student, z, data, false, 0, o, whole), whole, square(), tolerance);
  }
}

TEST_CASE("denoising: labels with dropout, distance, weight, times and order", "[objective][denoising]") {
  const vec data = data_values<double>();
  const any_schedule z = schedule_called("cosine");
  toy<double> student({prediction_kind::v}, 32);
  boot::denoising_options o;
  SECTION("labels") {
    const double dropout = GENERATE(0.0, 0.4, 1.0);
    boot::denoising loss{student, z, view_of(data), o, boot::data_labels<boot::cpu>(row_labels(), dropout)};
    check(loss, student, reference(loss, student, z, data, true, dropout, o, whole), whole, square(), 1e-10);
  }
  SECTION("pseudo-Huber in the signal, logit-normal times, own weight") {
    o.space = boot::residual_space::signal;
    o.time.kind = boot::time_distribution::logit_normal;
    o.own_weight = [](const boot::weight_arguments& a) { return 1 + a.t + a.progress; };
    boot::denoising loss{student, z, view_of(data), o, boot::no_data_condition{}, boot::pseudo_huber_distance{0.05}};
    check(loss, student, reference(loss, student, z, data, false, 0, o, whole), whole, huber(0.05), 1e-9);
  }
  SECTION("independent rows and times") {
    o.order = boot::data_order::independent;
    o.stratified = false;
    boot::denoising loss{student, z, view_of(data), o};
    check(loss, student, reference(loss, student, z, data, false, 0, o, whole), whole, square(), 1e-10);
  }
}

TEST_CASE("denoising: exact outputs stay finite at both ends and invert the clean signal", "[objective][denoising]") {
  using enum prediction_kind;
  for (const auto kind : {sample, epsilon, v, flow, edm})
    for (const auto& [alpha, sigma] : {std::pair{1.0, 0.0}, {1.0, 1e-9}, {1.0, 80.0}, {0.6, 0.8}, {0.0, 1.0}}) {
      CAPTURE(boot::to_string(kind), alpha, sigma);
      const auto e = boot::exact_output_of({kind}, alpha, sigma);
      REQUIRE(std::isfinite(e.signal));
      REQUIRE(std::isfinite(e.noise));
      if (kind == epsilon && alpha == 0) continue;
      const auto ab = boot::clean_signal_coefficients({kind}, alpha, sigma);
      // a (alpha x0 + sigma eps) + b out = x0 for all x0 and eps
      CHECK(std::abs(ab.a * alpha + ab.b * e.signal - 1) <= 1e-12);
      CHECK(std::abs(ab.a * sigma + ab.b * e.noise) <= 1e-12 * (1 + sigma));
    }
}

TEST_CASE("denoising: a permutation per epoch, every row once", "[objective][denoising]") {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 17, 64, 1297}) {
    std::vector<std::int64_t> first, second, reseeded;
    for (std::int64_t i = 0; i < n; ++i) {
      first.push_back(boot::permuted_row(i, n, 5, 0));
      second.push_back(boot::permuted_row(i, n, 5, 1));
      reseeded.push_back(boot::permuted_row(i, n, 6, 0));
    }
    CAPTURE(n);
    if (n > 16) {
      CHECK(first != second);
      CHECK(first != reseeded);
    }
    for (auto* p : {&first, &second, &reseeded}) {
      std::sort(p->begin(), p->end());
      for (std::int64_t i = 0; i < n; ++i) REQUIRE((*p)[static_cast<std::size_t>(i)] == i);
    }
  }
  // Where row 0 of 5 goes over many epochs: every place alike, chi-squared with 4 degrees of freedom.
  std::array<int, 5> seen{};
  for (std::uint64_t epoch = 0; epoch < 5000; ++epoch)
    ++seen[static_cast<std::size_t>(boot::permuted_row(0, 5, 1, epoch))];
  double chi = 0;
  for (const int k : seen) chi += (k - 1000.0) * (k - 1000.0) / 1000.0;
  CHECK(chi < 23.5);  // p = 1e-4
}

TEST_CASE("denoising: rows follow epochs across steps, whatever the parts", "[objective][denoising]") {
  const vec data = data_values<double>();
  toy<double> student({prediction_kind::v}, 32);
  boot::denoising loss{student, schedule_called("cosine"), view_of(data)};
  std::vector<std::int64_t> drawn;
  for (std::int64_t step = 0; step < 5; ++step)
    for (std::int64_t i = 0; i < 4; ++i) drawn.push_back(loss.data_row({.seed = 8, .step = step, .count = 4}, i));
  for (std::size_t epoch = 0; epoch < 2; ++epoch)
    CHECK(std::set<std::int64_t>(drawn.begin() + static_cast<std::ptrdiff_t>(10 * epoch),
                                 drawn.begin() + static_cast<std::ptrdiff_t>(10 * epoch + 10))
              .size() == 10);
  boot::denoising any{student, schedule_called("cosine"), view_of(data), {.order = boot::data_order::independent}};
  std::array<int, 10> seen{};
  for (std::int64_t i = 0; i < 10000; ++i)
    ++seen[static_cast<std::size_t>(any.data_row({.seed = 8, .step = 1, .count = 10000}, i))];
  for (const int k : seen) CHECK(std::abs(k - 1000) < 150);
}

TEST_CASE("denoising: stratified times cover the range evenly in one batch", "[objective][denoising]") {
  const vec data = data_values<double>();
  toy<double> student({prediction_kind::v}, 32);
  toy<double>::log_type log;
  student.log = &log;
  boot::denoising loss{student, schedule_called("cosine"), view_of(data)};
  boot::loss_report report;
  static_cast<void>(run(loss, {.seed = 1, .step = 0, .count = 50}, report));
  REQUIRE(log.size() == 50);
  for (std::size_t i = 0; i < 50; ++i) {
    const double position = (log[i].t_source - 0.001) / 0.999;
    REQUIRE(log[i].t_source == log[i].t_target);
    REQUIRE(log[i].recorded);
    REQUIRE(position > static_cast<double>(i) / 50 - 1e-12);
    REQUIRE(position < static_cast<double>(i + 1) / 50 + 1e-12);
  }
}

TEST_CASE("denoising: two half requests add up to the whole, bit by bit per sample", "[objective][denoising]") {
  const vec data = data_values<double>();
  toy<double> student({prediction_kind::v}, 33);
  boot::denoising loss{
      student, schedule_called("edm"), view_of(data), {}, boot::data_labels<boot::cpu>(row_labels(), 0.3)};
  check_halves(loss, whole, 7);
}

TEST_CASE("denoising: float agrees with double", "[objective][denoising]") {
  const vec data = data_values<double>();
  const auto small = data_values<float>();
  const vec rounded(small.begin(), small.end());
  const any_schedule z = schedule_called("cosine");
  toy<double> student({prediction_kind::v}, 34);
  auto small_student = student.as<float>();
  boot::denoising loss{small_student, z, view_of(small)};
  boot::loss_report report;
  const vec g = run(loss, whole, report);
  const auto terms = reference(loss, student, z, rounded, false, 0, {}, whole);
  CHECK_THAT(report.total, Catch::Matchers::WithinRel(loss_of(student, terms, square()), 1e-5));
  CHECK(relative_difference(g, gradient_of(student, terms, square())) <= 1e-5);
}

TEST_CASE("denoising: trains an mlp with classes", "[objective][denoising]") {
  const boot::cpu dev;
  const auto data = data_values<float>();
  boot::mlp_options shape{.features = 3, .width = 8, .hidden_layers = 2, .classes = 3, .time_scale = 8};
  shape.time.features = 8;
  boot::network_model<boot::mlp> network(dev, boot::mlp(shape), {prediction_kind::v}, 1);
  boot::denoising loss{network, boot::cosine_schedule{}, view_of(data), {}, boot::data_labels<boot::cpu>(row_labels())};
  const boot::batch_request request{.seed = 1, .step = 0, .count = 64};
  const double before = loss(dev, request).total;
  const auto w = network.parameters().values(), g = network.parameters().gradient();
  for (std::int64_t i = 0; i < w.size(); ++i) w[i] -= 0.02f * g[i];
  CHECK(loss(dev, request).total < before);
  CHECK(loss.describe(64).student_recorded_samples == 64);
  CHECK(loss.describe(64).teacher_samples == 0);
}

TEST_CASE("denoising: wrong data and labels are refused with a sentence", "[objective][denoising]") {
  const vec data = data_values<double>();
  toy<double> student({prediction_kind::v}, 35);
  const any_schedule z = schedule_called("cosine");
  using view = boot::view<const double, boot::cpu>;
  CHECK_THROWS_WITH((boot::denoising{student, z, view(data.data(), {15, 2})}),
                    ContainsSubstring("[15, 2]") && ContainsSubstring("[rows, sample...]"));
  CHECK_THROWS_WITH((boot::denoising{student, z, view(data.data(), {0, 3})}), ContainsSubstring("at least one row"));
  CHECK_THROWS_WITH((boot::denoising{student, z, view_of(data), {}, boot::data_labels<boot::cpu>({0, 1})}),
                    ContainsSubstring("2 labels for 10 rows"));
  CHECK_THROWS_WITH(boot::data_labels<boot::cpu>({0, 1}, 1.5), ContainsSubstring("share of the samples in [0, 1]"));
  toy<double> epsilon({prediction_kind::epsilon}, 35);
  CHECK_NOTHROW(boot::denoising{epsilon, z, view_of(data)}({}, whole));  // epsilon is trainable at alpha = 0
}
