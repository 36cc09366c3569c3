// expect: const float
// SPDX-License-Identifier: MIT
// What is read-only stays so.
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

#ifdef BOOT_EXPECT_FAIL
using element = float;
#else
using element = const float;
#endif

int main() {
  const boot::view<const float, boot::cpu> from;
  const boot::view<element, boot::cpu> to = from;
  return to.empty() ? 0 : 1;
}
