// SPDX-License-Identifier: MIT
/// io/safetensors.hpp: one case per rule of the format, exact bytes, round trips, and a file of the Python package.
#include "fuzz/safetensors_seeds.hpp"
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/io/safetensors.hpp>

#include <cmath>
#include <filesystem>
#include <limits>
#include <random>

using boot::file_dtype;
using boot::safetensors_file;
using boot_fuzz::file_of;
using boot_test::bytes_of;
using boot_test::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {

/// What the reader says about these bytes.
std::string refusal(std::string_view file) {
  const std::string said =
      message_of([&] { static_cast<void>(safetensors_file::from_bytes(bytes_of(file), "some/file")); });
  if (said != "(no error)") CHECK_THAT(said, ContainsSubstring("'some/file'"));
  return said;
}
/// The same for a header text and data.
std::string refusal(std::string_view header, std::string_view data) { return refusal(file_of(header, data)); }

bool accepted(std::string_view header, std::string_view data = {}) {
  const std::string said = refusal(header, data);
  INFO(said);
  CHECK(said == "(no error)");
  return said == "(no error)";
}

std::string with_length(std::uint64_t n, std::string_view rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &n, 8);
  return file.append(rest);
}

}  // namespace

TEST_CASE("rule 1: a file has at least 8 bytes", "[io][safetensors]") {
  for (std::size_t n = 0; n < 8; ++n)
    CHECK_THAT(refusal(std::string(n, ' ')), ContainsSubstring("it has " + std::to_string(n) + " bytes"));
}

TEST_CASE("rule 2: a header has at most 100,000,000 bytes", "[io][safetensors]") {
  CHECK_THAT(refusal(with_length(100'000'001, "{}")), ContainsSubstring("100000001 bytes, at most 100000000"));
  CHECK_THAT(refusal(with_length(~std::uint64_t{0}, "{}")), ContainsSubstring("at most 100000000"));
  CHECK_THAT(refusal(with_length(std::uint64_t{1} << 63, "{}")), ContainsSubstring("at most 100000000"));
  CHECK_THAT(message_of([] {
               const boot::safetensors_metadata large{{"text", std::string(100'000'000, 'x')}};
               static_cast<void>(boot::safetensors_bytes({}, large));
             }),
             ContainsSubstring("at most 100000000") && ContainsSubstring("shorten the metadata"));
}

TEST_CASE("rule 3: the header lies in the file", "[io][safetensors]") {
  CHECK_THAT(refusal(with_length(3, "{}")), ContainsSubstring("header of 3 bytes, but only 2 bytes follow"));
  CHECK_THAT(refusal(with_length(100'000'000, "{}")), ContainsSubstring("but only 2 bytes follow"));
}

TEST_CASE("rule 4: the header is UTF-8", "[io][safetensors]") {
  for (const char* bad : {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf8\x88\x80\x80\x80", "\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98"})
    CHECK_THAT(refusal(std::string("{\"") + bad + "\":1}", ""), ContainsSubstring("must be UTF-8, its byte 2"));
  CHECK(accepted("{\"__metadata__\":{\"\xc3\xa9\":\"\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xee\x80\x80\"}}"));
}

TEST_CASE("rule 5: the header is JSON of the right types", "[io][safetensors]") {
  for (const char* bad : {"{", "{}}", "{} {}", "{\"a\"}", "{\"a\":}", "{,}", "{\"__metadata__\":{},}", "{'a':1}",
                          "{} // text", "{\"__metadata__\":{\"a\":\"\n\"}}", "{\"__metadata__\":{\"a\":\"\\x\"}}",
                          "{\"__metadata__\":{\"a\":\"\\ud800\"}}"})
    CHECK_THAT(refusal(bad, ""), ContainsSubstring("not valid JSON at its byte"));
  CHECK_THAT(refusal("{\"a\":[]}", ""), ContainsSubstring("tensor 'a' is a list, an object with dtype"));
  CHECK_THAT(refusal("{\"a\":null}", ""), ContainsSubstring("tensor 'a' is null"));
  CHECK_THAT(refusal("{\"a\":\"b\"}", ""), ContainsSubstring("tensor 'a' is a string"));
  CHECK_THAT(refusal("{\"a\":7}", ""), ContainsSubstring("tensor 'a' is a number"));
  CHECK_THAT(refusal("{\"a\":true}", ""), ContainsSubstring("tensor 'a' is true or false"));
}

TEST_CASE("rule 5: nesting without end costs nothing", "[io][safetensors]") {
  CHECK_THAT(refusal(std::string(1'000'000, '['), ""), ContainsSubstring("begins with byte 0x5b"));
  CHECK_THAT(refusal("{\"a\":" + std::string(1'000'000, '['), ""), ContainsSubstring("tensor 'a' is a list"));
  CHECK_THAT(refusal("{\"a\":{\"x\":" + std::string(1'000'000, '['), ""), ContainsSubstring("more than 128 levels"));
  std::string objects = "{\"a\":{\"x\":";
  for (int i = 0; i < 100'000; ++i) objects += "{\"x\":";
  CHECK_THAT(refusal(objects, ""), ContainsSubstring("more than 128 levels"));
  const std::string at_limit = std::string(126, '[') + std::string(126, ']');
  CHECK(accepted(R"({"a":{"x":)" + at_limit + R"(,"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
}

TEST_CASE("rule 6: dtype, shape and data_offsets are there and sound", "[io][safetensors]") {
  const auto entry = [](const std::string& fields) { return refusal("{\"a\":{" + fields + "}}", "xx"); };
  CHECK_THAT(entry(R"("shape":[2],"data_offsets":[0,2])"), ContainsSubstring("tensor 'a' has no dtype"));
  CHECK_THAT(entry(R"("dtype":"U8","data_offsets":[0,2])"), ContainsSubstring("has no shape"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":[2])"), ContainsSubstring("has no data_offsets"));
  CHECK_THAT(entry(""), ContainsSubstring("has no dtype"));
  CHECK_THAT(entry(R"("dtype":"F99","shape":[2],"data_offsets":[0,2])"),
             ContainsSubstring("unknown dtype 'F99'; known are BOOL"));
  CHECK_THAT(entry(R"("dtype":"f32","shape":[2],"data_offsets":[0,2])"), ContainsSubstring("unknown dtype 'f32'"));
  CHECK_THAT(entry(R"("dtype":8,"shape":[2],"data_offsets":[0,2])"),
             ContainsSubstring("the dtype of tensor 'a' is a number"));
  for (const char* bad :
       {"-1", "1.5", "1e0", "2.0", "null", "\"2\"", "true", "[2]", "{}", "18446744073709551616", "-0"})
    CHECK_THAT(entry(std::string(R"("dtype":"U8","shape":[)") + bad + R"(],"data_offsets":[0,2])"),
               ContainsSubstring("the shape of tensor 'a' holds"));
  for (const char* bad : {"[-1,2]", "[0,2.0]", "[\"0\",2]", "[null,2]", "[[],2]"})
    CHECK_THAT(entry(std::string(R"("dtype":"U8","shape":[2],"data_offsets":)") + bad),
               ContainsSubstring("the data_offsets of tensor 'a' hold"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":2,"data_offsets":[0,2])"),
             ContainsSubstring("the shape of tensor 'a' is a number"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":[2],"data_offsets":{})"),
             ContainsSubstring("the data_offsets of tensor 'a' is an object"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":[2],"data_offsets":[])"), ContainsSubstring("has 0 data_offsets"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":[2],"data_offsets":[2])"), ContainsSubstring("has 1 data_offsets"));
  CHECK_THAT(entry(R"("dtype":"U8","shape":[2],"data_offsets":[0,2,2])"),
             ContainsSubstring("more than two data_offsets"));
  CHECK_THAT(entry(R"("dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2])"),
             ContainsSubstring("has dtype twice"));
}

TEST_CASE("rule 7: extra fields are ignored", "[io][safetensors]") {
  CHECK(accepted(
      R"({"a":{"dtype":"U8","x":{"dtype":[1,{"shape":-1.5}]},"shape":[2],"y":"dtype","data_offsets":[0,2],"z":null}})",
      "xy"));
}

TEST_CASE("rule 8: metadata is an object of strings, or null, and there once", "[io][safetensors]") {
  CHECK(accepted(R"({"__metadata__":null})"));
  CHECK(accepted(R"({"__metadata__":{}})"));
  const std::string file = file_of(R"({"__metadata__":{"a":"1","b":""}})");
  CHECK(safetensors_file::from_bytes(bytes_of(file)).metadata() == boot::safetensors_metadata{{"a", "1"}, {"b", ""}});
  CHECK_THAT(refusal(R"({"__metadata__":[]})", ""), ContainsSubstring("__metadata__ is a list, an object of strings"));
  CHECK_THAT(refusal(R"({"__metadata__":"x"})", ""), ContainsSubstring("__metadata__ is a string"));
  for (const char* bad : {"1", "null", "true", "[]", "{}", "-1", "0.5"})
    CHECK_THAT(refusal(std::string(R"({"__metadata__":{"key":)") + bad + "}}", ""),
               ContainsSubstring("the metadata 'key' is"));
  CHECK_THAT(refusal(R"({"__metadata__":{},"__metadata__":{}})", ""), ContainsSubstring("__metadata__ is there twice"));
  CHECK_THAT(refusal(R"({"__metadata__":null,"__metadata__":null})", ""),
             ContainsSubstring("__metadata__ is there twice"));
  CHECK_THAT(refusal(R"({"__metadata__":{"a":"1","a":"1"}})", ""),
             ContainsSubstring("the metadata key 'a' is there twice"));
}

TEST_CASE("rule 9: tensors follow each other without holes and overlaps", "[io][safetensors]") {
  const auto two = [](const std::string& a, const std::string& b) {
    return refusal(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
                       R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}",
                   "wxyz");
  };
  CHECK(two("[0,2]", "[2,4]") == "(no error)");
  CHECK(two("[2,4]", "[0,2]") == "(no error)");
  CHECK_THAT(two("[0,2]", "[3,5]"),
             ContainsSubstring("tensor 'b' begins at byte 3") && ContainsSubstring("a hole lies between"));
  CHECK_THAT(two("[0,2]", "[1,3]"),
             ContainsSubstring("tensor 'b' begins at byte 1") && ContainsSubstring("they overlap"));
  CHECK_THAT(two("[0,2]", "[0,2]"), ContainsSubstring("they overlap"));
  CHECK_THAT(two("[1,3]", "[3,5]"), ContainsSubstring("tensor 'a' begins at byte 1") && ContainsSubstring("a hole"));
  CHECK_THAT(two("[0,2]", "[2,0]"), ContainsSubstring("tensor 'b' has data_offsets [2, 0]"));
  CHECK_THAT(two("[0,2]", "[18446744073709551615,1]"), ContainsSubstring("a hole"));
}

TEST_CASE("rule 10: shapes that overflow", "[io][safetensors]") {
  const auto shape = [](const std::string& s, const char* dtype = "F32") {
    return refusal(std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":)" + s + R"(,"data_offsets":[0,4]}})",
                   "wxyz");
  };
  CHECK_THAT(shape("[4294967296,4294967296]"), ContainsSubstring("more bits than 64 bits can count"));
  CHECK_THAT(shape("[2305843009213693952,2]"), ContainsSubstring("more bits than 64 bits can count"));
  CHECK_THAT(shape("[4611686018427387905]", "F4"), ContainsSubstring("more bits than 64 bits can count"));
  CHECK_THAT(shape("[9223372036854775808]"), ContainsSubstring("extent of 9223372036854775808"));
  CHECK_THAT(shape("[4294967296,4294967296,0]"), ContainsSubstring("more bits"));
  CHECK(accepted(R"({"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})"));
}

TEST_CASE("rule 11: elements of 4 and 6 bits fill whole bytes", "[io][safetensors]") {
  CHECK_THAT(refusal(R"({"a":{"dtype":"F4","shape":[1,3],"data_offsets":[0,2]}})", "xx"),
             ContainsSubstring("tensor 'a' of shape [1, 3] and type F4 has 12 bits, whole bytes"));
  CHECK_THAT(refusal(R"({"a":{"dtype":"F6_E3M2","shape":[2],"data_offsets":[0,2]}})", "xx"),
             ContainsSubstring("12 bits"));
  CHECK(accepted(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "x"));
  CHECK(accepted(R"({"a":{"dtype":"F6_E2M3","shape":[2,2],"data_offsets":[0,3]}})", "xyz"));
}

TEST_CASE("rule 12: the bytes are those of shape and type, for every type", "[io][safetensors]") {
  for (int i = 0; i < boot::file_dtype_count; ++i) {
    const auto d = static_cast<file_dtype>(i);
    CHECK(boot::file_dtype_of(to_string(d)) == d);
    const std::size_t bytes = static_cast<std::size_t>(bits_of(d));  // of eight elements
    const auto said = [&](std::size_t end) {
      return refusal(fmt::format(R"({{"a":{{"dtype":"{}","shape":[2,4],"data_offsets":[0,{}]}}}})", to_string(d), end),
                     std::string(end, 'x'));
    };
    CHECK(said(bytes) == "(no error)");
    CHECK_THAT(said(bytes - 1), ContainsSubstring(fmt::format("needs {} bytes", bytes)));
    CHECK_THAT(said(bytes + 1), ContainsSubstring(fmt::format("type {} needs {} bytes", to_string(d), bytes)));
  }
  CHECK_FALSE(boot::file_dtype_of("F31").has_value());
}

TEST_CASE("rule 13: the tensors fill the file", "[io][safetensors]") {
  const std::string header = R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  CHECK(accepted(header, "xyz"));
  CHECK_THAT(refusal(header, "xy"), ContainsSubstring("take 3 bytes of data, the file has 2 (it is cut short)"));
  CHECK_THAT(refusal(header, "xyz0"), ContainsSubstring("the file has 4 (bytes are left over at its end)"));
  CHECK_THAT(refusal("{}", "x"), ContainsSubstring("take 0 bytes of data, the file has 1"));
}

TEST_CASE("rule 14: the writer refuses bytes that do not fit", "[io][safetensors]") {
  const std::array<float, 6> v{};
  const auto refused = [&](boot::safetensors_entry e) {
    return message_of([&] { static_cast<void>(boot::safetensors_bytes(std::span(&e, 1))); });
  };
  CHECK_THAT(refused(boot::entry_of<float>("a", {7}, v)),
             ContainsSubstring("tensor 'a' of shape [7] and type F32 needs 28 bytes, 24"));
  CHECK_THAT(refused(boot::entry_of<float>("a", {-6}, v)), ContainsSubstring("extents cannot be negative"));
  CHECK_THAT(refused(boot::entry_of<float>("a", {1LL << 62, 8}, v)), ContainsSubstring("more elements than"));
  CHECK_THAT(refused(boot::entry_of<float>("a", {1LL << 61}, v)), ContainsSubstring("more bits than"));
  CHECK_THAT(refused(boot::entry_of_floats("a", {5}, v, file_dtype::bf16)),
             ContainsSubstring("type float needs 20 bytes, 24"));
  CHECK_THAT(refused(boot::entry_of_floats("a", {6}, v, file_dtype::i32)),
             ContainsSubstring("choose F32, BF16 or F16"));
  CHECK_THAT(refused({"a", file_dtype::f4, {3}, bytes_of("xy"), false}), ContainsSubstring("has 12 bits"));
  CHECK_THAT(refused(boot::entry_of<float>("__metadata__", {6}, v)), ContainsSubstring("keeps that name for itself"));
  CHECK_THAT(refused(boot::entry_of<float>("a\xff", {6}, v)), ContainsSubstring("not UTF-8 at byte 1"));
  CHECK_THAT(message_of([] {
               static_cast<void>(boot::safetensors_bytes({}, {{"k", "\xff"}}));
             }),
             ContainsSubstring("metadata 'k' is not UTF-8"));
  const std::array<boot::safetensors_entry, 2> same{boot::entry_of<float>("a", {6}, v),
                                                    boot::entry_of<float>("a", {6}, v)};
  CHECK_THAT(message_of([&] { static_cast<void>(boot::safetensors_bytes(same)); }),
             ContainsSubstring("two tensors are called 'a'"));
}

TEST_CASE("rule 15: asking for what is not there, or as another type", "[io][safetensors]") {
  const std::string bytes = boot_fuzz::seeds().front().bytes;
  const auto file = safetensors_file::from_bytes(bytes_of(bytes), "some/file");
  CHECK(file.find("none") == nullptr);
  CHECK_THAT(message_of([&] { static_cast<void>(file.at("none")); }),
             ContainsSubstring("'some/file' has no tensor 'none'; it holds 9: 'count', 'doubles'") &&
                 ContainsSubstring(", ..."));
  CHECK_THAT(message_of([&] { static_cast<void>(file.read_floats("count")); }),
             ContainsSubstring("type I64, floats are made of"));
  CHECK_THAT(message_of([&] { static_cast<void>(file.read<float>("doubles")); }),
             ContainsSubstring("type F64, F32 was asked for"));
  CHECK(file.read<double>("doubles") == std::vector<double>{0.5, -1e-300});
  CHECK(file.read_floats("doubles") == std::vector<float>{0.5f, -0.0f});
  CHECK(file.read<std::int64_t>("count") == std::vector<std::int64_t>{-7});
  CHECK(file.read<std::uint8_t>("mask") == std::vector<std::uint8_t>{0, 1, 1, 0});
  CHECK(file.read_floats("nothing").empty());
  std::vector<float> short_room(5);
  CHECK_THAT(message_of([&] { file.read_floats(file.at("layers.0.weight"), short_room); }),
             ContainsSubstring("6 elements, room was given for 5"));
  const std::array<double, 3> large{1e39, 0, 0}, infinite{std::numeric_limits<double>::infinity(), std::nan(""), -3e38};
  const std::array<boot::safetensors_entry, 2> entries{boot::entry_of<double>("large", {3}, large),
                                                       boot::entry_of<double>("infinite", {3}, infinite)};
  const std::string doubles = boot::safetensors_bytes(entries);
  const auto wide = safetensors_file::from_bytes(bytes_of(doubles));
  CHECK_THAT(message_of([&] { static_cast<void>(wide.read_floats("large")); }),
             ContainsSubstring("1e+39, beyond the range of float"));
  const auto narrow = wide.read_floats("infinite");
  CHECK((std::isinf(narrow[0]) && std::isnan(narrow[1]) && narrow[2] == -3e38f));
}

TEST_CASE("rule 16: a name given twice is refused, also with equal offsets", "[io][safetensors]") {
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  CHECK_THAT(refusal("{" + a + "," + a + "}", "x"), ContainsSubstring("two tensors are called 'a'"));
  CHECK_THAT(refusal("{" + a + R"(,"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "xy"),
             ContainsSubstring("two tensors are called 'a'"));
}

TEST_CASE("rule 17: white space around the header, never NUL", "[io][safetensors]") {
  CHECK(accepted(" \t\r\n{} \t\r\n"));
  CHECK_THAT(refusal(std::string_view("{}\0\0", 4), ""),
             ContainsSubstring("byte 2 of the header is NUL; padding must be spaces"));
  CHECK_THAT(refusal(std::string_view("\0{}", 3), ""), ContainsSubstring("byte 0 of the header is NUL"));
  CHECK_THAT(refusal("\xef\xbb\xbf{}", ""), ContainsSubstring("begins with byte 0xef"));
  CHECK_THAT(refusal("[]", ""), ContainsSubstring("begins with byte 0x5b"));
  CHECK_THAT(refusal("", ""), ContainsSubstring("header of 0 bytes is empty"));
  CHECK_THAT(refusal("    ", ""), ContainsSubstring("header of 4 bytes is empty"));
  CHECK_THAT(refusal("{}x", ""), ContainsSubstring("not valid JSON"));
}

TEST_CASE("rule 18: single numbers and empty tensors", "[io][safetensors]") {
  const std::string file = file_of(
      R"({"one":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"F32","shape":[2,0],"data_offsets":[4,4]},)"
      R"("first":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}})",
      std::string_view("\0\0\x80\x3f", 4));
  const auto f = safetensors_file::from_bytes(bytes_of(file));
  REQUIRE(f.tensors().size() == 3);
  CHECK(f.at("one").shape.empty());
  CHECK(f.read_floats("one") == std::vector<float>{1.0f});
  CHECK(f.at("none").shape == std::vector<std::int64_t>{2, 0});
  CHECK(f.at("none").bytes.empty());
  CHECK(f.tensors().front().name == "first");
}

TEST_CASE("rule 19: values are not judged", "[io][safetensors]") {
  const std::array<float, 3> odd{std::nanf(""), std::numeric_limits<float>::infinity(), -0.0f};
  const std::array<boot::safetensors_entry, 1> entries{boot::entry_of<float>("odd", {3}, odd)};
  const std::string bytes = boot::safetensors_bytes(entries);
  const auto values = safetensors_file::from_bytes(bytes_of(bytes)).read_floats("odd");
  CHECK(std::memcmp(values.data(), odd.data(), sizeof odd) == 0);
}

TEST_CASE("rule 20: data need not be aligned; the writer aligns it", "[io][safetensors]") {
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const std::string file =
        file_of(R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})" + std::string(spaces, ' '),
                std::string_view("\0\0\0\0\0\0\xf0\x3f", 8));
    CHECK(safetensors_file::from_bytes(bytes_of(file)).read<double>("a") == std::vector<double>{1.0});
  }
  for (std::size_t n = 1; n < 20; ++n) {
    const std::string bytes = boot::safetensors_bytes({}, {{"k", std::string(n, 'x')}});
    CHECK(bytes.size() % 8 == 0);
  }
}

TEST_CASE("the writer's bytes are known", "[io][safetensors]") {
  CHECK(boot::safetensors_bytes({}) == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  CHECK(boot::safetensors_bytes({}, {{"framework", "pt"}}) ==
        std::string("\x28\0\0\0\0\0\0\0", 8) + R"({"__metadata__":{"framework":"pt"}}     )");
  const std::array<float, 2> v{1.0f, -2.0f};
  const std::array<std::uint8_t, 1> u{7};
  std::vector<boot::safetensors_entry> entries;
  entries.push_back(boot::entry_of<std::uint8_t>("u", {}, u));
  entries.push_back(boot::entry_of_floats("h", {2}, v, file_dtype::f16));
  entries.push_back(boot::entry_of<float>("b", {2}, v));
  entries.push_back(boot::entry_of<float>("a", {1, 2}, v));
  entries.push_back(boot::entry_of_floats("g", {2}, v, file_dtype::bf16));
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},)"
      R"("g":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},"h":{"dtype":"F16","shape":[2],"data_offsets":[20,24]},)"
      R"("u":{"dtype":"U8","shape":[],"data_offsets":[24,25]}})";
  const std::string data("\0\0\x80\x3f\0\0\0\xc0\0\0\x80\x3f\0\0\0\xc0\x80\x3f\0\xc0\0\x3c\0\xc0\x07", 25);
  CHECK(boot::safetensors_bytes(entries) == file_of(header + std::string((8 - header.size() % 8) % 8, ' '), data));
  CHECK(boot::safetensors_bytes({}, {{"q\"\\\n\x01\x7f", "\b\f\r\t/"}})
            .find(R"({"q\"\\\n\u0001)"
                  "\x7f"
                  R"(":"\b\f\r\t/"})") != std::string::npos);
}

TEST_CASE("what is written reads back, random shapes and types", "[io][safetensors]") {
  std::mt19937_64 random(std::random_device{}());
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const boot_test::temporary_folder folder;
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> data(below(12));
    data.reserve(data.size());
    std::vector<boot::safetensors_entry> entries;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const auto d = static_cast<file_dtype>(below(22));
      std::vector<std::int64_t> shape;
      std::size_t count = 1;
      for (std::size_t r = below(7); r > 0; --r) {
        shape.push_back(static_cast<std::int64_t>(below(4) + (below(8) != 0 ? 1 : 0)));
        count *= static_cast<std::size_t>(shape.back());
      }
      if (bits_of(d) % 8 != 0) {
        shape.push_back(4);
        count *= 4;
      }
      data[i].resize(count * static_cast<std::size_t>(bits_of(d)) / 8);
      for (char& c : data[i]) c = static_cast<char>(random());
      entries.push_back(
          {std::to_string(random() % 1000) + "." + std::to_string(i) + (below(3) == 0 ? "\xc3\xa9\"\\\n" : ""), d,
           shape, bytes_of(data[i]), false});
    }
    const boot::safetensors_metadata metadata{{"round", std::to_string(round)}, {"\x01", "\t\xe2\x82\xac"}};
    boot::write_safetensors(folder.path("f.safetensors"), entries, metadata);
    CHECK(boot::read_file(folder.path("f.safetensors")) == boot::safetensors_bytes(entries, metadata));
    auto opened = safetensors_file::open(folder.path("f.safetensors"));
    const safetensors_file file = std::move(opened);
    CHECK(file.metadata() == metadata);
    REQUIRE(file.tensors().size() == entries.size());
    for (const auto& e : entries) {
      const auto& t = file.at(e.name);
      CHECK((t.dtype == e.dtype && t.shape == e.shape &&
             std::equal(t.bytes.begin(), t.bytes.end(), e.bytes.begin(), e.bytes.end())));
    }
  }
  CHECK(folder.names().size() == 1);
}

TEST_CASE("floats narrowed while writing are rounded one by one, over the writer's block", "[io][safetensors]") {
  std::mt19937_64 random(std::random_device{}());
  std::vector<float> values(70001);
  for (float& v : values) v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  for (const file_dtype d : {file_dtype::f32, file_dtype::bf16, file_dtype::f16}) {
    const std::array<boot::safetensors_entry, 1> entries{boot::entry_of_floats("v", {70001}, values, d)};
    const std::string bytes = boot::safetensors_bytes(entries);
    const auto back = safetensors_file::from_bytes(bytes_of(bytes)).read_floats("v");
    REQUIRE(back.size() == values.size());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float want = d == file_dtype::f32    ? values[i]
                         : d == file_dtype::bf16 ? static_cast<float>(boot::bf16(values[i]))
                                                 : boot::half_to_float(boot::float_to_half(values[i]));
      wrong += std::bit_cast<std::uint32_t>(back[i]) != std::bit_cast<std::uint32_t>(want) ? 1 : 0;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("the seeds of the fuzz target are what they say", "[io][safetensors]") {
  for (const auto& s : boot_fuzz::seeds()) {
    INFO(s.name);
    CHECK((refusal(s.bytes) == "(no error)") == s.sound);
  }
}

TEST_CASE("a file cut or changed at any byte is refused or read, nothing else", "[io][safetensors]") {
  const std::string sound = boot_fuzz::seeds().front().bytes;
  int refused = 0;
  for (std::size_t n = 0; n < sound.size(); ++n) refused += refusal(sound.substr(0, n)) != "(no error)" ? 1 : 0;
  CHECK(refused == static_cast<int>(sound.size()));
  std::mt19937_64 random(std::random_device{}());
  int tried = 0;
  for (; tried < 3000; ++tried) {
    std::string changed = sound;
    changed[random() % changed.size()] = static_cast<char>(random());
    static_cast<void>(message_of([&] { static_cast<void>(safetensors_file::from_bytes(bytes_of(changed))); }));
  }
  CHECK(tried == 3000);
}

TEST_CASE("names from a file cannot flood or garble a message", "[io][safetensors]") {
  const std::string said = refusal(R"({")" + std::string(100000, 'n') + R"(\n\u001b[2J":7})", "");
  CHECK(said.size() < 500);
  CHECK(said.find('\x1b') == std::string::npos);
}

TEST_CASE("a file written by the Python package", "[io][safetensors][golden]") {
  const auto file = safetensors_file::open(
      (std::filesystem::path(__FILE__).parent_path() / "../../golden/python.safetensors").string());
  CHECK(file.metadata() == boot::safetensors_metadata{{"format", "np"}});
  REQUIRE(file.tensors().size() == 8);
  std::vector<float> steps(24);
  for (int i = 0; i < 24; ++i) steps[static_cast<std::size_t>(i)] = static_cast<float>(i) / 8 - 1;
  CHECK(file.at("layer.weight").shape == std::vector<std::int64_t>{2, 3, 4});
  CHECK(file.read_floats("layer.weight") == steps);
  CHECK(file.read_floats("half") == steps);
  CHECK(file.read_floats("wide") == steps);
  CHECK(file.read<std::int64_t>("step") == std::vector<std::int64_t>{-12345678901});
  CHECK(file.at("step").shape.empty());
  CHECK(file.read<std::uint8_t>("flags") == std::vector<std::uint8_t>{1, 0, 1});
  CHECK(file.at("flags").dtype == file_dtype::boolean);
  CHECK(file.read<std::int32_t>("labels") == std::vector<std::int32_t>{-1, 0, 2147483647});
  CHECK(file.at("empty").shape == std::vector<std::int64_t>{0, 7});
  CHECK(file.read<std::uint16_t>("caf\xc3\xa9 \"x\"") == std::vector<std::uint16_t>{65535});
  std::vector<boot::safetensors_entry> entries;
  for (const auto& t : file.tensors()) entries.push_back({t.name, t.dtype, t.shape, t.bytes, false});
  CHECK(boot::safetensors_bytes(entries, file.metadata()) == boot::read_file(file.path()));  // byte for byte
}
