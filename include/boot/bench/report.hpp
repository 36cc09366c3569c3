// SPDX-License-Identifier: MIT
/// What a benchmark writes: a small JSON writer, the description of the machine, and files that are never half written.
#pragma once

#include <boot/bench/statistics.hpp>
#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/version.hpp>

#include <cerrno>
#include <cmath>
#include <concepts>
#include <cstdio>  // FILE
#include <cstring>
#include <filesystem>  // is_regular_file
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0::bench {

/// `text` as a JSON string with its quotes. Bytes above 127 pass as they are: give UTF-8.
[[nodiscard]] inline std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        else
          out += c;
    }
  }
  return out += '"';
}

/// Writes one JSON value piece by piece: the commas are its business, the order is the caller's.
/// A number that is not finite becomes null, for JSON has no other word for it. Misuse (a value in an object without a
/// key, an end without a beginning) throws boot::error.
class json_writer {
 public:
  /// Opens an object, as the value that is due.
  json_writer& begin_object() { return open('{'); }
  /// Closes the innermost object.
  json_writer& end_object() { return close('{', '}'); }
  /// Opens an array, as the value that is due.
  json_writer& begin_array() { return open('['); }
  /// Closes the innermost array.
  json_writer& end_array() { return close('[', ']'); }
  /// Names the next value of the innermost object.
  json_writer& key(std::string_view name) {
    require(!open_.empty() && open_.back() == '{' && !key_written_,
            "boot::bench: JSON key '{}' outside an object; call begin_object() first, and a value after each key",
            name);
    comma();
    text_ += json_quote(name) + ": ";
    key_written_ = true;
    return *this;
  }
  /// A string, as the value that is due.
  json_writer& value(std::string_view text) { return raw(json_quote(text)); }
  /// A string, as the value that is due (without this overload a literal would become a bool).
  json_writer& value(const char* text) { return value(std::string_view(text)); }
  /// A number or a bool, as the value that is due.
  template <class T>
  requires std::is_arithmetic_v<T> json_writer& value(T number) {
    if constexpr (std::same_as<T, bool>) return raw(number ? "true" : "false");
    if constexpr (std::floating_point<T>)
      return raw(std::isfinite(number) ? fmt::format("{}", number) : std::string("null"));
    return raw(fmt::format("{}", number));
  }
  /// Key and value in one.
  template <class T>
  json_writer& field(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }
  /// The finished text; throws boot::error while an object or array is still open.
  [[nodiscard]] const std::string& text() const {
    require(open_.empty() && !text_.empty(),
            "boot::bench: the JSON text is not finished, {} objects or arrays are open; end each of them",
            open_.size());
    return text_;
  }

 private:
  json_writer& open(char bracket) {
    raw(std::string(1, bracket));
    open_.push_back(bracket);
    first_ = true;
    return *this;
  }
  json_writer& close(char bracket, char closing) {
    require(!open_.empty() && open_.back() == bracket && !key_written_,
            "boot::bench: '{}' closes nothing that is open in the JSON text; match each begin with its end", closing);
    open_.pop_back();
    text_ += closing;
    first_ = false;
    return *this;
  }
  json_writer& raw(const std::string& text) {
    require(open_.empty() ? text_.empty() : (open_.back() == '[' || key_written_),
            "boot::bench: a JSON value where none is due ({}); inside an object call key() first", text);
    if (!key_written_) comma();
    key_written_ = false;
    text_ += text;
    return *this;
  }
  void comma() {
    if (!first_) text_ += ", ";
    first_ = false;
  }

  std::string text_;
  std::vector<char> open_;
  bool first_ = true, key_written_ = false;
};

/// Where and with what a figure was measured.
struct machine_info {
  std::string processor;   ///< "model name" of /proc/cpuinfo, "unknown" elsewhere
  unsigned cores = 0;      ///< logical processors; 0: unknown
  int threads = 1;         ///< threads that boot::cpu uses
  std::string compiler;    ///< host compiler and version
  std::string library;     ///< version of boot
  bool optimized = false;  ///< whether the compiler optimised
  bool openmp = false;     ///< whether loops may use several threads
};

/// The processor's name out of the text of /proc/cpuinfo; "unknown" when it tells none.
[[nodiscard]] inline std::string processor_name(std::string_view cpuinfo) {
  for (const std::string_view label : {"model name", "Processor", "cpu model", "Hardware"}) {
    for (std::size_t at = cpuinfo.find(label); at != std::string_view::npos; at = cpuinfo.find(label, at + 1)) {
      if (at != 0 && cpuinfo[at - 1] != '\n') continue;
      const std::string_view line = cpuinfo.substr(at, cpuinfo.find('\n', at) - at);
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
      if (begin != std::string_view::npos) return std::string(line.substr(begin));
    }
  }
  return "unknown";
}

/// Describes this machine and this build.
[[nodiscard]] inline machine_info this_machine(const cpu& dev = {}) {
  std::ifstream file("/proc/cpuinfo");
  std::string text, line;
  while (std::getline(file, line)) text += line + '\n';
  std::string compiler = BOOT_COMPILER_NAME;
  while (compiler.ends_with(' ')) compiler.pop_back();  // clang's version ends with one
  return {.processor = processor_name(text),
          .cores = std::thread::hardware_concurrency(),
          .threads = dev.thread_count(),
          .compiler = std::move(compiler),
          .library = version_string,
          .optimized = BOOT_OPTIMIZED != 0,
          .openmp = BOOT_HAS_OPENMP != 0};
}

/// Writes `m` as a JSON object, as the value that is due.
inline void write_json(json_writer& json, const machine_info& m) {
  json.begin_object().field("processor", m.processor).field("cores", m.cores).field("threads", m.threads);
  json.field("compiler", m.compiler).field("library", m.library).field("optimized", m.optimized);
  json.field("openmp", m.openmp).end_object();
}

/// Writes `s` as a JSON object, as the value that is due.
inline void write_json(json_writer& json, const summary& s) {
  json.begin_object().field("median", s.median).field("lower_quartile", s.lower_quartile);
  json.field("upper_quartile", s.upper_quartile).field("smallest", s.smallest).field("largest", s.largest);
  json.field("median_deviation", s.median_deviation).field("count", s.count).end_object();
}

/// A time for people: three digits and the unit that fits.
[[nodiscard]] inline std::string readable_seconds(double seconds) {
  const double size = std::abs(seconds);
  if (size >= 1) return fmt::format("{:.3g} s", seconds);
  if (size >= 1e-3) return fmt::format("{:.3g} ms", seconds * 1e3);
  if (size >= 1e-6) return fmt::format("{:.3g} us", seconds * 1e6);
  return fmt::format("{:.3g} ns", seconds * 1e9);
}

/// Puts `text` into the file `path` at once: written beside it, then renamed over it, so that no reader ever sees half
/// of it and a full disk leaves the old file alone. A device or pipe is written in place. Throws boot::error with the
/// system's reason.
inline void write_file(const std::string& path, std::string_view text) {
  std::error_code ignored;
  const bool in_place = std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored);
  const std::string part = in_place ? path : path + ".part";
  std::FILE* const file = std::fopen(part.c_str(), "wb");
  require(file != nullptr, "boot::bench: cannot write '{}': {}; give a path in a folder that exists and is writable",
          part, std::strerror(errno));
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  const int reason = errno;
  const bool closed = std::fclose(file) == 0;
  if (written && closed && (in_place || std::rename(part.c_str(), path.c_str()) == 0)) return;
  const int final_reason = written ? errno : reason;
  if (!in_place) std::remove(part.c_str());
  fail("boot::bench: cannot write {} bytes to '{}': {}; free some space or give another path", text.size(), path,
       std::strerror(final_reason));
}

}  // namespace boot::inline v0::bench
