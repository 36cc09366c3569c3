// SPDX-License-Identifier: MIT
/// What a training step tells the world, and one live line about it on a terminal.
#pragma once

#include <boot/config.hpp>
#include <boot/objective/objective.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#if BOOT_HAS_POSIX
#  include <sys/ioctl.h>
#  include <unistd.h>
#endif

namespace boot::inline v0 {

/// One finished step of a run.
struct step_info {
  std::int64_t step = 0;           ///< number of the step, from 0
  std::int64_t steps = 0;          ///< of the whole run
  loss_report loss = {};           ///< of the whole batch
  double gradient_norm = 0;        ///< before clipping; NaN when the loss was not finite
  double rate = 0;                 ///< learning rate
  bool skipped = false;            ///< loss or gradient was not finite: nothing was updated
  std::int64_t skipped_steps = 0;  ///< of the run so far

  /// Steps finished, this one included.
  [[nodiscard]] std::int64_t done() const noexcept { return step + 1; }
};

/// When a run writes about itself on stderr.
enum class progress_mode {
  automatic,  ///< a live line when stderr is a terminal, otherwise plain lines if `report_every` asks for them
  on,         ///< a live line, whatever stderr is
  plain,      ///< one line every `report_every` steps
  off         ///< nothing at all, no warnings either
};

/// "1:02:03" or "2:03".
[[nodiscard]] inline std::string duration_text(double seconds) {
  if (!(seconds >= 0 && seconds < 1e8)) return "?";
  const auto s = static_cast<long>(seconds + 0.5);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

/// The line about one step: steps, steps per second, time left, loss and its parts, gradient norm, skipped steps.
[[nodiscard]] inline std::string progress_text(const step_info& info, double steps_per_second) {
  std::string line = fmt::format("{}/{}", info.done(), info.steps);
  if (steps_per_second > 0) {
    line += fmt::format("  {:.3g} it/s  {} left", steps_per_second,
                        duration_text(static_cast<double>(info.steps - info.done()) / steps_per_second));
  }
  line += fmt::format("  loss {:.4g}", info.loss.total);
  const char* before = " (";
  for (const auto& [name, value] : info.loss.part) {
    if (name.empty()) continue;
    line += fmt::format("{}{} {:.4g}", before, name, value);
    before = ", ";
  }
  if (*before == ',') line += ')';
  line += fmt::format("  |g| {:.3g}", info.gradient_norm);
  if (info.skipped_steps > 0) line += fmt::format("  skipped {}", info.skipped_steps);
  return line;
}

/// Writes progress_text() as it fits the place it goes to.
class progress_line {
 public:
  /// `report_every`: steps between plain lines, 0 for none. `to` stays the caller's.
  explicit progress_line(progress_mode mode, std::int64_t report_every = 0, std::FILE* to = stderr)
      : to_(to), silent_(mode == progress_mode::off), report_every_(report_every) {
    live_ = mode == progress_mode::on || (mode == progress_mode::automatic && is_terminal(to));
    if (live_ || silent_) report_every_ = 0;
  }
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  ~progress_line() { finish(); }

  /// Whether show() has something to do with the step after which `done` of `steps` are done.
  [[nodiscard]] bool wants(std::int64_t done, std::int64_t steps) const {
    if (!live_ && report_every_ == 0) return false;
    if (first_ || done == steps) return true;
    return live_ ? std::chrono::duration<double>(clock::now() - shown_).count() >= 0.1 : done % report_every_ == 0;
  }
  /// Tells about a step: at most ten times a second on a live line.
  void show(const step_info& info) {
    if (!wants(info.done(), info.steps)) return;
    const auto now = clock::now();
    if (std::exchange(first_, false)) {
      start_ = now;
      start_step_ = info.step;
      if (!live_ && info.done() != info.steps && info.done() % report_every_ != 0) return;
    }
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = seconds > 0 ? static_cast<double>(info.step - start_step_) / seconds : 0;
    shown_ = now;
    const std::string text = progress_text(info, rate);
    if (live_) {
      const std::size_t room = columns(to_);  // a longer line would wrap, and the next one start below it
      fmt::print(to_, "\r{}\033[K", std::string_view(text).substr(0, room));
      open_ = true;
    } else {
      fmt::print(to_, "{}\n", text);
    }
    std::fflush(to_);
  }
  /// A warning, on a line of its own.
  void say(std::string_view text) {
    if (silent_) return;
    finish();
    fmt::print(to_, "{}\n", text);
    std::fflush(to_);
  }
  /// Ends the live line.
  void finish() {
    if (!open_) return;
    open_ = false;
    std::fputc('\n', to_);
    std::fflush(to_);
  }

 private:
  using clock = std::chrono::steady_clock;
  [[nodiscard]] static bool is_terminal(std::FILE* f) noexcept {
#if BOOT_HAS_POSIX
    return ::isatty(::fileno(f)) == 1;
#else
    static_cast<void>(f);
    return false;
#endif
  }

  [[nodiscard]] static std::size_t columns(std::FILE* f) noexcept {
#if BOOT_HAS_POSIX
    struct winsize size {};
    if (::ioctl(::fileno(f), TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return size.ws_col - 1u;
#else
    static_cast<void>(f);
#endif
    return 1000;
  }

  std::FILE* to_;
  bool live_ = false, silent_ = false, open_ = false, first_ = true;
  std::int64_t report_every_ = 0, start_step_ = 0;
  clock::time_point start_{}, shown_{};
};

}  // namespace boot::inline v0
