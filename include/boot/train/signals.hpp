// SPDX-License-Identifier: MIT
/// SIGINT and SIGTERM turned into a flag while a run goes on, so that it can finish its step and save.
#pragma once

#include <boot/config.hpp>

#include <csignal>

namespace boot::inline v0 {

namespace detail {
struct caught_signal {
  static inline volatile std::sig_atomic_t number = 0;
  static inline int users = 0;  // guards alive; runs are started from one thread at a time
  static void catch_it(int signal) { number = signal; }
};
}  // namespace detail

/// While one of these lives, the first SIGINT or SIGTERM sets caught() instead of ending the program; a second one of
/// the same kind ends it. Afterwards the handlers are those of before. A signal that the program ignores stays ignored.
class signal_guard {
 public:
  /// Installs the handlers; `active` = false does nothing.
  explicit signal_guard(bool active) : active_(active) {
    if (!active_ || detail::caught_signal::users++ > 0) return;
    detail::caught_signal::number = 0;
    owner_ = true;
    for (int i = 0; i < 2; ++i) {
#if BOOT_HAS_POSIX
      struct sigaction mine {};
      mine.sa_handler = &detail::caught_signal::catch_it;
      sigemptyset(&mine.sa_mask);
      mine.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
      static_cast<void>(::sigaction(numbers[i], nullptr, &before_[i]));
      replaced_[i] = before_[i].sa_handler != SIG_IGN && ::sigaction(numbers[i], &mine, nullptr) == 0;
#else
      before_[i] = std::signal(numbers[i], &detail::caught_signal::catch_it);
      replaced_[i] = before_[i] != SIG_ERR;
#endif
    }
  }
  signal_guard(const signal_guard&) = delete;
  signal_guard& operator=(const signal_guard&) = delete;
  ~signal_guard() {
    if (!active_) return;
    --detail::caught_signal::users;
    if (!owner_) return;
    for (int i = 0; i < 2; ++i) {
      if (!replaced_[i]) continue;
#if BOOT_HAS_POSIX
      static_cast<void>(::sigaction(numbers[i], &before_[i], nullptr));
#else
      static_cast<void>(std::signal(numbers[i], before_[i]));
#endif
    }
  }

  /// The signal that came, 0 for none.
  [[nodiscard]] int caught() const noexcept { return active_ ? static_cast<int>(detail::caught_signal::number) : 0; }

 private:
  static constexpr int numbers[2] = {SIGINT, SIGTERM};
  bool active_ = false, owner_ = false;
  bool replaced_[2] = {false, false};
#if BOOT_HAS_POSIX
  struct sigaction before_[2]{};
#else
  void (*before_[2])(int) = {nullptr, nullptr};
#endif
};

}  // namespace boot::inline v0
