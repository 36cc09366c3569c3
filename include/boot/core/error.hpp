// SPDX-License-Identifier: MIT
/// boot::error and the two functions that throw it: the message says what was given, what is needed, how to fix it.
#pragma once

#include <boot/config.hpp>

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace boot::inline v0 {

/// Thrown by every public function on bad input or a failed system call.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws boot::error with a formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw error(fmt::format(text, std::forward<Args>(args)...));
}

/// Throws boot::error with a formatted message unless `condition` holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    throw error(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace boot::inline v0
