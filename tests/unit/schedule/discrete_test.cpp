// SPDX-License-Identifier: MIT
/// discrete_schedule against the tables of diffusers, its interpolation, zero terminal SNR and its errors.
#include "unit/schedule/schedule_properties.hpp"

#include <boot/schedule/discrete.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <utility>
#include <vector>

using boot::beta_spacing;
using boot::discrete_schedule;
using boot::testing::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

discrete_schedule stable_diffusion(bool zero_terminal_snr = false) {
  return discrete_schedule{{.spacing = beta_spacing::scaled_linear,
                            .beta_start = 0.00085,
                            .beta_end = 0.012,
                            .zero_terminal_snr = zero_terminal_snr}};
}

using fixture = std::vector<std::pair<std::size_t, double>>;

void require_table(const discrete_schedule& schedule, const fixture& values) {
  REQUIRE(schedule.steps() == 1000);
  for (const auto& [index, abar] : values) {
    CAPTURE(index);
    const auto t = static_cast<double>(index);
    REQUIRE(std::abs(schedule.alphas_cumprod()[index] - abar) <= 1e-12 * abar);
    REQUIRE(schedule.alpha(t) == std::sqrt(schedule.alphas_cumprod()[index]));
    REQUIRE(schedule.sigma(t) == std::sqrt(1 - schedule.alphas_cumprod()[index]));
  }
}

/// r(t) from the table alone: lambda linear between integers, 1/r linear where the last abar is 0.
auto ratio_of(const discrete_schedule& schedule) {
  return [table = schedule.alphas_cumprod()](long double t) {
    const auto last = table.size() - 1;
    auto i = static_cast<std::size_t>(t);
    if (i >= last) i = last - 1;
    const auto a = static_cast<long double>(table[i]), b = static_cast<long double>(table[i + 1]);
    const long double w = t - static_cast<long double>(i);
    const long double low = std::sqrt((1 - a) / a);
    if (b == 0) return low / (1 - w);
    return std::pow(low, 1 - w) * std::pow(std::sqrt((1 - b) / b), w);
  };
}

}  // namespace

// The numbers are those of the diffusers 0.42 fixtures (alphas_cumprod, evaluated in float64).
TEST_CASE("discrete: the tables are those of diffusers", "[schedule]") {
  require_table(discrete_schedule{}, {{0, 0.9999},
                                      {1, 0.9997800920720721},
                                      {99, 0.89701814567496},
                                      {249, 0.5240853738253606},
                                      {499, 0.07858724288177821},
                                      {749, 0.003350550438936774},
                                      {998, 4.118193638138444e-05},
                                      {999, 4.0358297653756754e-05}});
  require_table(stable_diffusion(), {{0, 0.99915},
                                     {1, 0.9982960278384514},
                                     {99, 0.8954627734950016},
                                     {249, 0.6754324137251241},
                                     {499, 0.27766965045646763},
                                     {749, 0.05662349159826969},
                                     {998, 0.004716698899875743},
                                     {999, 0.004660098513077234}});
  require_table(discrete_schedule{{.spacing = beta_spacing::squaredcos_cap_v2}}, {{0, 0.999958715775178},
                                                                                  {1, 0.9999125759273678},
                                                                                  {99, 0.9720927371139696},
                                                                                  {249, 0.847012161326905},
                                                                                  {499, 0.4938435904406382},
                                                                                  {749, 0.14427210238573596},
                                                                                  {998, 2.4287669070348544e-06},
                                                                                  {999, 2.4287669070348567e-09}});
  require_table(stable_diffusion(true), {{0, 0.99915},
                                         {1, 0.9982334461401825},
                                         {99, 0.8880858947943184},
                                         {249, 0.6541890065386031},
                                         {499, 0.24235916655614528},
                                         {749, 0.03317148283186264},
                                         {998, 1.9678880566211592e-07},
                                         {999, 0.0}});
  // sigma_min and sigma_max in the units of diffusers' Euler schedulers: r at the first and the last index
  REQUIRE(std::abs(boot::noise_to_signal(discrete_schedule{}, 0) / 0.010000500037502575 - 1) < 1e-11);
  REQUIRE(std::abs(boot::noise_to_signal(discrete_schedule{}, 999) / 157.40728081040757 - 1) < 1e-12);
  REQUIRE(std::abs(boot::noise_to_signal(stable_diffusion(), 0) / 0.029167158151720367 - 1) < 1e-11);
  REQUIRE(std::abs(boot::noise_to_signal(stable_diffusion(), 999) / 14.614641229333646 - 1) < 1e-12);
}

TEST_CASE("discrete: every function agrees with the interpolated table in long double", "[schedule]") {
  for (const auto& schedule : {discrete_schedule{}, stable_diffusion(), stable_diffusion(true)})
    boot::testing::check_schedule_properties(schedule, ratio_of(schedule), 0, 1e-9, true);
  // a short table with a zero at its end: a quarter of all random times lie in the open-ended interval
  const auto brief = discrete_schedule::from_alphas_cumprod({0.9, 0.6, 0.3, 0.1, 0});
  boot::testing::check_schedule_properties(brief, ratio_of(brief), 0, 1e-9, true);
}

TEST_CASE("discrete: steps between close times keep their digits", "[schedule]") {
  const unsigned seed = boot::testing::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> times(0, 999);
  for (const auto& schedule : {stable_diffusion(), stable_diffusion(true)}) {
    for (int trial = 0; trial < 1000; ++trial) {
      // every other pair straddles an integer, where the slope changes
      const double knot = std::ceil(times(generator));
      const double t = trial % 2 == 0 ? knot - 0.3 : knot < 999 ? knot + 1e-7 : knot - 0.25;
      const double s = trial % 2 == 0 ? t - 1e-7 : t - 3e-7;
      CAPTURE(t, s);
      if (s <= 0 || knot < 1) continue;
      const double expected =
          t <= knot
              ? -std::expm1(-schedule.dlambda(knot - 0.3) * (t - s))
              : -std::expm1(-schedule.dlambda(knot + 0.3) * (t - knot) - schedule.dlambda(knot - 0.3) * (knot - s));
      const bool open = schedule.alphas_cumprod().back() == 0 && t > 998;  // there 1/r is linear
      const double exact = open && s >= 998 ? (t - s) / (999 - s)
                           : open           ? 1 - (999 - t) * std::exp(-schedule.dlambda(997.5) * (998 - s))
                                            : expected;
      const double tolerance = open && s < 998 ? 1e-8 : 1e-12;
      REQUIRE(std::abs(boot::signal_step(schedule, t, s) / exact - 1) < tolerance);
    }
  }
}

TEST_CASE("discrete: monotone between integers and continuous across them", "[schedule]") {
  const auto schedule = stable_diffusion(true);
  double last_alpha = 2, last_sigma = -1, last_lambda = -infinity;
  for (int i = 0; i <= 9990; ++i) {
    const double t = i / 10.0, a = schedule.alpha(t), s = schedule.sigma(t), l = schedule.lambda(t);
    CAPTURE(t);
    REQUIRE(a < last_alpha);
    REQUIRE(s >= last_sigma);  // sigma is 1 to the last digit before the end
    REQUIRE(l > last_lambda);
    REQUIRE(std::abs(a * a + s * s - 1) <= 1e-15);
    last_alpha = a, last_sigma = s, last_lambda = l;
  }
  for (const double knot : {1.0, 500.0, 998.0}) {
    for (const double t : {std::nextafter(knot, 0.0), std::nextafter(knot, 1000.0)}) {
      const double expected_change = 1.5 * std::abs(t - knot) * schedule.dlambda(t);
      REQUIRE(std::abs(schedule.alpha(t) / schedule.alpha(knot) - 1) < expected_change + 1e-14);
    }
  }
}

TEST_CASE("discrete: zero terminal SNR ends at alpha = 0 with finite limits", "[schedule]") {
  const auto schedule = stable_diffusion(true);
  REQUIRE(schedule.alpha(999) == 0);
  REQUIRE(schedule.sigma(999) == 1);
  REQUIRE(schedule.lambda(999) == infinity);
  REQUIRE(schedule.dlambda(999) == infinity);
  REQUIRE(boot::inverse_dlambda(schedule, 999) == 0);
  REQUIRE(boot::inverse_dlambda(schedule, 998.75) == 0.25);
  REQUIRE(boot::signal_step(schedule, 999, 998) == 1);
  REQUIRE(boot::signal_step(schedule, 998.75, 998.5) == 0.5);  // 1/r falls from .5 to .25 of its value at 998
  REQUIRE(boot::signal_step(schedule, 999, 999) == 0);
  REQUIRE(std::abs(1 / boot::noise_to_signal(schedule, 998.5) / (0.5 / boot::noise_to_signal(schedule, 998)) - 1) <
          1e-12);
  REQUIRE(boot::time_of_lambda(schedule, infinity) == 999);
  // betas that end with 1 give the same kind of table
  const auto by_betas = discrete_schedule::from_betas({0.1, 0.5, 1});
  REQUIRE(by_betas.alpha(2) == 0);
  REQUIRE(by_betas.alphas_cumprod()[1] == 0.45);
}

TEST_CASE("discrete: a user's own tables", "[schedule]") {
  const auto schedule = discrete_schedule::from_alphas_cumprod({0.75, 0.5, 0.2});
  REQUIRE(schedule.steps() == 3);
  REQUIRE(schedule.t_max() == 2);
  REQUIRE(schedule.alpha(1) == std::sqrt(0.5));
  REQUIRE(schedule.lambda(1) == 0);
  REQUIRE(std::abs(schedule.dlambda(2) - std::log(2.0)) < 1e-15);        // the slope below: log(sqrt(.8/.2)) - 0
  REQUIRE(std::abs(schedule.dlambda(1) - 0.5 * std::log(3.0)) < 1e-15);  // not that above
  REQUIRE(std::abs(schedule.dlambda(0) - 0.5 * std::log(3.0)) < 1e-15);  // the first interval's
  REQUIRE(schedule.alpha(-3) == schedule.alpha(0));
  REQUIRE(schedule.sigma(7) == schedule.sigma(2));
  REQUIRE(std::isnan(schedule.alpha(std::nan(""))));
  const auto rescaled = discrete_schedule::from_betas({0.25, 0.5, 0.5}, true);
  REQUIRE(rescaled.alphas_cumprod().front() == 0.75);
  REQUIRE(rescaled.alphas_cumprod().back() == 0);
}

TEST_CASE("discrete: names of diffusers' beta schedules", "[schedule]") {
  REQUIRE(boot::parse_beta_spacing("linear") == beta_spacing::linear);
  REQUIRE(boot::parse_beta_spacing("scaled_linear") == beta_spacing::scaled_linear);
  REQUIRE(boot::parse_beta_spacing("squaredcos_cap_v2") == beta_spacing::squaredcos_cap_v2);
  REQUIRE_THAT(message_of([] { (void)boot::parse_beta_spacing("sigmoid"); }),
               ContainsSubstring("\"sigmoid\" is not known") && ContainsSubstring("from_betas"));
}

TEST_CASE("discrete: options and tables that do not fit are refused with the values", "[schedule]") {
  const auto make = [](const boot::discrete_options& options) {
    return message_of([&] {
      discrete_schedule schedule{options};
      (void)schedule;
    });
  };
  const auto betas = [](const std::vector<double>& values) {
    return message_of([&] { (void)discrete_schedule::from_betas(values); });
  };
  const auto abars = [](const std::vector<double>& values) {
    return message_of([&] { (void)discrete_schedule::from_alphas_cumprod(values); });
  };
  REQUIRE_THAT(make({.steps = 1}), ContainsSubstring("steps = 1"));
  REQUIRE_THAT(make({.beta_start = 0.1, .beta_end = 20}),
               ContainsSubstring("beta_start = 0.1 and beta_end = 20") && ContainsSubstring("linear_schedule"));
  REQUIRE_THAT(make({.beta_start = std::nan("")}), ContainsSubstring("beta_start = nan"));
  REQUIRE_THAT(betas({0.1}), ContainsSubstring("1 betas were given"));
  REQUIRE_THAT(betas({0.1, 0, 0.2}), ContainsSubstring("betas[1] = 0;") && ContainsSubstring("from_alphas_cumprod"));
  REQUIRE_THAT(betas({0.1, 1, 0.2}), ContainsSubstring("betas[1] = 1;"));
  REQUIRE_THAT(abars({0.9}), ContainsSubstring("has 1 entries"));
  REQUIRE_THAT(abars({0.9, 0.95}), ContainsSubstring("alphas_cumprod[1] = 0.95 after 0.9"));
  REQUIRE_THAT(abars({1, 0.9}), ContainsSubstring("alphas_cumprod[0] = 1 after 1"));
  REQUIRE_THAT(abars({0.9, 0, 0}), ContainsSubstring("alphas_cumprod[1] = 0 after 0.9"));
  REQUIRE_THAT(abars({0.9, std::nan("")}), ContainsSubstring("alphas_cumprod[1] = nan"));
}
