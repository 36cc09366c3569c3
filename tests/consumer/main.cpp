// SPDX-License-Identifier: MIT
// Another project's program: includes the umbrella header and uses a few names of it.
#if __has_include(<boot.hpp>)
#  include <boot.hpp>
#endif
#include <boot/core/error.hpp>
#include <boot/core/scalar.hpp>
#include <boot/version.hpp>

#include <cstdio>

int main() {
  try {
    boot::require(static_cast<float>(boot::bf16{1.5f}) == 1.5f, "bf16 does not hold 1.5");
    boot::fail("a message with a number: {}", 7);
  } catch (const boot::error& e) {
    std::printf("boot %s: %s\n", boot::version_string, e.what());
    return 0;
  }
  return 1;
}
