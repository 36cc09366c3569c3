// SPDX-License-Identifier: MIT
// boot::cuda: without a GPU the error text; with one copies, poison, scratch memory and streams.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>

#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

static_assert(boot::Device<boot::cuda>);

TEST_CASE("without a device boot::cuda says so and how to fix it", "[device][cuda]") {
  if (boot::cuda_device_count() > 0) SKIP("this machine has a device");
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(boot::buffer<boot::cuda>({}, 100),
                    ContainsSubstring("boot: CUDA: no device") && ContainsSubstring("nvidia-smi"));
  CHECK_THROWS_AS(boot::cuda_stream(), boot::error);
  CHECK_THROWS_AS(boot::cuda_device_name(), boot::error);
}

TEST_CASE("memory that does not fit is an error that can be caught", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  CHECK_THROWS_WITH(boot::buffer<boot::cuda>({}, std::size_t{1} << 42),
                    Catch::Matchers::ContainsSubstring("no room for 1125899906842624 bytes"));
  CHECK(cudaPeekAtLastError() == cudaSuccess);  // or the next launch would report it
}

TEST_CASE("copies from the host may reuse their source, small and larger than the pinned memory", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  for (const std::size_t n : {std::size_t{1}, std::size_t{1001}, std::size_t{20'000'003}}) {
    CAPTURE(n);
    std::vector<float> host(n), back(n);
    std::iota(host.begin(), host.end(), 1.0f);
    const std::vector<float> expected = host;
    const boot::buffer<boot::cuda> a(dev, n * sizeof(float)), b(dev, n * sizeof(float));
    boot::copy_from_host(dev, host.data(), a.data(), a.bytes());
    host.assign(n, -1.0f);
    boot::copy_bytes(dev, a.data(), b.data(), a.bytes());
    boot::copy_to_host(dev, b.data(), back.data(), b.bytes());
    CHECK(back == expected);
  }
}

TEST_CASE("many small copies from the host arrive in order", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const boot::buffer<boot::cuda> memory(dev, 1000 * sizeof(int));
  for (int i = 0; i < 1000; ++i) boot::copy_from_host(dev, &i, static_cast<int*>(memory.data()) + i, sizeof(int));
  std::vector<int> back(1000), expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  boot::copy_to_host(dev, memory.data(), back.data(), memory.bytes());
  CHECK(back == expected);
}

TEST_CASE("poison reads as NaN and fill_zero as zero on the device", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const boot::buffer<boot::cuda> memory(dev, 64 * sizeof(float));
  std::vector<float> host(64);
  boot::poison(dev, memory.data(), memory.bytes());
  boot::copy_to_host(dev, memory.data(), host.data(), memory.bytes());
  for (const float x : host) CHECK(std::isnan(x));
  boot::fill_zero(dev, memory.data(), memory.bytes());
  boot::copy_to_host(dev, memory.data(), host.data(), memory.bytes());
  CHECK(host == std::vector<float>(64, 0.0f));
}

TEST_CASE("scratch memory stays where it is while it is large enough, and ends with its stream", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const auto before = boot::memory_use<boot::cuda>().live_bytes;
  {
    const boot::cuda_stream stream;
    const boot::cuda dev = stream.device();
    void* const first = boot::device_scratch(dev, 1000);
    CHECK(boot::device_scratch(dev, 10) == first);
    CHECK(boot::device_scratch(dev, 1000, 1) != first);
    void* const second = boot::device_scratch(dev, 1001);
    CHECK(second != first);
    boot::fill_zero(dev, first, 1000);  // a captured graph may still use it
    boot::fill_zero(dev, second, 1001);
    boot::synchronize(dev);
    CHECK(boot::memory_use<boot::cuda>().live_bytes == before + 1000 + 1000 + 2000);
  }
  CHECK(boot::memory_use<boot::cuda>().live_bytes == before);
}

TEST_CASE("copies from the host and growing scratch memory are refused in a captured stream", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const boot::buffer<boot::cuda> memory(dev, 4);
  const int value = 1;
  boot::check_cuda(cudaStreamBeginCapture(dev.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  CHECK_THROWS_WITH(boot::copy_from_host(dev, &value, memory.data(), 4),
                    Catch::Matchers::ContainsSubstring("is captured"));
  CHECK_THROWS_WITH(boot::device_scratch(dev, 100), Catch::Matchers::ContainsSubstring("is captured"));
  cudaGraph_t graph = nullptr;
  boot::check_cuda(cudaStreamEndCapture(dev.stream, &graph), "cudaStreamEndCapture");
  boot::check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}
