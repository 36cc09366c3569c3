// SPDX-License-Identifier: MIT
// cuDNN convolutions: the geometry, and on a described device whether every pass has a plan.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/nn/cuda/convolution.hpp>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {
using boot::detail::conv_pass;
using boot::detail::cudnn_convolution;

cudnn_convolution convolution(conv_pass pass, std::int64_t size, std::int64_t in, std::int64_t out, std::int64_t kernel,
                              std::int64_t stride, std::int64_t before, std::int64_t results) {
  return boot::detail::cudnn_geometry(pass, {4, size, size, in}, {out, kernel, kernel, in}, {4, results, results, out},
                                      stride, before);
}
}  // namespace

TEST_CASE("zeros behind an image are as many as the last output needs", "[nn][cuda]") {
  const auto after = [](std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t before,
                        std::int64_t results) {
    return convolution(conv_pass::forward, size, 1, 1, kernel, stride, before, results).after(size, results);
  };
  CHECK(after(8, 3, 1, 1, 8) == 1);
  CHECK(after(8, 3, 2, 0, 4) == 1);  // zeros below and on the right only
  CHECK(after(7, 3, 2, 0, 3) == 0);
  CHECK(after(8, 3, 2, 1, 4) == 0);  // the last row of zeros is not needed
  CHECK(after(8, 1, 2, 0, 4) == 0);
  CHECK(after(5, 5, 1, 2, 5) == 2);
}

TEST_CASE("without a device a cuDNN handle says so", "[nn][cuda]") {
  if (boot::cuda_device_count() > 0) SKIP("this machine has a device");
  CHECK_THROWS_WITH(boot::cudnn_handle(), Catch::Matchers::ContainsSubstring("no device for cudnnCreate"));
}

TEST_CASE("a failed call of cuDNN becomes an error with its text", "[nn][cuda]") {
  CHECK_THROWS_WITH(boot::check_cudnn(CUDNN_STATUS_BAD_PARAM, "cudnnBackendExecute", "[{}, {}]", 2, 3),
                    Catch::Matchers::ContainsSubstring("cuDNN: cudnnBackendExecute failed for [2, 3]"));
  boot::cudnn_descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  CHECK_THROWS_WITH(tensor.finalize("an empty tensor"), Catch::Matchers::ContainsSubstring("an empty tensor"));
}

// Needs a description that cuDNN wrote of a real device: golden/cudnn_device.json.
TEST_CASE("every convolution of the networks has a plan on the described device", "[nn][cuda]") {
  const char* const named = std::getenv("BOOT_CUDNN_DEVICE");
  const std::string path = named != nullptr ? named : BOOT_SOURCE_DIR "/tests/golden/cudnn_device.json";
  if (!std::filesystem::exists(path)) SKIP("no description of a device in " + path);
  std::ifstream file(path);
  std::string json{std::istreambuf_iterator<char>(file), {}};
  while (!json.empty() && json.back() == '\n') json.pop_back();
  const boot::cudnn_descriptor device = boot::cudnn_device_from_json(json);
  struct layer {
    std::int64_t size, in, out, stride, before, results;
  };
  const std::vector<layer> layers{{32, 3, 128, 1, 1, 32},   {32, 128, 128, 1, 1, 32}, {32, 128, 128, 2, 0, 16},
                                  {32, 128, 128, 2, 1, 16}, {16, 128, 256, 1, 1, 16}, {8, 512, 256, 1, 1, 8},
                                  {4, 512, 512, 1, 1, 4},   {32, 128, 3, 1, 1, 32},   {64, 4, 320, 1, 1, 64},
                                  {64, 320, 320, 2, 1, 32}, {8, 2560, 1280, 1, 1, 8}};
  for (const layer& l : layers)
    for (const auto pass : {conv_pass::forward, conv_pass::input_gradient, conv_pass::weight_gradient})
      for (const auto type : {CUDNN_DATA_FLOAT, CUDNN_DATA_BFLOAT16}) {
        cudnn_convolution p = convolution(pass, l.size, l.in, l.out, 3, l.stride, l.before, l.results);
        p.type = type;
        CAPTURE(p.text(), static_cast<int>(type));
        CHECK_NOTHROW(boot::detail::plan_convolution({.device = &device}, p, 1));
      }
}
