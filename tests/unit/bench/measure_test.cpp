// SPDX-License-Identifier: MIT
/// What the measures share: bars, rows, exit status, the JSON object, resumed results. Needs CLI11, as the measures do.
#include "support/catch.hpp"

#if __has_include(<CLI/CLI.hpp>)

#  include "../../../benchmarks/measure/measure.hpp"

#  include <cmath>
#  include <cstdlib>
#  include <limits>
#  include <map>
#  include <memory>
#  include <random>

using boot::measure::bar;
using boot::measure::json;
using boot::measure::measure_report;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The working directory is a fresh folder that looks like the sources, so that results and caches stay inside it.
struct sandbox {
  std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("boot_measure_" + std::to_string(std::random_device{}()));
  sandbox() {
    std::filesystem::create_directories(path / "include" / "boot");
    boot::bench::write_file((path / "include" / "boot" / "config.hpp").string(), "");
    std::filesystem::current_path(path);
  }
  ~sandbox() {
    std::filesystem::current_path(before);
    std::filesystem::remove_all(path);
  }
  sandbox(const sandbox&) = delete;
  sandbox& operator=(const sandbox&) = delete;
};

measure_report two_rows(std::vector<std::uint64_t> seeds = {}) {
  return {"sample", {{"low", "<= 0.75", "the lower the better"}, {"count", "== 5", "five of them"}}, std::move(seeds)};
}

std::optional<int> parse(measure_report& report, std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sample");
  return report.parse(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

TEST_CASE("a bar holds on its side, and never for what is no number", "[bench][measure]") {
  CHECK(bar("<= 0.75").holds(.75));
  CHECK_FALSE(bar("<= 0.75").holds(std::nextafter(.75, 1.)));
  CHECK(bar(">= .7").holds(.7));
  CHECK_FALSE(bar(">= .7").holds(.69));
  CHECK(bar("== 5").holds(5));
  CHECK_FALSE(bar("== 5").holds(6));
  CHECK(bar("< 1").holds(.5));
  CHECK_FALSE(bar("< 1").holds(1));
  CHECK(bar("> -1e-3").holds(0));
  CHECK_FALSE(bar("> 0").holds(0));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const char* text : {"<= 1", ">= 1", "== 1", "< 1", "> 1"})
    for (const double value : {infinity, -infinity, std::nan("")}) CHECK_FALSE(bar(text).holds(value));
  for (const char* text : {"", "0.75", "<=", "=> 1", "<= x", "<= 1 or so", "<= nan", "<= inf", "! 1"})
    CHECK_THROWS_WITH(bar(text), ContainsSubstring("write it as"));
}

TEST_CASE("the exit status is 0 only if every row was measured and holds", "[bench][measure]") {
  const sandbox here;
  const auto status_of = [](std::optional<double> low, std::optional<double> count) {
    measure_report report = two_rows();
    REQUIRE_FALSE(parse(report, {}).has_value());
    if (low) report.row("low", *low);
    if (count) report.row("count", *count);
    return report.finish();
  };
  CHECK(status_of(.7, 5) == 0);
  CHECK(status_of(.8, 5) == 1);
  CHECK(status_of(.7, 4) == 1);
  CHECK(status_of(.7, std::nullopt) == 1);
  CHECK(status_of(std::nan(""), 5) == 1);
}

TEST_CASE("the object has the agreed form", "[bench][measure]") {
  const sandbox here;
  measure_report report = two_rows({1, 2});
  REQUIRE_FALSE(parse(report, {"--threads", "1"}).has_value());
  report.row("low", .71, "a remark");
  report.row("count", std::numeric_limits<double>::infinity());
  report.setting("size", 8);
  report.config("teacher", "exact");
  report.beside("recall", .5);
  const json object = json::parse(report.result().dump());
  CHECK(object["measure"] == "sample");
  CHECK(object["rows"].dump() ==
        R"({"low":{"value":0.71,"bar":"<= 0.75","holds":true},"count":{"value":null,"bar":"== 5","holds":false}})");
  const json& config = object["config"];
  CHECK(config["seeds"] == json({1, 2}));
  CHECK(config["threads"] == 1);
  CHECK(config["size"] == 8);
  CHECK(config["teacher"] == "exact");
  CHECK(config["beside"]["recall"] == .5);
  CHECK(config["command"] == "sample --threads 1");
  CHECK(config["source"]["commit"].is_string());
  for (const char* key : {"machine", "compiler", "boot", "date", "quick"}) CHECK(config.contains(key));
}

TEST_CASE("the command line picks rows and seeds", "[bench][measure]") {
  const sandbox here;
  measure_report report = two_rows({7});
  REQUIRE_FALSE(parse(report, {"--row", "count", "--seed", "1,2", "--seed=3", "--quick"}).has_value());
  CHECK(report.wants("count"));
  CHECK_FALSE(report.wants("low"));
  CHECK(report.wants_any({"low", "count"}));
  CHECK(report.seeds() == std::vector<std::uint64_t>{1, 2, 3});
  CHECK(report.seeds_were_given());
  CHECK(report.quick());
  report.row("count", 5);
  report.row("low", 9);  // not asked for: neither shown nor counted
  CHECK(report.result()["rows"].size() == 1);
  CHECK(report.finish() == 0);
  CHECK_THROWS_WITH(report.wants("lwo"), ContainsSubstring("the rows are: low, count"));

  measure_report defaults = two_rows({7});
  REQUIRE_FALSE(parse(defaults, {}).has_value());
  CHECK(defaults.seeds() == std::vector<std::uint64_t>{7});
}

TEST_CASE("rows on request run only when something asks for them", "[bench][measure]") {
  const sandbox here;
  const auto make = [] { return measure_report("sample", {{"usual", "<= 1", ""}, {"custom", "<= 1", "", true}}); };
  measure_report plain = make(), named = make(), by_option = make(), nothing = make();
  REQUIRE_FALSE(parse(plain, {}).has_value());
  CHECK(plain.wants("usual"));
  CHECK_FALSE(plain.wants("custom"));
  REQUIRE_FALSE(parse(named, {"--row", "custom"}).has_value());
  CHECK(named.wants("custom"));
  CHECK_FALSE(named.wants("usual"));
  REQUIRE_FALSE(parse(by_option, {}).has_value());
  by_option.only({"custom"});
  CHECK(by_option.wants("custom"));
  CHECK_FALSE(by_option.wants("usual"));
  REQUIRE_FALSE(parse(nothing, {"--row", "usual"}).has_value());
  CHECK_THROWS_WITH(nothing.only({"custom"}), ContainsSubstring("leave no row"));
}

TEST_CASE("a wrong command line ends with status 2, help with 0", "[bench][measure]") {
  const sandbox here;
  const auto status_of = [](std::vector<const char*> arguments) {
    measure_report report = two_rows();
    return parse(report, std::move(arguments));
  };
  CHECK(status_of({"--row", "none"}) == 2);
  CHECK(status_of({"--nonsense"}) == 2);
  CHECK(status_of({"--seed", "one"}) == 2);
  CHECK(status_of({"--threads", "-1"}) == 2);
  CHECK(status_of({"--commit-results", "--quick"}) == 2);
  CHECK(status_of({"--commit-results", "--row", "low"}) == 2);
  CHECK(status_of({"--commit-results", "--seed", "4"}) == 2);
  CHECK(status_of({"--out", "include"}) == 2);  // a folder
  CHECK(status_of({"--help"}) == 0);
}

TEST_CASE("results are written where they were asked for", "[bench][measure]") {
  const sandbox here;
  measure_report report = two_rows();
  REQUIRE_FALSE(parse(report, {"--out", "some/where/r.json", "--commit-results"}).has_value());
  report.row("low", .5);
  report.row("count", 5);
  REQUIRE(report.finish() == 0);
  for (const char* path : {"some/where/r.json", "benchmarks/results/sample.json"}) {
    const json object = json::parse(boot::measure::content_of(path).value());
    CHECK(object["rows"]["low"]["value"] == .5);
  }
}

TEST_CASE("a result is computed once, by this binary and with these settings", "[bench][measure]") {
  const sandbox here;
  int calls = 0;
  std::mt19937_64 engine(std::random_device{}());
  const double expected = std::uniform_real_distribution<double>(0, 1)(engine);
  const auto run = [&](std::vector<const char*> arguments, int setting, const char* key = "seed=1") {
    measure_report report = two_rows();
    REQUIRE_FALSE(parse(report, std::move(arguments)).has_value());
    report.setting("size", setting);
    return report.cached(key, [&] {
      ++calls;
      return expected;
    });
  };
  CHECK(run({}, 1) == expected);
  CHECK(calls == 1);
  CHECK(run({}, 1) == expected);  // every bit of it comes back
  CHECK(calls == 1);
  CHECK(run({}, 1, "seed=2") == expected);
  CHECK(calls == 2);
  CHECK(run({}, 2) == expected);
  CHECK(calls == 3);
  CHECK(run({"--quick"}, 1) == expected);
  CHECK(calls == 4);
  CHECK(run({"--fresh"}, 1) == expected);
  CHECK(calls == 5);
  CHECK(run({}, 1) == expected);
  CHECK(calls == 5);

  // A file cut short, as a power failure may leave it, is no result.
  for (const auto& file : std::filesystem::directory_iterator("build/measure_cache/sample"))
    if (file.path().extension() == ".json") boot::bench::write_file(file.path().string(), "{\"seed=1\": 0.");
  CHECK(run({}, 1) == expected);
  CHECK(calls == 6);
}

TEST_CASE("two runs of one measure keep each other's results", "[bench][measure]") {
  const sandbox here;
  measure_report one = two_rows(), two = two_rows(), later = two_rows();
  for (measure_report* report : {&one, &two, &later}) REQUIRE_FALSE(parse(*report, {}).has_value());
  const auto gives = [](int value) { return [value] { return value; }; };
  CHECK(one.cached("a", gives(1)) == 1);  // both have read the same empty file
  CHECK(two.cached("b", gives(2)) == 2);
  CHECK(one.cached("c", gives(3)) == 3);
  for (const auto& [key, value] : std::map<std::string, int>{{"a", 1}, {"b", 2}, {"c", 3}})
    CHECK(later.cached(key, gives(-1)) == value);

  measure_report fresh = two_rows(), after = two_rows();
  REQUIRE_FALSE(parse(fresh, {"--fresh"}).has_value());
  REQUIRE_FALSE(parse(after, {}).has_value());
  CHECK(fresh.cached("a", gives(10)) == 10);
  CHECK(after.cached("b", gives(20)) == 20);  // what --fresh did not trust is gone for later runs too
}

TEST_CASE("what was finished before a failure is kept, and what is no number is not", "[bench][measure]") {
  const sandbox here;
  int calls = 0;
  const auto run = [&](bool fails) {
    measure_report report = two_rows();
    REQUIRE_FALSE(parse(report, {}).has_value());
    const auto parts = report.cached("parts", [&] {
      ++calls;
      return std::vector<double>{.1, .2, 1. / 3};
    });
    if (fails) throw boot::error("stopped");
    return parts;
  };
  CHECK_THROWS_AS(run(true), boot::error);
  CHECK(run(false) == std::vector<double>{.1, .2, 1. / 3});
  CHECK(calls == 1);

  int bad = 0;
  for (int i = 0; i < 2; ++i) {
    measure_report report = two_rows();
    REQUIRE_FALSE(parse(report, {}).has_value());
    CHECK(std::isnan(report.cached("nan", [&] {
      ++bad;
      return std::nan("");
    })));
  }
  CHECK(bad == 2);

  measure_report late = two_rows();
  REQUIRE_FALSE(parse(late, {}).has_value());
  CHECK(late.cached("x", [] { return 1; }) == 1);
  CHECK_THROWS_WITH(late.setting("size", 3), ContainsSubstring("call setting() first"));
}

#endif
