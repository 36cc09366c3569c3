// expect: boot::v0::cuda
// SPDX-License-Identifier: MIT
// Device memory cannot be passed where host memory is needed, nor the other way round.
#include <boot/device/cpu.hpp>
#include <boot/device/cuda.hpp>
#include <boot/tensor/view.hpp>

#include <concepts>

static_assert(!std::convertible_to<boot::view<float, boot::cpu>, boot::view<float, boot::cuda>>);
static_assert(!std::convertible_to<boot::view<float, boot::cuda>, boot::view<const float, boot::cpu>>);

#ifdef BOOT_EXPECT_FAIL
using device = boot::cuda;
#else
using device = boot::cpu;
#endif

int main() {
  const boot::view<float, device> mine;
  const boot::view<const float, boot::cpu> needed = mine;
  return needed.empty() ? 0 : 1;
}
