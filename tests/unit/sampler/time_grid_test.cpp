// SPDX-License-Identifier: MIT
/// Time grids: their ends, their spacing, infinite lambda, and their errors.
#include "unit/sampler/sampler_support.hpp"

#include <boot/sampler/time_grid.hpp>

using boot::make_time_grid;
using boot::time_spacing;
using boot::testing::sampler_message;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("time grid: even in t, ends exact, decreasing", "[sampler]") {
  boot::testing::for_each_schedule([](const char* name, const auto& schedule) {
    CAPTURE(name);
    for (const std::int64_t steps : {1, 2, 3, 10, 37}) {
      const auto grid = make_time_grid(schedule, time_spacing::time, steps);
      REQUIRE(grid.size() == static_cast<std::size_t>(steps) + 1);
      REQUIRE(grid.front() == schedule.t_max());
      REQUIRE(grid.back() == schedule.t_min());
      const double d = (schedule.t_max() - schedule.t_min()) / static_cast<double>(steps);
      for (std::size_t i = 1; i < grid.size(); ++i) REQUIRE(std::abs(grid[i - 1] - grid[i] - d) < 1e-15);
      boot::check_time_grid(schedule, grid);
    }
  });
}

TEST_CASE("time grid: even in lambda where lambda is finite", "[sampler]") {
  const boot::linear_schedule linear;
  const auto grid = make_time_grid(linear, time_spacing::lambda, 20);
  REQUIRE(grid.front() == linear.t_max());
  REQUIRE(grid.back() == linear.t_min());
  const double d = (linear.lambda(grid.front()) - linear.lambda(grid.back())) / 20;
  for (std::size_t i = 1; i < grid.size(); ++i)
    REQUIRE(std::abs(linear.lambda(grid[i - 1]) - linear.lambda(grid[i]) - d) < 1e-10);
}

TEST_CASE("time grid: where lambda is infinite the end stands alone and the rest is even", "[sampler]") {
  const auto finite_part = [](const auto& schedule, const std::vector<double>& grid, std::size_t first,
                              std::size_t last) {
    for (std::size_t i = first + 2; i <= last; ++i)
      REQUIRE(std::abs((schedule.lambda(grid[i - 2]) - schedule.lambda(grid[i - 1])) -
                       (schedule.lambda(grid[i - 1]) - schedule.lambda(grid[i]))) < 1e-10);
  };
  const boot::cosine_schedule cosine;
  const auto grid = make_time_grid(cosine, time_spacing::lambda, 10);
  REQUIRE(grid.size() == 11);
  REQUIRE(grid[0] == 1);
  REQUIRE(std::abs(grid[1] - (1 - 0.02 * 0.999)) < 1e-12);
  REQUIRE(grid[10] == cosine.t_min());
  finite_part(cosine, grid, 1, 10);
  boot::check_time_grid(cosine, grid);

  const boot::cosine_schedule open{{.t_min = 0}};  // infinite at both ends
  const auto both = make_time_grid(open, time_spacing::lambda, 10, 1, 0, 0.05);
  REQUIRE(both.front() == 1);
  REQUIRE(both.back() == 0);
  REQUIRE(std::abs(both[1] - 0.95) < 1e-12);
  REQUIRE(std::abs(both[9] - 0.05) < 1e-12);
  finite_part(open, both, 1, 9);
  boot::check_time_grid(open, both);
  REQUIRE(make_time_grid(open, time_spacing::lambda, 1) == std::vector<double>{1, 0});
  const auto two = make_time_grid(open, time_spacing::lambda, 2);
  REQUIRE(std::abs(two[1] - 0.5) < 1e-12);
  REQUIRE(make_time_grid(cosine, time_spacing::lambda, 1) == std::vector<double>{1, 0.001});
  const auto short_ = make_time_grid(cosine, time_spacing::lambda, 2);
  REQUIRE(std::abs(short_[1] - 0.98002) < 1e-12);
}

TEST_CASE("time grid: errors name what was given and what is needed", "[sampler]") {
  const boot::cosine_schedule s;
  REQUIRE_THAT(sampler_message([&] { (void)make_time_grid(s, time_spacing::time, 0); }), ContainsSubstring("0 steps"));
  REQUIRE_THAT(sampler_message([&] { (void)make_time_grid(s, time_spacing::time, 2, 0.1, 0.5); }),
               ContainsSubstring("from 0.1 to 0.5"));
  REQUIRE_THAT(sampler_message([&] { (void)make_time_grid(s, time_spacing::time, 2, 1, 0); }),
               ContainsSubstring("[0.001, 1]"));
  REQUIRE_THAT(sampler_message([&] { (void)make_time_grid(s, time_spacing::lambda, 2, 1, 0.1, 0.5); }),
               ContainsSubstring("jump = 0.5"));
  REQUIRE_THAT(sampler_message([&] { boot::check_time_grid(s, {1}); }), ContainsSubstring("1 times"));
  REQUIRE_THAT(sampler_message([&] { boot::check_time_grid(s, {1, 0.5, 0.5}); }), ContainsSubstring("must decrease"));
  REQUIRE_THAT(sampler_message([&] { boot::check_time_grid(s, {1.5, 0.5}); }), ContainsSubstring("is 1.5"));
  REQUIRE_THAT(sampler_message([&] { boot::check_time_grid(s, {1, std::nan("")}); }), ContainsSubstring("is nan"));
}
