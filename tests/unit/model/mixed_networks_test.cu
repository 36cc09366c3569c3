// SPDX-License-Identifier: MIT
// Whole networks with activations in bf16 on boot::cuda against boot::cpu in float64.
#include "network_compare.hpp"

#include <boot_cuda.cuh>

TEST_CASE("networks with activations in bf16 on a device", "[model][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  boot_test::check_mixed_network(stream.device(), boot_test::compare_dit(), {1, -1});
  boot_test::check_mixed_network(stream.device(), boot_test::compare_unet(false), {1, -1});
  boot_test::check_mixed_network(stream.device(), boot_test::compare_unet(true), {});
}
