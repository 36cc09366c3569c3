// expect: other_device
// SPDX-License-Identifier: MIT
// Memory of one device cannot be passed where memory of another is needed.
#include <boot/device/cpu.hpp>
#include <boot/tensor/view.hpp>

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

int main() {
  const boot::view<float, device> mine;
  const boot::view<const float, boot::cpu> needed = mine;
  return needed.empty() ? 0 : 1;
}
