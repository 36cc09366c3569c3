// SPDX-License-Identifier: MIT
// Predictions: from a clean signal and noise to what each kind outputs and back, and the limits at both ends.
#include "support/catch.hpp"

#include <boot/model/prediction.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <cmath>
#include <string>

namespace {

using boot::prediction_kind;
using Catch::Matchers::ContainsSubstring;

// What an ideal network of this kind outputs.
double output(prediction_kind kind, double clean, double eps, double alpha, double sigma, double sigma_data) {
  const double x = alpha * clean + sigma * eps;
  switch (kind) {
    case prediction_kind::sample:
      return clean;
    case prediction_kind::epsilon:
      return eps;
    case prediction_kind::v:
      return alpha * eps - sigma * clean;
    case prediction_kind::flow:
      return eps - clean;
    case prediction_kind::edm: {
      const double n = sigma * sigma + sigma_data * sigma_data;
      return (clean - sigma_data * sigma_data / n * x) * std::sqrt(n) / (sigma * sigma_data);
    }
  }
  return 0;
}

template <class S>
void round_trip(const S& schedule, prediction_kind kind, double sigma_data = 0.5) {
  for (const double u : {0.01, 0.3, 0.5, 0.77, 0.99}) {
    const double t = schedule.t_min() + u * (schedule.t_max() - schedule.t_min());
    const auto k = boot::clean_signal_at({kind, sigma_data}, schedule, t);
    for (const double clean : {-1.3, 0.0, 0.8})
      for (const double eps : {-2.0, 0.4}) {
        const double alpha = schedule.alpha(t), sigma = schedule.sigma(t), x = alpha * clean + sigma * eps;
        const double f = k.a * x + k.b * output(kind, clean, eps, alpha, sigma, sigma_data);
        INFO(boot::to_string(kind) << " at t = " << t);
        CHECK(f == Catch::Approx(clean).margin(1e-12 * (1 + sigma / std::max(alpha, 1e-3))));
      }
  }
}

}  // namespace

TEST_CASE("clean signal to output and back, every kind on the schedules it fits", "[model][prediction]") {
  for (const auto kind : {prediction_kind::sample, prediction_kind::epsilon, prediction_kind::v}) {
    round_trip(boot::cosine_schedule{}, kind);
    round_trip(boot::linear_schedule{}, kind);
    round_trip(boot::flow_schedule{}, kind);  // v needs no alpha^2 + sigma^2 = 1
  }
  round_trip(boot::flow_schedule{}, prediction_kind::flow);
  round_trip(boot::edm_schedule(boot::edm_options{}), prediction_kind::edm);
  round_trip(boot::edm_schedule(boot::edm_options{}), prediction_kind::edm, 1.7);
  round_trip(boot::edm_schedule(boot::edm_options{}), prediction_kind::epsilon);
}

TEST_CASE("at alpha = 0 epsilon is refused with the way out, the other kinds are finite", "[model][prediction]") {
  const boot::cosine_schedule cosine;
  const double end = cosine.t_max();
  REQUIRE(cosine.alpha(end) == 0);
  CHECK_THROWS_WITH(boot::clean_signal_at({prediction_kind::epsilon}, cosine, end),
                    ContainsSubstring("alpha = 0") && ContainsSubstring("v or sample"));
  const auto v = boot::clean_signal_at({prediction_kind::v}, cosine, end);
  CHECK(v.a == 0);
  CHECK(v.b == -1);
  const auto sample = boot::clean_signal_at({prediction_kind::sample}, cosine, end);
  CHECK(sample.a == 0);
  CHECK(sample.b == 1);
  const boot::flow_schedule flow;
  const auto velocity = boot::clean_signal_at({prediction_kind::flow}, flow, flow.t_max());
  CHECK(velocity.a == 1);
  CHECK(velocity.b == -1);
}

TEST_CASE("without noise every kind gives back x", "[model][prediction]") {
  for (const auto kind : {prediction_kind::epsilon, prediction_kind::v, prediction_kind::flow, prediction_kind::edm}) {
    const auto k = boot::clean_signal_coefficients({kind}, 1, 0);
    CHECK(k.a == 1);
    CHECK(k.b == 0);
  }
}

TEST_CASE("kinds have names, and a number that is no kind is refused", "[model][prediction]") {
  CHECK(boot::to_string(prediction_kind::sample) == "sample");
  CHECK(boot::to_string(prediction_kind::epsilon) == "epsilon");
  CHECK(boot::to_string(prediction_kind::v) == "v");
  CHECK(boot::to_string(prediction_kind::flow) == "flow");
  CHECK(boot::to_string(prediction_kind::edm) == "edm");
  CHECK(boot::prediction{}.kind == prediction_kind::v);
  CHECK_THROWS_WITH(boot::clean_signal_coefficients({static_cast<prediction_kind>(99)}, 1, 1), ContainsSubstring("99"));
}
