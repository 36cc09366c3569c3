// SPDX-License-Identifier: MIT
/// Logs of named numbers per step: JSON lines, CSV, TensorBoard. A resumed run's log equals that of an unbroken one.
#pragma once

#include <boot/core/error.hpp>
#include <boot/io/file.hpp>
#include <boot/io/json_text.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// A named number.
using log_value = std::pair<std::string_view, double>;

/// What training writes its numbers to.
///
/// Needs:  l.write(step, values)   adds one record; all of it or, with boot::error, nothing;
///         l.resume_at(step)       drops every record of that step and later ones, and a record cut off at the end.
/// Shipped: jsonl_log, csv_log, tensorboard_log.
template <class L>
concept Log = requires(L& l, std::int64_t step, std::span<const log_value> values) {
  l.write(step, values);
  l.resume_at(step);
};

namespace detail {
[[nodiscard]] inline bool is_finite(double v) noexcept {  // by bits: holds under -ffast-math too
  return (std::bit_cast<std::uint64_t>(v) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}
[[nodiscard]] inline std::string_view name_of_nonfinite(double v) noexcept {
  const std::uint64_t u = std::bit_cast<std::uint64_t>(v);
  if ((u & 0x000fffffffffffffu) != 0) return "NaN";
  return (u >> 63) != 0 ? "-Infinity" : "Infinity";
}
inline void check_names(const std::string& path, std::span<const log_value> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string_view name = values[i].first;
    require(!name.empty() && name != "step" && utf8_error(name) == std::string_view::npos,
            "boot: log '{}' got a value called {}; a name is UTF-8, not empty and not 'step'", path, shown(name));
    for (std::size_t k = 0; k < i; ++k)
      require(values[k].first != name,
              "boot: log '{}' got two values called {} in one step; give each a name of its own", path, shown(name));
  }
}

/// A log file made of records; knows how to cut it back. `keep(contents, step)` returns the bytes that stay.
class record_file {
 public:
  record_file(std::string path, bool append) : path_(std::move(path)) { file_.emplace(path_, append); }
  void write(std::string_view record) { file_->write(record); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] bool empty() const noexcept { return file_->size() == 0; }
  template <class Keep>
  void cut(std::int64_t step, const Keep& keep) {
    if (kind_of(path_) != path_kind::file || empty()) return;
    const std::string contents = read_file(path_), kept = keep(std::string_view(contents), step);
    if (kept.size() == contents.size()) return;
    file_.reset();
    atomic_write_file(path_, std::string_view(kept));
    file_.emplace(path_, true);
  }

 private:
  std::string path_;
  std::optional<append_file> file_;
};

/// Calls f(line) for every complete line, its end included.
template <class F>
void each_line(std::string_view text, const F& f) {
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string_view::npos; at = end + 1)
    f(text.substr(at, end + 1 - at));
}
/// The step that follows `start` in `line`; throws boot::error when the line is none of ours.
[[nodiscard]] inline std::int64_t step_of(const std::string& path, std::string_view line, std::string_view start) {
  std::int64_t step = 0;
  const bool ours = line.substr(0, start.size()) == start;
  const char* first = line.data() + (ours ? start.size() : 0);
  require(ours && std::from_chars(first, line.data() + line.size(), step).ec == std::errc(),
          "boot: cannot continue log '{}': its line {} does not begin with a step; give another path, or start the log "
          "anew",
          path, shown(line));
  return step;
}
inline constexpr std::int64_t every_step = std::numeric_limits<std::int64_t>::max();
}  // namespace detail

/// One JSON object per line: {"step":12,"loss":0.5}. Numbers are the shortest that read back as the same double; NaN
/// and infinities, which JSON lacks, are the strings "NaN", "Infinity", "-Infinity".
class jsonl_log {
 public:
  /// Opens the file; `append` keeps what is there, otherwise it is emptied. Throws boot::error when it cannot be
  /// written.
  explicit jsonl_log(std::string path, bool append = false) : file_(std::move(path), append) {
    resume_at(detail::every_step);
  }
  /// Adds a line; throws boot::error for a name that is empty, "step" or given twice, and for a full disk.
  void write(std::int64_t step, std::span<const log_value> values) {
    detail::check_names(file_.path(), values);
    std::string line = "{\"step\":" + std::to_string(step);
    for (const auto& [name, value] : values) {
      line += ',';
      detail::append_json_string(line, name);
      line += ':';
      if (detail::is_finite(value)) {
        line += detail::shortest(value);
      } else {
        detail::append_json_string(line, detail::name_of_nonfinite(value));
      }
    }
    file_.write(line + "}\n");
  }
  /// \copydoc write
  void write(std::int64_t step, std::initializer_list<log_value> values) {
    write(step, std::span<const log_value>(values.begin(), values.size()));
  }
  /// Drops lines of `step` and later, and a last line without its end. Throws boot::error when the file is none of
  /// ours.
  void resume_at(std::int64_t step) {
    file_.cut(step, [this](std::string_view text, std::int64_t from) {
      std::string kept;
      detail::each_line(text, [&](std::string_view line) {
        if (detail::step_of(file_.path(), line, "{\"step\":") < from) kept += line;
      });
      return kept;
    });
  }

 private:
  detail::record_file file_;
};
static_assert(Log<jsonl_log>);

/// Comma-separated values under a line of names, "step" first; RFC 4180 quoting. The first write() fixes the columns; a
/// value missing later is left empty. Non-finite values are NaN, Infinity, -Infinity.
class csv_log {
 public:
  /// Opens the file; `append` keeps what is there, otherwise it is emptied. Throws boot::error when it cannot be
  /// written.
  explicit csv_log(std::string path, bool append = false) : file_(std::move(path), append) {
    resume_at(detail::every_step);
  }
  /// Adds a line; throws boot::error for a name that is no column, empty, "step" or given twice, and for a full disk.
  void write(std::int64_t step, std::span<const log_value> values) {
    detail::check_names(file_.path(), values);
    std::string text;
    std::vector<std::string> columns = columns_;
    if (columns.empty()) {
      text = "step";
      for (const auto& v : values) {
        columns.emplace_back(quoted(v.first));
        text += "," + columns.back();
      }
      text += '\n';
    }
    std::vector<std::string> cells(columns.size());
    for (const auto& [name, value] : values) {
      const std::string column = quoted(name);
      std::size_t i = 0;
      while (i < columns.size() && columns[i] != column) ++i;
      require(
          i < columns.size(),
          "boot: log '{}' has no column {}; name every value in the first write(), or use jsonl_log, which takes any",
          file_.path(), detail::shown(name));
      cells[i] = detail::is_finite(value) ? detail::shortest(value) : std::string(detail::name_of_nonfinite(value));
    }
    text += std::to_string(step);
    for (const auto& c : cells) text += "," + c;
    file_.write(text + "\n");
    columns_ = std::move(columns);
  }
  /// \copydoc write
  void write(std::int64_t step, std::initializer_list<log_value> values) {
    write(step, std::span<const log_value>(values.begin(), values.size()));
  }
  /// Drops lines of `step` and later, and a last line without its end. Throws boot::error when the file is none of
  /// ours.
  void resume_at(std::int64_t step) {
    if (detail::kind_of(file_.path()) != detail::path_kind::file || file_.empty()) return;
    std::vector<std::string> columns;
    file_.cut(step, [&](std::string_view text, std::int64_t from) {
      std::string kept, head;
      detail::each_line(text, [&](std::string_view line) {
        if (!head.empty()) {
          if (detail::step_of(file_.path(), line, "") < from) kept += line;
          return;
        }
        head = line;
        columns = columns_of(line.substr(0, line.size() - 1));
      });
      return kept.empty() && from != detail::every_step ? kept : head + kept;  // as if never written
    });
    columns_ = file_.empty() ? std::vector<std::string>() : std::move(columns);
  }

 private:
  /// A name as it stands in the file; line ends become spaces, so that a line is a record.
  [[nodiscard]] static std::string quoted(std::string_view name) {
    std::string text;
    bool needed = false;
    for (const char c : name) {
      needed = needed || c == ',' || c == '"';
      if (c == '"') text += '"';
      text += c == '\n' || c == '\r' ? ' ' : c;
    }
    return needed ? "\"" + text + "\"" : text;
  }
  [[nodiscard]] std::vector<std::string> columns_of(std::string_view line) const {
    std::vector<std::string> cells(1);
    bool inside = false;
    for (const char c : line) {
      if (c == '"') inside = !inside;
      if (c == ',' && !inside) {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    require(cells.front() == "step",
            "boot: cannot continue log '{}': its first column is {}, not 'step'; give another path", file_.path(),
            detail::shown(cells.front()));
    cells.erase(cells.begin());
    return cells;
  }

  detail::record_file file_;
  std::vector<std::string> columns_;
};
static_assert(Log<csv_log>);

namespace detail {
/// CRC-32C (Castagnoli, RFC 3720 appendix B.4).
[[nodiscard]] constexpr std::uint32_t crc32c(std::string_view s) noexcept {
  constexpr auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c >> 1) ^ ((c & 1u) != 0 ? 0x82f63b78u : 0u);
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t c = ~0u;
  for (const char ch : s) c = table[(c ^ static_cast<unsigned char>(ch)) & 0xffu] ^ (c >> 8);
  return ~c;
}
static_assert(crc32c("123456789") == 0xe3069283u);

[[nodiscard]] constexpr std::uint32_t masked_crc32c(std::string_view s) noexcept {
  return std::rotr(crc32c(s), 15) + 0xa282ead8u;
}
/// Builds a protocol-buffer message.
struct message_writer {
  std::string bytes;
  void raw(std::uint64_t v, int n) {
    for (int i = 0; i < n; ++i) bytes += static_cast<char>(static_cast<unsigned char>(v >> (8 * i)));
  }
  void varint(std::uint64_t v) {
    for (; v > 127; v >>= 7) bytes += static_cast<char>(static_cast<unsigned char>(v | 128u));
    bytes += static_cast<char>(v);
  }
  void key(unsigned field, unsigned wire) { varint(field << 3 | wire); }
  void number(unsigned field, double v) {
    key(field, 1);
    raw(std::bit_cast<std::uint64_t>(v), 8);
  }
  void number(unsigned field, float v) {
    key(field, 5);
    raw(std::bit_cast<std::uint32_t>(v), 4);
  }
  void text(unsigned field, std::string_view s) {
    key(field, 2);
    varint(s.size());
    bytes += s;
  }
};
/// A TFRecord: length, its checksum, data, its checksum.
[[nodiscard]] inline std::string tf_record(std::string_view data) {
  message_writer r;
  r.raw(data.size(), 8);
  r.raw(masked_crc32c(r.bytes), 4);
  r.bytes += data;
  r.raw(masked_crc32c(data), 4);
  return r.bytes;
}
/// The step (field 2) of an event we wrote: it follows the nine bytes of the time. Nothing for the version record.
[[nodiscard]] inline std::optional<std::int64_t> event_step(std::string_view data) noexcept {
  if (data.size() < 11 || data[0] != 9 || data[9] != 16) return std::nullopt;
  std::uint64_t step = 0;
  for (std::size_t i = 10; i < data.size() && i < 20; ++i) {
    const auto byte = static_cast<unsigned char>(data[i]);
    step |= static_cast<std::uint64_t>(byte & 127u) << (7 * (i - 10));
    if (byte < 128) return static_cast<std::int64_t>(step);
  }
  return std::nullopt;
}
[[nodiscard]] inline double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}
}  // namespace detail

/// Scalars for TensorBoard, without protobuf: each write() is one event with all its values, as floats. Sources:
/// tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.cc. Besides the times of writing, a
/// resumed log equals an unbroken one.
class tensorboard_log {
 public:
  /// Opens the file, whose name must contain "tfevents", or TensorBoard does not see it; `append` keeps what is there.
  /// `clock` gives seconds since 1970. Throws boot::error when the file cannot be written.
  explicit tensorboard_log(std::string path, bool append = false, double (*clock)() = &detail::seconds_since_1970)
      : file_(checked(std::move(path)), append), clock_(clock) {
    resume_at(detail::every_step);
    if (!file_.empty()) return;
    detail::message_writer event;
    event.number(1, clock_());
    event.text(3, "brain.Event:2");
    file_.write(detail::tf_record(event.bytes));
  }
  /// Adds an event; throws boot::error for a name that is empty, "step" or given twice, and for a full disk.
  void write(std::int64_t step, std::span<const log_value> values) {
    detail::check_names(file_.path(), values);
    detail::message_writer summary, event;
    for (const auto& [name, value] : values) {
      detail::message_writer v;
      v.text(1, name);
      v.number(2, static_cast<float>(value));
      summary.text(1, v.bytes);
    }
    event.number(1, clock_());
    event.key(2, 0);
    event.varint(static_cast<std::uint64_t>(step));
    event.text(5, summary.bytes);
    file_.write(detail::tf_record(event.bytes));
  }
  /// \copydoc write
  void write(std::int64_t step, std::initializer_list<log_value> values) {
    write(step, std::span<const log_value>(values.begin(), values.size()));
  }
  /// Drops events of `step` and later, and a last one that is cut off. Throws boot::error when the file is damaged.
  void resume_at(std::int64_t step) {
    file_.cut(step, [this](std::string_view text, std::int64_t from) {
      std::string kept;
      for (std::size_t at = 0; text.size() - at >= 16;) {
        std::uint64_t n = 0;
        std::memcpy(&n, text.data() + at, 8);
        check(text, at, text.substr(at, 8), at + 8);
        if (n > text.size() - at - 16) break;
        const std::string_view data = text.substr(at + 12, static_cast<std::size_t>(n));
        check(text, at, data, at + 12 + data.size());
        const auto s = detail::event_step(data);
        if (!s || *s < from) kept += text.substr(at, data.size() + 16);
        at += data.size() + 16;
      }
      return kept;
    });
  }

 private:
  [[nodiscard]] static std::string checked(std::string path) {
    require(path.substr(path.rfind('/') + 1).find("tfevents") != std::string::npos,
            "boot: TensorBoard reads only files with 'tfevents' in their name, '{}' was given; call it "
            "'events.out.tfevents.boot'",
            path);
    return path;
  }
  void check(std::string_view text, std::size_t at, std::string_view data, std::size_t where) const {
    std::uint32_t stored = 0;
    std::memcpy(&stored, text.data() + where, 4);
    require(stored == detail::masked_crc32c(data),
            "boot: cannot continue log '{}': the record at byte {} has a wrong checksum; give another path",
            file_.path(), at);
  }

  detail::record_file file_;
  double (*clock_)();
};
static_assert(Log<tensorboard_log>);

}  // namespace boot::inline v0
