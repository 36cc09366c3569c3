// SPDX-License-Identifier: MIT
/// One include for Catch2 3 and 2.13: tests are written to the 3 API, this header fills what 2.13 spells otherwise.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#  include <catch2/catch_approx.hpp>
#  include <catch2/catch_template_test_macros.hpp>
#  include <catch2/catch_test_macros.hpp>
#  include <catch2/catch_tostring.hpp>
#  include <catch2/generators/catch_generators_all.hpp>
#  include <catch2/matchers/catch_matchers_all.hpp>
#else
#  include <catch2/catch.hpp>

#  include <string>

namespace Catch {
using Detail::Approx;  // Catch2 3 has it one namespace up

namespace Matchers {
/// Catch2 3's name of the matcher that looks for a part of a string.
inline auto ContainsSubstring(const std::string& text, CaseSensitive::Choice sensitivity = CaseSensitive::Yes) {
  return Contains(text, sensitivity);
}
}  // namespace Matchers
}  // namespace Catch

/// Ends the test case here and says why (part of Catch2 since 3.3).
#  define SKIP(message)             \
    do {                            \
      WARN("skipped: " << message); \
      return;                       \
    } while (false)
#endif
