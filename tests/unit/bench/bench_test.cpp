// SPDX-License-Identifier: MIT
/// The harness on a clock of our own: repetitions, rounds, declared work, labels, warnings, the command line.
#include "support/catch.hpp"

#include <boot/bench/bench.hpp>

#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench = boot::bench;
using Catch::Matchers::ContainsSubstring;

namespace {

double fake_now = 0;  // advanced by the cases themselves
const auto work = [](double seconds) { return [seconds] { fake_now += seconds; }; };

bench::options fake_options() {
  fake_now = 0;
  return {.rounds = 8, .min_time = .8, .warm_up = .05, .noise_limit = .1, .threads = 1, .now = [] { return fake_now; }};
}

bench::case_result only_result(const bench::suite& s, const bench::options& o) {
  const auto results = s.run(o, "", [](const bench::case_result&) {});
  REQUIRE(results.size() == 1);
  return results.front();
}

bench::command parse(std::vector<std::string_view> arguments) { return bench::parse_command(arguments); }

template <class T>
constexpr bool can_keep = requires(T& value) {
  bench::do_not_optimize(value);
};

}  // namespace

TEST_CASE("a case is repeated until its rounds are long enough", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("timing");
  long calls = 0;
  s.add("one", [&](bench::run_state& run) {
    run.bytes_read(3e6);
    run.bytes_written(1e6);
    run.flop(2e6);
    run.measure([&] {
      ++calls;
      fake_now += 1e-3;
    });
  });
  const bench::case_result r = only_result(s, o);
  REQUIRE(r.sides.size() == 1);
  CHECK(r.label == "one");
  CHECK(r.sides[0].seconds.count == 8);
  CHECK(r.sides[0].seconds.median == Catch::Approx(1e-3));
  CHECK(static_cast<double>(r.sides[0].repetitions) * 1e-3 * 8 >= .8 * .999);  // as long as asked
  CHECK(static_cast<double>(r.sides[0].repetitions) * 1e-3 * 8 <= 3 * .8);     // and not wastefully longer
  CHECK(calls >= static_cast<long>(8 * r.sides[0].repetitions));
  CHECK(r.sides[0].gigabytes_per_second() == Catch::Approx(4));  // 4e6 bytes in 1e-3 s
  CHECK(r.sides[0].gigaflop_per_second() == Catch::Approx(2));
}

TEST_CASE("a call longer than a round runs once per round, after one warm-up call", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("timing");
  int calls = 0;
  s.add("slow", [&](bench::run_state& run) {
    run.measure([&] {
      ++calls;
      fake_now += 5;
    });
  });
  CHECK(only_result(s, o).sides[0].repetitions == 1);
  CHECK(calls == 9);
}

TEST_CASE("the warm-up lasts as long as asked", "[bench]") {
  bench::options o = fake_options();
  o.warm_up = 3;
  bench::suite s("timing");
  double first_slow_calls = 0;
  s.add("cold", [&](bench::run_state& run) {
    run.measure([&] {
      const bool cold = fake_now < 2;  // slow until warm
      first_slow_calls += cold ? 1 : 0;
      fake_now += cold ? .5 : .1;
    });
  });
  CHECK(only_result(s, o).sides[0].seconds.largest == Catch::Approx(.1));
  CHECK(first_slow_calls == 4);
}

TEST_CASE("two sides take turns and give a ratio", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("pair");
  s.add("fast_or_slow", [&](bench::run_state& run) {
    run.flop(1e6);
    run.compare("fast", work(1e-3), "slow", work(4e-3));
  });
  const bench::case_result r = only_result(s, o);
  REQUIRE(r.sides.size() == 2);
  REQUIRE(r.ratio.has_value());
  CHECK(r.sides[0].name == "fast");
  CHECK(r.sides[1].name == "slow");
  CHECK(r.ratio->median == Catch::Approx(.25));
  CHECK(r.ratio->count == 8);
  CHECK(r.sides[1].gigaflop_per_second() == Catch::Approx(.25));
  CHECK_THAT(bench::table_line(r), ContainsSubstring("fast/slow 0.250"));
}

TEST_CASE("noise and missing optimisation are reported", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("noise");
  int calls = 0;
  s.add("noisy", [&](bench::run_state& run) { run.measure([&] { fake_now += ++calls % 2 == 0 ? 1 : 2; }); });
  s.add("steady", [&](bench::run_state& run) { run.measure(work(1)); });
  const auto results = s.run(o, "", [](const bench::case_result&) {});
  REQUIRE(results.size() == 2);
  const std::size_t builds = BOOT_OPTIMIZED == 0 ? 1 : 0;
  REQUIRE(results[0].warnings.size() == builds + 1);
  CHECK_THAT(results[0].warnings[0], ContainsSubstring("quiet the machine"));
  REQUIRE(results[1].warnings.size() == builds);
  if (builds == 1) CHECK_THAT(results[1].warnings[0], ContainsSubstring("without optimisation"));
}

TEST_CASE("axes multiply, the last one fastest", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("axes");
  std::vector<std::int64_t> seen;
  s.add("loss", bench::axis("n", {1, 16}) * bench::axis("d", {2, 3, 4}), [&](bench::run_state& run) {
    seen.push_back(run["n"] * 10 + run["d"]);
    run.measure(work(1));
  });
  s.add("other", bench::axis("k", {7}), [](bench::run_state& run) { run.measure(work(1)); });
  CHECK(s.labels() == std::vector<std::string>{"loss/n=1/d=2", "loss/n=1/d=3", "loss/n=1/d=4", "loss/n=16/d=2",
                                               "loss/n=16/d=3", "loss/n=16/d=4", "other/k=7"});
  CHECK(s.labels("n=16") == std::vector<std::string>{"loss/n=16/d=2", "loss/n=16/d=3", "loss/n=16/d=4"});
  std::size_t told = 0;
  const auto results = s.run(o, "loss", [&](const bench::case_result&) { ++told; });
  CHECK(seen == std::vector<std::int64_t>{12, 13, 14, 162, 163, 164});
  CHECK(told == 6);
  CHECK(results[3].point == std::vector<std::pair<std::string, std::int64_t>>{{"n", 16}, {"d", 2}});
}

TEST_CASE("a case that fails is told, and the others run", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("failing");
  s.add("throws", [](bench::run_state&) { throw std::runtime_error("no such thing"); });
  s.add("forgets", [](bench::run_state&) {});
  s.add("twice", [](bench::run_state& run) {
    run.measure(work(1));
    run.measure(work(1));
  });
  s.add("asks", bench::axis("n", {1}), [](bench::run_state& run) { static_cast<void>(run["m"]); });
  s.add("timeless", [](bench::run_state& run) { run.measure(work(0)); });
  s.add("works", [](bench::run_state& run) { run.measure(work(1)); });
  bench::options quick = o;
  quick.min_time = 0;
  quick.warm_up = 0;
  const auto r = s.run(quick, "", [](const bench::case_result&) {});
  REQUIRE(r.size() == 6);
  const std::vector<std::string> expected{"no such thing", "run.measure()", "two cases", "no axis 'm'", "--min-time"};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(r[i].sides.empty());
    REQUIRE(r[i].warnings.size() == 1);
    CHECK_THAT(r[i].warnings[0], ContainsSubstring(expected[i]));
  }
  CHECK(r[5].sides.size() == 1);
}

TEST_CASE("names must be unique and axes not empty", "[bench]") {
  bench::suite s("names");
  s.add("a", [](bench::run_state&) {});
  CHECK_THROWS_WITH(s.add("a", [](bench::run_state&) {}), ContainsSubstring("its own name"));
  CHECK_THROWS_WITH(bench::axis("n", {}), ContainsSubstring("at least one value"));
  CHECK_THROWS_WITH(bench::axis("n", {1}) * bench::axis("n", {2}), ContainsSubstring("given twice"));
}

TEST_CASE("results become JSON", "[bench]") {
  const bench::options o = fake_options();
  bench::suite s("json");
  s.add("pair", bench::axis("n", {4}), [](bench::run_state& run) {
    run.bytes_read(8);
    run.compare("a", work(.25), "b", work(.5));
  });
  const std::string text = bench::to_json("json", o, s.run(o, "", [](const bench::case_result&) {}));
  CHECK_THAT(text, ContainsSubstring(R"({"suite": "json", "machine": {"processor": )"));
  CHECK_THAT(text, ContainsSubstring(
                       R"("label": "pair/n=4", "axes": {"n": 4}, "sides": [{"name": "a", "seconds": {"median": 0.25)"));
  CHECK_THAT(text, ContainsSubstring(R"("ratio": {"median": 0.5, "lower_quartile": 0.5)"));
  CHECK_THAT(text, ContainsSubstring(R"("bytes": 8, "gb_per_s": 3.2e-08)"));
}

TEST_CASE("the command line is understood in both spellings", "[bench]") {
  const bench::command c = parse({"--filter", "loss", "--rounds=6", "--min-time", "1.5", "--json=a=b.json", "--threads",
                                  "2", "--warm-up=0", "--noise-limit", ".2"});
  CHECK(c.filter == "loss");
  CHECK(c.settings.rounds == 6);
  CHECK(c.settings.min_time == 1.5);
  CHECK(c.settings.warm_up == 0);
  CHECK(c.settings.noise_limit == .2);
  CHECK(c.settings.threads == 2);
  CHECK(c.json == "a=b.json");
  CHECK_FALSE(c.list_only);
  CHECK(parse({"--list"}).list_only);
  CHECK(parse({"-h"}).help_only);
  CHECK(bench::parse_command({}, {.rounds = 3}).settings.rounds == 3);
}

TEST_CASE("a wrong command line is explained", "[bench]") {
  CHECK_THROWS_WITH(parse({"--round", "3"}), ContainsSubstring("unknown argument '--round'"));
  CHECK_THROWS_WITH(parse({"--rounds"}), ContainsSubstring("needs a value"));
  CHECK_THROWS_WITH(parse({"--rounds", "0"}), ContainsSubstring("'0'; it needs a whole number of at least 1"));
  CHECK_THROWS_WITH(parse({"--rounds", "3x"}), ContainsSubstring("'3x'"));
  CHECK_THROWS_WITH(parse({"--rounds", "99999999999"}), ContainsSubstring("'99999999999'"));
  CHECK_THROWS_WITH(parse({"--min-time", "nan"}), ContainsSubstring("seconds, 0 or more"));
  CHECK_THROWS_WITH(parse({"--min-time", "inf"}), ContainsSubstring("seconds, 0 or more"));
  CHECK_THROWS_WITH(parse({"--min-time", "-1"}), ContainsSubstring("seconds, 0 or more"));
  CHECK_THROWS_WITH(parse({"--list=yes"}), ContainsSubstring("takes no value"));
  CHECK_THROWS_WITH(parse({"--json", ""}), ContainsSubstring("needs a file"));

  bench::suite s("empty");
  const char* const arguments[] = {"program", "--filter", "nothing"};
  CHECK(s.main(3, arguments) == 2);
}

TEST_CASE("kept values survive the optimiser", "[bench]") {
  double x = 1;
  bench::do_not_optimize(x);  // the compiler may no longer assume what x is, but it is still 1
  CHECK(x == 1);
  static_assert(can_keep<double> && !can_keep<const double>, "constants could be folded");
}
