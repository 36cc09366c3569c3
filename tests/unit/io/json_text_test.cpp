// SPDX-License-Identifier: MIT
/// io/json_text.hpp: which bytes are UTF-8, judged against a decoder written from the definition; strings for messages.
#include "support/catch.hpp"

#include <boot/io/json_text.hpp>

#include <nlohmann/json.hpp>

#include <random>

namespace {

/// The UTF-8 of a code point by the definition.
std::string encoded(unsigned c) {
  std::string s;
  const auto add = [&](unsigned b) { s += static_cast<char>(static_cast<unsigned char>(b)); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xc0 | c >> 6);
    add(0x80 | (c & 63));
  } else if (c < 0x10000) {
    add(0xe0 | c >> 12);
    add(0x80 | (c >> 6 & 63));
    add(0x80 | (c & 63));
  } else {
    add(0xf0 | c >> 18);
    add(0x80 | (c >> 12 & 63));
    add(0x80 | (c >> 6 & 63));
    add(0x80 | (c & 63));
  }
  return s;
}

}  // namespace

TEST_CASE("every code point is accepted but surrogates and those beyond the last", "[io][json]") {
  int wrong = 0;
  for (unsigned c = 0; c < 0x120000; ++c) {
    const bool good = c < 0xd800 || (c > 0xdfff && c < 0x110000);
    wrong += (boot::detail::utf8_error(encoded(c) + "a") == std::string_view::npos) != good;
  }
  CHECK(wrong == 0);
}

TEST_CASE("random bytes are judged as nlohmann's parser judges them", "[io][json]") {
  std::mt19937_64 random(std::random_device{}());
  int wrong = 0, good = 0;
  for (int i = 0; i < 200000; ++i) {
    std::string s;
    for (std::size_t n = random() % 6; n > 0; --n) {
      static constexpr unsigned char likely[] = {0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                                                 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
      s += static_cast<char>(random() % 4 != 0 ? likely[random() % sizeof likely] : 0x20 + random() % 0x2);
    }
    const bool valid = boot::detail::utf8_error(s) == std::string_view::npos;
    std::string quoted;
    boot::detail::append_json_string(quoted, s);
    wrong += nlohmann::json::accept(quoted) != valid;
    if (valid) {
      ++good;
      wrong += nlohmann::json::parse(quoted).get<std::string>() != s;
    }
  }
  CHECK(wrong == 0);
  CHECK(good > 1000);
}

TEST_CASE("control characters are escaped and read back", "[io][json]") {
  for (int c = 0; c < 128; ++c) {
    std::string quoted;
    boot::detail::append_json_string(quoted, std::string(3, static_cast<char>(c)));
    CHECK(nlohmann::json::parse(quoted).get<std::string>() == std::string(3, static_cast<char>(c)));
  }
}

TEST_CASE("names in messages are short, whole characters, and without control bytes", "[io][json]") {
  CHECK(boot::detail::shown("a.b") == "'a.b'");
  CHECK(boot::detail::shown("a\n\x1b\x7f") == "'a\?\?\?'");
  CHECK(boot::detail::shown("\xc3\xa9\xff") == "'\?\?\?'");
  for (std::size_t lead = 0; lead < 5; ++lead) {
    std::string name(115 + lead, 'n');
    for (int i = 0; i < 10; ++i) name += "\xf0\x9f\x98\x80";
    const std::string text = boot::detail::shown(name);
    CHECK(text.size() <= 125);
    CHECK(boot::detail::utf8_error(text) == std::string_view::npos);
    CHECK(text.substr(text.size() - 4) == "...'");
  }
}
