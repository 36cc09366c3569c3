// SPDX-License-Identifier: MIT
// Every sampler on boot::cuda against boot::cpu.
#include "samplers_compare.hpp"

#include <boot_cuda.cuh>

TEST_CASE("samplers on a device", "[sampler][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  boot_test::check_samplers(stream.device());
}
