// expect: Device
// SPDX-License-Identifier: MIT
// A device names itself as its category; a type derived from one does not.
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

struct almost : boot::cpu {
#ifndef BOOT_EXPECT_FAIL
  using device_category = almost;
#endif
};

int main() {
  const boot::tensor<float, almost> t;
  return t.size() == 0 ? 0 : 1;
}
