// SPDX-License-Identifier: MIT
/// The times a sampler visits, from noise to data: even in t, even in log signal-to-noise, or the user's own.
#pragma once

#include <boot/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// How the times of a sampler are spaced.
enum class time_spacing {
  time,   ///< even in the schedule's t
  lambda  ///< even in lambda = log(sigma/alpha), minus half the log signal-to-noise ratio
};

/// `steps` + 1 decreasing times from `from` to `to`, both ends exact.
///
/// Where lambda is infinite at an end (alpha = 0 at `from`, sigma = 0 at `to`) an even spacing in lambda does not exist:
/// the grid has that end itself, then jumps to the time `jump` of the range inside it, and is even from there. Throws
/// boot::error for fewer than one step, ends in the wrong order or outside the schedule's range, or a jump outside
/// (0, 0.5).
template <NoiseSchedule S>
[[nodiscard]] std::vector<double> make_time_grid(const S& schedule, time_spacing spacing, std::int64_t steps,
                                                 double from, double to, double jump = 0.02) {
  require(steps >= 1, "boot: a time grid of {} steps; it needs at least 1, 10 to 50 is usual", steps);
  require(to < from && from <= schedule.t_max() && to >= schedule.t_min(),
          "boot: a time grid from {} to {}; it runs from noise to data, within the schedule's [{}, {}]", from, to,
          schedule.t_min(), schedule.t_max());
  require(jump > 0 && jump < 0.5, "boot: time grid jump = {}; it needs a share of the range in (0, 0.5)", jump);
  const auto count = static_cast<std::size_t>(steps);
  const double n = static_cast<double>(steps);
  std::vector<double> grid(count + 1);
  grid.front() = from;
  grid.back() = to;
  if (spacing == time_spacing::time) {
    for (std::size_t i = 1; i < count; ++i) grid[i] = from + (to - from) * (static_cast<double>(i) / n);
    return grid;
  }
  double high = schedule_lambda(schedule, from), low = schedule_lambda(schedule, to);
  const bool open_above = !std::isfinite(high), open_below = !std::isfinite(low);
  if (open_above) high = schedule_lambda(schedule, from - jump * (from - to));
  if (open_below) low = schedule_lambda(schedule, to + jump * (from - to));
  // Points first .. last carry the even part; the ends that are infinite stand outside it.
  const std::size_t first = open_above ? 1 : 0, last = open_below ? count - 1 : count;
  for (std::size_t i = 1; i < count; ++i) {
    const double part = last > first ? static_cast<double>(i - first) / static_cast<double>(last - first) : 0.5;
    grid[i] = time_of_lambda(schedule, high + (low - high) * part);
  }
  return grid;
}

/// The same over the schedule's whole range, t_max to t_min.
template <NoiseSchedule S>
[[nodiscard]] std::vector<double> make_time_grid(const S& schedule, time_spacing spacing, std::int64_t steps) {
  return make_time_grid(schedule, spacing, steps, schedule.t_max(), schedule.t_min());
}

/// Checks a grid of the user's own: at least two finite times, strictly decreasing, within the schedule's range.
template <NoiseSchedule S>
void check_time_grid(const S& schedule, const std::vector<double>& times) {
  require(times.size() >= 2, "boot: a time grid with {} times; it needs at least 2, the start and the end",
          times.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    require(times[i] >= schedule.t_min() && times[i] <= schedule.t_max(),
            "boot: time {} of a grid is {}; the schedule runs from t_min = {} to t_max = {}", i, times[i],
            schedule.t_min(), schedule.t_max());
    require(i == 0 || times[i] < times[i - 1],
            "boot: times {} and {} of a grid are {} and {}; they must decrease, from noise to data", i - 1, i,
            times[i - (i > 0 ? 1 : 0)], times[i]);
  }
}

}  // namespace boot::inline v0
