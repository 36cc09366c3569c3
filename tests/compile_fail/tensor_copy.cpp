// expect: deleted
// SPDX-License-Identifier: MIT
// A copy is asked for by name.
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

int main() {
  const boot::tensor<float, boot::cpu> a(boot::cpu{}, {4});
#ifdef BOOT_EXPECT_FAIL
  const boot::tensor<float, boot::cpu> b = a;
#else
  const boot::tensor<float, boot::cpu> b = a.clone();
#endif
  return b.size() == 4 ? 0 : 1;
}
