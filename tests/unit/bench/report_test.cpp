// SPDX-License-Identifier: MIT
/// The JSON writer, the machine's description and files that are never half written.
#include "support/catch.hpp"

#include <boot/bench/report.hpp>

#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string>

namespace bench = boot::bench;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

/// A folder of its own that goes away with the test.
struct temporary_folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("boot_report_" + std::to_string(std::random_device{}()));
  temporary_folder() { std::filesystem::create_directory(path); }
  ~temporary_folder() { std::filesystem::remove_all(path); }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
};

}  // namespace

TEST_CASE("strings become JSON strings", "[bench]") {
  CHECK(bench::json_quote("plain") == R"("plain")");
  CHECK(bench::json_quote("a\"b\\c\nd\te") == R"("a\"b\\c\nd\te")");
  CHECK(bench::json_quote(std::string_view("\0\x1f", 2)) == R"("\u0000\u001f")");
  CHECK(bench::json_quote("\xc3\xa9") == "\"\xc3\xa9\"");
}

TEST_CASE("values nest with their commas", "[bench]") {
  bench::json_writer json;
  json.begin_object().field("a", 1).field("b", "two").field("c", std::string("three"));
  json.key("list").begin_array().value(1.5).value(true).begin_object().end_object().begin_array().end_array();
  json.value(-3L).end_array().field("yes", false).key("in").begin_object().field("x", 2U).end_object().end_object();
  CHECK(json.text() == R"({"a": 1, "b": "two", "c": "three", "list": [1.5, true, {}, [], -3], "yes": false, )"
                       R"("in": {"x": 2}})");
}

TEST_CASE("numbers come back with every bit, and what is no number is null", "[bench]") {
  std::mt19937_64 engine(std::random_device{}());
  for (int i = 0; i < 100; ++i) {
    const double v =
        std::ldexp(std::uniform_real_distribution<double>(-1, 1)(engine), static_cast<int>(engine() % 600) - 300);
    bench::json_writer json;
    CHECK(std::stod(json.value(v).text()) == v);
  }
  CHECK(bench::json_writer().value(std::numeric_limits<double>::quiet_NaN()).text() == "null");
  CHECK(bench::json_writer().value(-std::numeric_limits<float>::infinity()).text() == "null");
}

TEST_CASE("the JSON writer refuses what would not be JSON", "[bench]") {
  CHECK_THROWS_WITH(bench::json_writer().key("x"), ContainsSubstring("begin_object() first"));
  CHECK_THROWS_WITH(bench::json_writer().begin_object().value(1), ContainsSubstring("call key() first"));
  CHECK_THROWS_WITH(bench::json_writer().begin_object().end_array(), ContainsSubstring("closes nothing"));
  CHECK_THROWS_WITH(bench::json_writer().begin_object().key("x").end_object(), ContainsSubstring("match each begin"));
  CHECK_THROWS_WITH(bench::json_writer().begin_object().key("x").key("y"), ContainsSubstring("value after each key"));
  CHECK_THROWS_WITH(bench::json_writer().value(1).value(2), ContainsSubstring("none is due"));
  CHECK_THROWS_WITH(bench::json_writer().begin_array().text(), ContainsSubstring("1 objects or arrays are open"));
  CHECK_THROWS_WITH(bench::json_writer().text(), ContainsSubstring("not finished"));
}

TEST_CASE("the processor's name is found where systems put it", "[bench]") {
  CHECK(bench::processor_name("processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU @ 2.0GHz\nflags : x\n") ==
        "A CPU @ 2.0GHz");
  CHECK(bench::processor_name("processor : 0\nBogoMIPS : 2\nHardware : A board\n") == "A board");
  CHECK(bench::processor_name("processor : 0\n") == "unknown");
  CHECK(bench::processor_name("") == "unknown");
  CHECK(bench::processor_name("model name\t:") == "unknown");
}

TEST_CASE("the machine is described", "[bench]") {
  const bench::machine_info m = bench::this_machine({.threads = 1});
  CHECK(m.threads == 1);
  CHECK_FALSE(m.processor.empty());
  CHECK(m.library == boot::version_string);
  CHECK(m.optimized == (BOOT_OPTIMIZED == 1));
  bench::json_writer json;
  bench::write_json(json, m);
  CHECK_THAT(json.text(), ContainsSubstring("\"compiler\": " + bench::json_quote(m.compiler)));
}

TEST_CASE("times are printed in the unit that fits", "[bench]") {
  CHECK(bench::readable_seconds(2.5) == "2.5 s");
  CHECK(bench::readable_seconds(.0123) == "12.3 ms");
  CHECK(bench::readable_seconds(4.56e-6) == "4.56 us");
  CHECK(bench::readable_seconds(7e-9) == "7 ns");
}

TEST_CASE("a file is replaced whole or not at all", "[bench]") {
  const temporary_folder folder;
  const std::string path = (folder.path / "results.json").string();
  bench::write_file(path, "first");
  CHECK(content(path) == "first");
  bench::write_file(path, "second, longer");
  CHECK(content(path) == "second, longer");
  CHECK_FALSE(std::filesystem::exists(path + ".part"));

  // A folder that is not there is named, with the reason.
  CHECK_THROWS_WITH(bench::write_file((folder.path / "absent" / "r.json").string(), "x"), ContainsSubstring("absent"));

  // Where the new file cannot be put in place, the old one stays and nothing is left beside it.
  std::filesystem::create_directory(path + ".part");
  CHECK_THROWS_AS(bench::write_file(path, "third"), boot::error);
  CHECK(content(path) == "second, longer");

  if (std::filesystem::exists("/dev/full")) {
    CHECK_THROWS_WITH(bench::write_file("/dev/full", "x"), ContainsSubstring("free some space"));
    CHECK(std::filesystem::is_character_file("/dev/full"));
  }
}
