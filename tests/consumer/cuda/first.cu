// SPDX-License-Identifier: MIT
// The umbrella header, a launch, and the layouts that nvcc sees.
#include "layouts.hpp"

#include <boot_cuda.cuh>

namespace {
struct twice {
  BOOT_HD float operator()(float x) const { return 2 * x; }
};
}  // namespace

layout_list layouts_in_first() { return layouts; }

int launch_in_first() {
  if (boot::cuda_device_count() == 0) return -1;
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const boot::buffer<boot::cuda> memory(dev, sizeof(float));
  float x = 3;
  boot::copy_from_host(dev, &x, memory.data(), sizeof x);
  boot::map_elements(dev, 1, twice{}, false, static_cast<float*>(memory.data()),
                     static_cast<const float*>(memory.data()));
  boot::copy_to_host(dev, memory.data(), &x, sizeof x);
  return x == 6 ? 0 : 1;
}
