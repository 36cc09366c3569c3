// SPDX-License-Identifier: MIT
/// Text of JSON: is it UTF-8, a quoted string, a number in its shortest form, a name cut down for a message.
#pragma once

#include <fmt/core.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace boot::inline v0::detail {

/// Position of the first byte that is not valid UTF-8 (RFC 3629), or npos.
[[nodiscard]] constexpr std::size_t utf8_error(std::string_view s) noexcept {
  const auto byte = [&](std::size_t i) {
    return i < s.size() ? static_cast<unsigned>(static_cast<unsigned char>(s[i])) : 0u;
  };
  for (std::size_t i = 0; i < s.size();) {
    const unsigned a = byte(i), b = byte(i + 1);
    const auto tail = [&](std::size_t k) { return (byte(i + k) & 0xc0u) == 0x80u; };
    if (a < 0x80u) {
      ++i;
    } else if (a >= 0xc2u && a <= 0xdfu && tail(1)) {
      i += 2;
    } else if ((a & 0xf0u) == 0xe0u && tail(1) && tail(2) && !(a == 0xe0u && b < 0xa0u) && !(a == 0xedu && b > 0x9fu)) {
      i += 3;
    } else if (a >= 0xf0u && a <= 0xf4u && tail(1) && tail(2) && tail(3) && !(a == 0xf0u && b < 0x90u) &&
               !(a == 0xf4u && b > 0x8fu)) {
      i += 4;
    } else {
      return i;
    }
  }
  return std::string_view::npos;
}

/// Adds `s` as a JSON string; `s` must be UTF-8.
inline void append_json_string(std::string& out, std::string_view s) {
  out += '"';
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

/// The shortest decimal that reads back as the same double; finite values only.
[[nodiscard]] inline std::string shortest(double value) { return fmt::format("{}", value); }

/// A name from a file, made fit for a message: quoted, control bytes and bytes beyond ASCII that are not UTF-8
/// replaced, at most 120 bytes.
[[nodiscard]] inline std::string shown(std::string_view name) {
  std::string text = "'";
  const bool clean = utf8_error(name) == std::string_view::npos;
  std::size_t used = name.size() <= 120 ? name.size() : 120;
  while (clean && used < name.size() && used > 0 && (static_cast<unsigned char>(name[used]) & 0xc0u) == 0x80u) --used;
  for (const char c : name.substr(0, used)) {
    const auto u = static_cast<unsigned char>(c);
    text += u < 0x20 || u == 0x7f || (!clean && u >= 0x80) ? '?' : c;
  }
  return text + (used < name.size() ? "...'" : "'");
}

}  // namespace boot::inline v0::detail
