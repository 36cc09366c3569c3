// SPDX-License-Identifier: MIT
/// Robust figures of repeated timings: quartiles, and ratios of two sides that took turns (paired rounds).
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace boot::inline v0::bench {

/// Order statistics of a set of values, in the unit of the values.
struct summary {
  std::size_t count = 0;        ///< how many values
  double smallest = 0;          ///< the least value
  double lower_quartile = 0;    ///< a quarter of the values lie below
  double median = 0;            ///< half of the values lie below
  double upper_quartile = 0;    ///< three quarters of the values lie below
  double largest = 0;           ///< the greatest value
  double median_deviation = 0;  ///< median of |value - median|

  /// Distance of the quartiles over |median|: the noise that benchmarks warn about. 0 for one value; infinity when the
  /// median is 0 and the quartiles differ.
  [[nodiscard]] double relative_spread() const noexcept {
    const double distance = upper_quartile - lower_quartile;
    return distance == 0 ? 0 : distance / std::abs(median);
  }
};

/// The value below which the share `q` in [0, 1] of `sorted` lies, linear between neighbours (type 7 of Hyndman and Fan
/// 1996, what NumPy does). `sorted` must be ascending and not empty; throws boot::error otherwise.
[[nodiscard]] inline double quantile(std::span<const double> sorted, double q) {
  require(!sorted.empty(), "boot::bench: a quantile of no values was asked for; measure at least once");
  require(q >= 0 && q <= 1, "boot::bench: quantile {} was asked for; give a share in [0, 1]", q);
  require(std::is_sorted(sorted.begin(), sorted.end()),
          "boot::bench: quantile() was given values out of order; sort them ascending first");
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = (std::min)(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// Order statistics of `values`, in any order. Throws boot::error when there are none or one is not finite.
[[nodiscard]] inline summary summarize(std::vector<double> values) {
  require(!values.empty(), "boot::bench: no values to summarise; measure at least one round");
  for (std::size_t i = 0; i < values.size(); ++i)
    require(std::isfinite(values[i]), "boot::bench: value {} of {} is {}; only finite values can be summarised", i,
            values.size(), values[i]);
  std::sort(values.begin(), values.end());
  summary s{.count = values.size(),
            .smallest = values.front(),
            .lower_quartile = quantile(values, .25),
            .median = quantile(values, .5),
            .upper_quartile = quantile(values, .75),
            .largest = values.back(),
            .median_deviation = 0};
  for (double& v : values) v = std::abs(v - s.median);
  std::sort(values.begin(), values.end());
  s.median_deviation = quantile(values, .5);
  return s;
}

/// How paired_rounds() goes about its work.
struct paired_options {
  int rounds = 16;        ///< counted rounds, at least 1; even, so that both orders come equally often
  int warm_up = 1;        ///< rounds before them whose figures are thrown away
  bool alternate = true;  ///< every other round runs B before A, so that a steady drift of the machine cancels
};

/// What paired rounds gave. `seconds_a[i] / seconds_b[i] == ratios[i]`.
struct paired_result {
  std::vector<double> seconds_a;  ///< side A, one value per round
  std::vector<double> seconds_b;  ///< side B, one value per round
  std::vector<double> ratios;  ///< A over B within a round: what the two sides shared of the machine's weather cancels
  summary a;                   ///< of seconds_a
  summary b;                   ///< of seconds_b
  summary ratio;               ///< of ratios; its median is the figure to report
};

/// Runs A and B in turns and compares them round by round. `time_a()` and `time_b()` do one round's work of their side
/// and return its seconds: measured here, or told by another process that did it. A quiet minute or a busy one then
/// meets both sides alike, which one long run of A followed by one of B cannot promise.
/// Throws boot::error for fewer than one round and for a time that is not positive and finite.
template <class A, class B>
[[nodiscard]] paired_result paired_rounds(A&& time_a, B&& time_b, const paired_options& options = {}) {
  require(options.rounds >= 1, "boot::bench: {} paired rounds were asked for; give at least 1, better 8 or more",
          options.rounds);
  require(options.warm_up >= 0, "boot::bench: {} warm-up rounds were asked for; give 0 or more", options.warm_up);
  const auto checked = [](double seconds, const char* side, int round) {
    require(std::isfinite(seconds) && seconds > 0,
            "boot::bench: side {} took {} s in round {}; a round needs a positive time: give it more work or a finer "
            "clock",
            side, seconds, round);
    return seconds;
  };
  paired_result out;
  for (int round = -options.warm_up; round < options.rounds; ++round) {
    double a = 0, b = 0;
    if (options.alternate && round % 2 != 0) {
      b = time_b();
      a = time_a();
    } else {
      a = time_a();
      b = time_b();
    }
    if (round < 0) continue;
    out.seconds_a.push_back(checked(a, "A", round));
    out.seconds_b.push_back(checked(b, "B", round));
    out.ratios.push_back(a / b);
  }
  out.a = summarize(out.seconds_a);
  out.b = summarize(out.seconds_b);
  out.ratio = summarize(out.ratios);
  return out;
}

}  // namespace boot::inline v0::bench
