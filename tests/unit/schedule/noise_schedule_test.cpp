// SPDX-License-Identifier: MIT
/// The functions every schedule gets, on user-written schedules: with the four required members only, and with more.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/noise_schedule.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>

using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// example: custom-schedule
// A user's own schedule: four members are enough. Everything else (lambda, its slope and inverse, steps) is derived.
struct squared_cosine {
  double alpha(double t) const { return t == 1 ? 0.0 : std::pow(std::cos(1.5707963267948966 * t), 2); }
  double sigma(double t) const { return std::pow(std::sin(1.5707963267948966 * t), 2); }
  double t_min() const { return 0.01; }
  double t_max() const { return 1; }
};
static_assert(boot::NoiseSchedule<squared_cosine>);
// example-end: custom-schedule

/// No closed forms, singular at both ends, in another unit of time.
struct plain_flow {
  double alpha(double t) const { return (1000 - t) / 1000; }
  double sigma(double t) const { return t / 1000; }
  double t_min() const { return 0; }
  double t_max() const { return 1000; }
};

/// A closed form of lambda only.
struct exponential {
  double alpha(double) const { return 1; }
  double sigma(double t) const { return std::exp(t); }
  double lambda(double t) const { return t; }
  double t_min() const { return -4; }
  double t_max() const { return 4; }
};

/// Both coefficients are flat near the noise end in double: alpha is 0 at two times.
struct plateau {
  double alpha(double t) const { return t < 0.75 ? 1 - t : 0; }
  double sigma(double) const { return 1; }
  double t_min() const { return 0; }
  double t_max() const { return 1; }
};

/// Any coefficients, for the errors.
struct table {
  double (*a)(double) = [](double t) { return 1 - t; };
  double (*s)(double) = [](double t) { return t; };
  double low = 0, high = 1;
  double alpha(double t) const { return a(t); }
  double sigma(double t) const { return s(t); }
  double t_min() const { return low; }
  double t_max() const { return high; }
};

struct wrong_lambda : table {
  double lambda(double t) const { return std::log(alpha(t) / sigma(t)); }  // the sign of half the log-SNR
};

struct wrong_dlambda : table {
  double dlambda(double) const { return -1; }
};

struct no_sigma {
  double alpha(double t) const { return t; }
  double t_min() const { return 0; }
  double t_max() const { return 1; }
};
struct float_alpha : table {
  float alpha(double) const { return 1; }
};

}  // namespace

TEST_CASE("the concept tells schedules from what is not one", "[schedule]") {
  STATIC_REQUIRE(boot::NoiseSchedule<table>);
  STATIC_REQUIRE_FALSE(boot::NoiseSchedule<no_sigma>);
  STATIC_REQUIRE_FALSE(boot::NoiseSchedule<float_alpha>);
  STATIC_REQUIRE_FALSE(boot::NoiseSchedule<int>);
  STATIC_REQUIRE(boot::schedule_has_lambda<exponential>);
  STATIC_REQUIRE_FALSE(boot::schedule_has_lambda<plain_flow>);
  boot::check_schedule<plain_flow>();
  boot::check_schedule<exponential>();
  STATIC_REQUIRE(boot::schedule_path_of<table> == boot::schedule_path::variance_preserving);
}

TEST_CASE("a schedule with the four required members gets everything else", "[schedule]") {
  using boot::testing::long_pi;
  const auto ratio = [](long double t) {
    const long double tangent = std::tan(long_pi / 2 * t);
    return tangent * tangent;
  };
  // cos(pi t/2) in double loses digits of 1 - t near the noise end: the range ends where they still suffice
  struct inner : squared_cosine {
    double t_max() const { return 0.9; }
  };
  boot::testing::check_schedule_properties(inner{}, ratio, 0, 1e-8);
  boot::testing::check_schedule_properties(
      plain_flow{}, [](long double t) { return t / (1000 - t); }, 0, 1e-8);
  boot::testing::check_schedule_properties(
      exponential{}, [](long double t) { return std::exp(t); }, 0, 1e-8);
  REQUIRE_NOTHROW(boot::validate_schedule(squared_cosine{}));
}

TEST_CASE("the numeric slope is accurate next to the ends and 1/lambda' is 0 at them", "[schedule]") {
  const plain_flow schedule;
  for (const double t : {1e-6, 1e-3, 1.0, 999.0, 999.999, 999.999999}) {
    const double exact = 1000 / (t * (1000 - t));
    CAPTURE(t);
    REQUIRE(std::abs(boot::schedule_dlambda(schedule, t) / exact - 1) < 1e-9);
    REQUIRE(std::abs(boot::inverse_dlambda(schedule, t) * exact - 1) < 1e-9);
  }
  for (const double t : {0.0, 1000.0}) {
    REQUIRE(boot::inverse_dlambda(schedule, t) == 0);
    REQUIRE(boot::schedule_dlambda(schedule, t) == infinity);
  }
}

TEST_CASE("signal_step takes its limits exactly", "[schedule]") {
  const plain_flow schedule;
  REQUIRE(boot::signal_step(schedule, 1000, 400) == 1);
  REQUIRE(boot::signal_step(schedule, 1000, 0) == 1);
  REQUIRE(boot::signal_step(schedule, 400, 0) == 1);
  REQUIRE(boot::signal_step(schedule, 1000, 1000) == 0);
  REQUIRE(boot::signal_step(schedule, 0, 0) == 0);
  REQUIRE(boot::signal_step(schedule, 400, 1000) == -infinity);
  REQUIRE(boot::signal_step(schedule, 0, 400) == -infinity);
  REQUIRE(boot::signal_step(plateau{}, 1, 0.8) == 1);  // alpha = 0 at both: y is replaced by f
  REQUIRE(boot::noise_to_signal(schedule, 1000) == infinity);
  REQUIRE(boot::noise_to_signal(schedule, 0) == 0);
  REQUIRE(boot::schedule_lambda(schedule, 1000) == infinity);
  REQUIRE(boot::schedule_lambda(schedule, 0) == -infinity);
}

TEST_CASE("heun_factor agrees with long double on both sides of its series", "[schedule]") {
  // reference: the ratio of two long double sums, ln(1 - D)/(-D) - 1 and ln(1 - D)/(-D), or the plain form at large |D|
  const auto reference = [](long double d) {
    if (std::abs(d) > 0.5L) return 1 + d / std::log1p(-d);
    long double sum = 0, power = 1;
    for (int k = 1; k <= 80; ++k) sum += (power *= d) / static_cast<long double>(k + 1);
    return sum / (1 + sum);
  };
  const unsigned seed = boot::testing::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> exponents(-12, 0), signs(-1, 1);
  for (int trial = 0; trial < 4000; ++trial) {
    double d = std::pow(10.0, exponents(generator));
    if (signs(generator) < 0) d *= -5;
    if (d >= 1) continue;
    const long double exact = reference(static_cast<long double>(d));
    CAPTURE(d);
    REQUIRE(std::abs(static_cast<long double>(boot::heun_factor(d)) - exact) <= 2e-15L * std::abs(exact) + 4e-16L);
    if (std::abs(d) < 0.25) REQUIRE(std::abs(static_cast<long double>(boot::heun_factor(d)) / exact - 1) <= 1e-15L);
  }
  for (const double d : {0.25, -0.25}) {  // no jump where the series takes over
    const double inside = std::nextafter(d, 0.0);
    REQUIRE(std::abs(boot::heun_factor(d) - boot::heun_factor(inside)) < 1e-15);
  }
  REQUIRE(boot::heun_factor(0) == 0);
  REQUIRE(boot::heun_factor(1) == 1);
  REQUIRE(boot::heun_factor(std::nextafter(1.0, 0.0)) < 1);
  REQUIRE(boot::heun_factor(-infinity) == -infinity);
}

TEST_CASE("time_of_lambda clamps outside the range and refuses NaN", "[schedule]") {
  REQUIRE(boot::time_of_lambda(exponential{}, -5) == -4);
  REQUIRE(boot::time_of_lambda(exponential{}, 17) == 4);
  REQUIRE(boot::time_of_lambda(exponential{}, 1.25) == 1.25);
  const std::string text = message_of([] { (void)boot::time_of_lambda(exponential{}, std::nan("")); });
  REQUIRE_THAT(text, ContainsSubstring("lambda is NaN"));
}

TEST_CASE("validate_schedule names the time, the values and the remedy", "[schedule]") {
  const auto validate = [](const auto& schedule) { return message_of([&] { boot::validate_schedule(schedule, 5); }); };
  REQUIRE(validate(table{}) == "no error");
  REQUIRE_THAT(validate(table{.low = 1, .high = 0}), ContainsSubstring("t_min() = 1 and t_max() = 0"));
  REQUIRE_THAT(validate(table{.high = infinity}), ContainsSubstring("both must be finite"));
  REQUIRE_THAT(validate(table{.a = [](double t) { return 1 / (t - 0.5); }}),
               ContainsSubstring("at t = 0 alpha = -2 and sigma = 0") && ContainsSubstring("narrow [t_min, t_max]"));
  REQUIRE_THAT(validate(table{.s = [](double t) { return std::sqrt(t - 0.25); }}),
               ContainsSubstring("at t = 0 alpha = 1 and sigma = ") && ContainsSubstring("both must be finite"));
  REQUIRE_THAT(validate(table{.a = [](double) { return 0.0; }}), ContainsSubstring("not both 0"));
  REQUIRE_THAT(validate(table{.a = [](double t) { return t; }, .s = [](double t) { return 1 - t; }}),
               ContainsSubstring("at t = 0 lambda = log(sigma/alpha) = inf"));
  REQUIRE_THAT(
      validate(table{.a = [](double t) { return t; }, .s = [](double t) { return 1 - t; }, .low = 0.1, .high = 0.9}),
      ContainsSubstring("lambda = log(sigma/alpha) must increase with t") && ContainsSubstring("at t = 0.1") &&
          ContainsSubstring("t_max - t"));
  REQUIRE_THAT(validate(plateau{}), ContainsSubstring("+inf only at t_max"));
  REQUIRE_THAT(validate(wrong_lambda{{.low = 0.1, .high = 0.9}}),
               ContainsSubstring("MINUS HALF the log signal-to-noise"));
  REQUIRE_THAT(validate(wrong_dlambda{}), ContainsSubstring("own dlambda(t) = -1"));
  REQUIRE_THAT(message_of([] { boot::validate_schedule(table{}, 1); }), ContainsSubstring("points = 1"));
}
