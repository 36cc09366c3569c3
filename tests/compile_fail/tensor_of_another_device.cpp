// expect: other_device
// SPDX-License-Identifier: MIT
// A tensor of one device cannot be passed where a view of another is needed.
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

struct other_device {
  using device_category = other_device;
  void* allocate(std::size_t) const { return nullptr; }
  void deallocate(void*, std::size_t) const {}
};
static_assert(boot::Device<other_device>);

#ifdef BOOT_EXPECT_FAIL
using device = other_device;
#else
using device = boot::cpu;
#endif

float first(boot::view<const float, boot::cpu> v) { return v.empty() ? 0 : v[0]; }

int main() {
  const boot::tensor<float, device> mine;
  return first(mine) == 0 ? 0 : 1;
}
