// SPDX-License-Identifier: MIT
// Every objective on boot::cuda against boot::cpu.
#include "objectives_compare.hpp"

#include <boot_cuda.cuh>

TEST_CASE("objectives on a device", "[objective][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  boot_test::check_objectives(stream.device());
}
