// SPDX-License-Identifier: MIT
/// The benchmark harness: cases over axes, warm-up, adaptive repetitions, paired A/B rounds, JSON, a command line.
#pragma once

#include <boot/bench/report.hpp>
#include <boot/bench/statistics.hpp>
#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>  // function: cases of many types in one list
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0::bench {

namespace detail {
inline std::atomic<const volatile void*> kept{nullptr};
}

/// Makes the compiler believe that `value` was read and may have been changed, so that the work behind it stays.
/// Takes a non-const lvalue on purpose: a constant could still be folded.
template <class T>
requires(!std::is_const_v<T>) void do_not_optimize(T& value) noexcept {
  detail::kept.store(std::addressof(value), std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// Seconds of a clock that never runs backwards, from an arbitrary beginning.
[[nodiscard]] inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// How long to measure, and when to complain.
struct options {
  int rounds = 16;                    ///< timed rounds of each side; the figures are order statistics over them
  double min_time = .2;               ///< seconds that all rounds of a side take together, at least
  double warm_up = .05;               ///< seconds of calls before the first round, at least one call
  double noise_limit = .1;            ///< a relative spread of the quartiles above this is reported as noise
  int threads = 0;                    ///< of the device that cases get; 0: all
  double (*now)() = &steady_seconds;  ///< the clock, in seconds
};

/// One dimension of a case: a name and its values.
struct axis {
  std::string name;                  ///< what `run["name"]` asks for
  std::vector<std::int64_t> values;  ///< at least one

  /// A named list of values; throws boot::error when either is empty.
  axis(std::string axis_name, std::vector<std::int64_t> axis_values)
      : name(std::move(axis_name)), values(std::move(axis_values)) {
    require(!name.empty() && !values.empty(),
            "boot::bench: axis '{}' has {} values; give a name and at least one value", name, values.size());
  }
  /// The same from a braced list.
  axis(std::string axis_name, std::initializer_list<std::int64_t> axis_values)
      : axis(std::move(axis_name), std::vector<std::int64_t>(axis_values)) {}
};

/// Several axes: a case runs at every combination, the last axis fastest.
struct axes {
  std::vector<axis> list;  ///< in the order they were multiplied

  axes() = default;
  /// The product of one.
  axes(axis one) : list{std::move(one)} {}  // NOLINT(google-explicit-constructor): an axis is the product of one
};

/// The product of axes. Throws boot::error when a name comes twice.
[[nodiscard]] inline axes operator*(axes left, const axis& right) {
  for (const axis& a : left.list)
    require(a.name != right.name, "boot::bench: axis '{}' is given twice; name each axis once", a.name);
  left.list.push_back(right);
  return left;
}
/// The product of two axes.
[[nodiscard]] inline axes operator*(const axis& left, const axis& right) { return axes(left) * right; }

/// What one side of one case measured.
struct side_result {
  std::string name;               ///< empty in a case with one side
  summary seconds;                ///< of one call
  std::uint64_t repetitions = 0;  ///< calls per round
  double bytes = 0;               ///< read and written per call, as declared; 0: not told
  double flop = 0;                ///< floating-point operations per call, as declared; 0: not told

  /// 10^9 bytes per second by the median; 0 when no bytes were declared.
  [[nodiscard]] double gigabytes_per_second() const { return bytes * 1e-9 / seconds.median; }
  /// 10^9 operations per second by the median; 0 when none were declared.
  [[nodiscard]] double gigaflop_per_second() const { return flop * 1e-9 / seconds.median; }
};

/// One case at one point of its axes.
struct case_result {
  std::string label;                                        ///< "name" or "name/n=1024/d=8"
  std::vector<std::pair<std::string, std::int64_t>> point;  ///< axis names and values
  std::vector<side_result> sides;                           ///< one, or the two of compare()
  std::optional<summary> ratio;                             ///< first over second side, per round, of compare()
  std::vector<std::string> warnings;                        ///< why the figures may lie
};

namespace detail {

/// Seconds of one call, over `repetitions` calls.
template <class F>
double seconds_per_call(F& body, std::uint64_t repetitions, double (*now)()) {
  const double begin = now();
  for (std::uint64_t i = 0; i < repetitions; ++i) body();
  return (now() - begin) / static_cast<double>(repetitions);
}

/// Warms up, and finds how many calls fill one round of min_time / rounds seconds.
template <class F>
std::uint64_t calibrate(F& body, const options& o) {
  constexpr std::uint64_t most = std::uint64_t{1} << 30;
  const double wanted = o.min_time / o.rounds, begin = o.now();
  std::uint64_t repetitions = 1;
  for (;;) {
    const double took = seconds_per_call(body, repetitions, o.now) * static_cast<double>(repetitions);
    const bool warm = o.now() - begin >= o.warm_up;
    if (repetitions >= most || (warm && took >= wanted)) return repetitions;
    if (took >= wanted) continue;  // a round is long enough, only the warm-up is not over
    // Aim a little beyond the goal, but trust short measurements only for one order of magnitude.
    const double factor = took > 0 ? (std::min)(10., 1.2 * wanted / took) : 10.;
    const auto grown = static_cast<std::uint64_t>(static_cast<double>(repetitions) * (std::max)(factor, 1.));
    repetitions = (std::min)(most, (std::max)(grown, repetitions + 1));
  }
}

}  // namespace detail

/// What a case's function gets: its point on the axes, its device, and the calls that declare and measure the work.
class run_state {
 public:
  /// For the point `point` of the case `label`.
  run_state(const options& o, std::string label, std::vector<std::pair<std::string, std::int64_t>> point)
      : options_(o),
        result_{.label = std::move(label), .point = std::move(point), .sides = {}, .ratio = {}, .warnings = {}} {
    require(o.rounds >= 1, "boot::bench: {} rounds were asked for; give at least 1, better 8 or more", o.rounds);
  }

  /// The device to run on, with the number of threads the user asked for.
  [[nodiscard]] cpu device() const noexcept { return {.threads = options_.threads}; }
  /// The options in force.
  [[nodiscard]] const options& settings() const noexcept { return options_; }
  /// The value of an axis; throws boot::error for a name that is none.
  [[nodiscard]] std::int64_t operator[](std::string_view axis_name) const {
    for (const auto& [name, value] : result_.point)
      if (name == axis_name) return value;
    fail("boot::bench: case '{}' has no axis '{}'; add it where the case is added", result_.label, axis_name);
  }
  /// Declares bytes one call reads. Several calls add up. The next measure() or compare() uses and forgets them.
  void bytes_read(double count) { bytes_ += count; }
  /// Declares bytes one call writes, added to those it reads.
  void bytes_written(double count) { bytes_ += count; }
  /// Declares floating-point operations of one call.
  void flop(double count) { flop_ += count; }
  /// Keeps `value`, and the work that made it, alive.
  template <class T>
  requires(!std::is_const_v<T>) void keep(T& value) const noexcept { do_not_optimize(value); }
  /// Measures `body()`. What it enqueues on an asynchronous device it must wait for.
  template <class F>
  void measure(F&& body) {
    begin();
    side_result side{
        .name = {}, .seconds = {}, .repetitions = detail::calibrate(body, options_), .bytes = bytes_, .flop = flop_};
    std::vector<double> seconds;
    for (int i = 0; i < options_.rounds; ++i)
      seconds.push_back(detail::seconds_per_call(body, side.repetitions, options_.now));
    side.seconds = summarize(std::move(seconds));
    require(side.seconds.smallest > 0, "boot::bench: case '{}' took no time by the clock; raise --min-time",
            result_.label);
    warn_if_noisy(side.seconds, "");
    result_.sides.push_back(std::move(side));
    end();
  }
  /// Measures `a()` against `b()` in alternating rounds; the declared work holds for both. The ratio is A over B.
  template <class A, class B>
  void compare(std::string name_a, A&& a, std::string name_b, B&& b) {
    begin();
    const std::uint64_t calls_a = detail::calibrate(a, options_), calls_b = detail::calibrate(b, options_);
    const paired_result pair =
        paired_rounds([&] { return detail::seconds_per_call(a, calls_a, options_.now); },
                      [&] { return detail::seconds_per_call(b, calls_b, options_.now); }, {.rounds = options_.rounds});
    result_.sides.push_back({std::move(name_a), pair.a, calls_a, bytes_, flop_});
    result_.sides.push_back({std::move(name_b), pair.b, calls_b, bytes_, flop_});
    result_.ratio = pair.ratio;
    warn_if_noisy(pair.ratio, "ratio ");
    end();
  }
  /// The finished figures; throws boot::error when the case measured nothing.
  [[nodiscard]] const case_result& result() const {
    require(!result_.sides.empty(),
            "boot::bench: case '{}' measured nothing; call run.measure() or run.compare() in it", result_.label);
    return result_;
  }

 private:
  void begin() const {
    require(result_.sides.empty(), "boot::bench: case '{}' measures twice; make it two cases, or use run.compare()",
            result_.label);
  }
  void end() {
    if constexpr (BOOT_OPTIMIZED == 0)
      result_.warnings.emplace_back("built without optimisation; build with -O2 or -O3");
    bytes_ = flop_ = 0;
  }
  void warn_if_noisy(const summary& s, std::string_view what) {
    if (s.relative_spread() <= options_.noise_limit) return;
    result_.warnings.push_back(
        fmt::format("noisy: the {}quartiles lie {:.0f} % of the median apart (limit {:.0f} %); quiet the machine or "
                    "raise --rounds and --min-time",
                    what, 100 * s.relative_spread(), 100 * options_.noise_limit));
  }

  options options_;
  case_result result_;
  double bytes_ = 0, flop_ = 0;
};

/// What a command line asks of a suite.
struct command {
  options settings;        ///< --rounds, --min-time, --warm-up, --threads, --noise-limit
  std::string filter;      ///< --filter: only labels that contain it
  std::string json;        ///< --json: file for the results, empty: none
  bool list_only = false;  ///< --list
  bool help_only = false;  ///< --help
};

/// The text of --help.
inline constexpr const char* command_help =
    "  --filter TEXT     run only the cases whose label contains TEXT\n"
    "  --list            print the labels and stop\n"
    "  --rounds N        timed rounds of each side (16; an even number serves A/B cases best)\n"
    "  --min-time S      seconds that all rounds of a side take together (0.2)\n"
    "  --warm-up S       seconds of calls before the first round (0.05)\n"
    "  --threads N       threads of the device, 0: all (0)\n"
    "  --noise-limit R   warn when the quartiles lie further apart than this share of the median (0.1)\n"
    "  --json FILE       write the results, the machine and the versions to FILE\n"
    "  --help            print this text\n";

namespace detail {

template <class T>
T parse_number(std::string_view option, std::string_view text, T least, const char* needed) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(code == std::errc() && end == text.data() + text.size() && value >= least &&
              value <= (std::numeric_limits<T>::max)(),  // refuses NaN and infinity
          "boot::bench: {} was given '{}'; it needs {}", option, text, needed);
  return value;
}

}  // namespace detail

/// Reads a command line without the program's name; "--name value" and "--name=value" are the same. `defaults` holds
/// for what is not said. Throws boot::error naming the argument that is wrong.
[[nodiscard]] inline command parse_command(std::span<const std::string_view> arguments, const options& defaults = {}) {
  command out{.settings = defaults, .filter = {}, .json = {}};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const std::size_t equals = argument.find('=');
    const bool joined = argument.starts_with("--") && equals != std::string_view::npos;
    const std::string_view name = joined ? argument.substr(0, equals) : argument;
    const auto text = [&]() -> std::string_view {
      if (joined) return argument.substr(equals + 1);
      require(i + 1 < arguments.size(), "boot::bench: {} needs a value after it; see --help", name);
      return arguments[++i];
    };
    const auto flag = [&] {
      require(!joined, "boot::bench: {} takes no value but was given '{}'; leave it out", name,
              argument.substr(equals + 1));
      return true;
    };
    options& o = out.settings;
    if (name == "--filter")
      out.filter = text();
    else if (name == "--json") {
      out.json = text();
      require(!out.json.empty(), "boot::bench: --json was given an empty name; it needs a file");
    } else if (name == "--rounds")
      o.rounds = detail::parse_number<int>(name, text(), 1, "a whole number of at least 1");
    else if (name == "--min-time")
      o.min_time = detail::parse_number<double>(name, text(), 0, "seconds, 0 or more");
    else if (name == "--warm-up")
      o.warm_up = detail::parse_number<double>(name, text(), 0, "seconds, 0 or more");
    else if (name == "--noise-limit")
      o.noise_limit = detail::parse_number<double>(name, text(), 0, "a share, 0 or more");
    else if (name == "--threads")
      o.threads = detail::parse_number<int>(name, text(), 0, "a whole number, 0 for all");
    else if (name == "--list")
      out.list_only = flag();
    else if (name == "--help" || name == "-h")
      out.help_only = flag();
    else
      fail("boot::bench: unknown argument '{}'; --help lists those there are", argument);
  }
  return out;
}

/// One line of the table that a suite prints.
[[nodiscard]] inline std::string table_line(const case_result& r) {
  std::string out = fmt::format("{:<44}", r.label);
  for (const side_result& side : r.sides) {
    out += fmt::format("  {}{} (+-{:.1f} %)", side.name.empty() ? "" : side.name + " ",
                       readable_seconds(side.seconds.median), 50 * side.seconds.relative_spread());
    if (side.bytes > 0) out += fmt::format("  {:.3g} GB/s", side.gigabytes_per_second());
    if (side.flop > 0) out += fmt::format("  {:.3g} GFLOP/s", side.gigaflop_per_second());
  }
  if (r.ratio)
    out += fmt::format("  {}/{} {:.3f} [{:.3f}, {:.3f}]", r.sides[0].name, r.sides[1].name, r.ratio->median,
                       r.ratio->lower_quartile, r.ratio->upper_quartile);
  for (const std::string& w : r.warnings) out += "\n  warning: " + w;
  return out;
}

/// The results of a suite as one JSON object: suite, machine, options, results.
[[nodiscard]] inline std::string to_json(std::string_view suite_name, const options& o,
                                         std::span<const case_result> results) {
  json_writer json;
  json.begin_object().field("suite", suite_name).key("machine");
  write_json(json, this_machine({.threads = o.threads}));
  json.key("options").begin_object().field("rounds", o.rounds).field("min_time", o.min_time);
  json.field("warm_up", o.warm_up).field("noise_limit", o.noise_limit).end_object();
  json.key("results").begin_array();
  for (const case_result& r : results) {
    json.begin_object().field("label", r.label).key("axes").begin_object();
    for (const auto& [name, value] : r.point) json.field(name, value);
    json.end_object().key("sides").begin_array();
    for (const side_result& side : r.sides) {
      json.begin_object().field("name", side.name).key("seconds");
      write_json(json, side.seconds);
      json.field("repetitions", side.repetitions);
      if (side.bytes > 0) json.field("bytes", side.bytes).field("gb_per_s", side.gigabytes_per_second());
      if (side.flop > 0) json.field("flop", side.flop).field("gflop_per_s", side.gigaflop_per_second());
      json.end_object();
    }
    json.end_array();
    if (r.ratio) {
      json.key("ratio");
      write_json(json, *r.ratio);
    }
    json.key("warnings").begin_array();
    for (const std::string& w : r.warnings) json.value(w);
    json.end_array().end_object();
  }
  return json.end_array().end_object().text();
}

/// A named collection of cases. `return suite.main(argc, argv);` makes a benchmark program of it.
class suite {
 public:
  /// A suite called `name`, whose command line starts from `defaults`.
  explicit suite(std::string name, const options& defaults = {}) : name_(std::move(name)), defaults_(defaults) {}

  /// Adds a case that runs once at every point of `points`. `body(run_state&)` prepares, declares its work and calls
  /// run.measure() or run.compare() once. Throws boot::error when the name is taken.
  void add(std::string name, axes points, std::function<void(run_state&)> body) {
    for (const entry& e : entries_)
      require(e.name != name, "boot::bench: suite '{}' has two cases called '{}'; give each its own name", name_, name);
    entries_.push_back({std::move(name), std::move(points), std::move(body)});
  }
  /// Adds a case without axes.
  void add(std::string name, std::function<void(run_state&)> body) { add(std::move(name), axes{}, std::move(body)); }

  /// Labels of all points whose label contains `filter`, in the order they run.
  [[nodiscard]] std::vector<std::string> labels(std::string_view filter = {}) const {
    std::vector<std::string> out;
    each(filter, [&](const entry&, const std::string& label, const auto&) { out.push_back(label); });
    return out;
  }
  /// Runs the cases whose label contains `filter` and calls `tell(result)` after each. A case that throws becomes a
  /// result without sides whose warning is the reason.
  template <class Tell>
  std::vector<case_result> run(const options& o, std::string_view filter, Tell&& tell) const {
    std::vector<case_result> out;
    each(filter, [&](const entry& e, const std::string& label, const auto& point) {
      run_state state(o, label, point);
      try {
        e.body(state);
        out.push_back(state.result());
      } catch (const std::exception& reason) {
        out.push_back({.label = label,
                       .point = point,
                       .sides = {},
                       .ratio = {},
                       .warnings = {std::string("failed: ") + reason.what()}});
      }
      tell(out.back());
    });
    return out;
  }
  /// The whole program: reads the command line, runs, prints a table, writes the JSON file.
  /// Returns 0 when all went well, 1 when a case or the file failed, 2 for a wrong command line.
  int main(int argc, const char* const* argv) const {
    const std::vector<std::string_view> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    command c;
    try {
      c = parse_command(arguments, defaults_);
      require(c.help_only || !labels(c.filter).empty(),
              "boot::bench: --filter '{}' matches no case of suite '{}'; --list prints their labels", c.filter, name_);
    } catch (const error& reason) {
      fmt::print(stderr, "{}\n", reason.what());
      return 2;
    }
    if (c.help_only) {
      fmt::print("benchmarks of '{}'\n{}", name_, command_help);
      return 0;
    }
    if (c.list_only) {
      for (const std::string& label : labels(c.filter)) fmt::print("{}\n", label);
      return 0;
    }
    const machine_info m = this_machine({.threads = c.settings.threads});
    fmt::print("{}: {}, {} cores, {} threads, {}, boot {}\n", name_, m.processor, m.cores, m.threads, m.compiler,
               m.library);
    int status = 0;
    const std::vector<case_result> results = run(c.settings, c.filter, [&](const case_result& r) {
      if (r.sides.empty()) status = 1;
      fmt::print("{}\n", table_line(r));
      std::fflush(stdout);
    });
    if (!c.json.empty()) {
      try {
        write_file(c.json, to_json(name_, c.settings, results) + '\n');
      } catch (const error& reason) {
        fmt::print(stderr, "{}\n", reason.what());
        return 1;
      }
    }
    return status;
  }

 private:
  struct entry {
    std::string name;
    axes points;
    std::function<void(run_state&)> body;
  };

  template <class F>
  void each(std::string_view filter, F&& f) const {
    for (const entry& e : entries_) {
      std::size_t count = 1;
      for (const axis& a : e.points.list) count *= a.values.size();
      for (std::size_t i = 0; i < count; ++i) {
        std::vector<std::pair<std::string, std::int64_t>> point;
        std::string label = e.name;
        std::size_t stride = count, rest = i;
        for (const axis& a : e.points.list) {
          stride /= a.values.size();
          point.emplace_back(a.name, a.values[rest / stride]);
          rest %= stride;
          label += fmt::format("/{}={}", a.name, point.back().second);
        }
        if (label.find(filter) != std::string::npos) f(e, label, point);
      }
    }
  }

  std::string name_;
  options defaults_;
  std::vector<entry> entries_;
};

}  // namespace boot::inline v0::bench
