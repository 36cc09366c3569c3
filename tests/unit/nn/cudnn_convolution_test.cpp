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
#include <set>
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

namespace {

/// Every convolution of a U-Net of diffusers' form that is not a matrix product: what decides its plan, once each.
std::set<cudnn_convolution> convolutions_of(std::int64_t side, std::int64_t image, std::vector<std::int64_t> channels,
                                            std::int64_t layers, bool pad_downsample) {
  std::set<cudnn_convolution> all;
  const auto add = [&](std::int64_t size, std::int64_t in, std::int64_t out, std::int64_t stride = 1) {
    const std::int64_t before = stride == 1 || pad_downsample ? 1 : 0;
    for (const auto pass : {conv_pass::forward, conv_pass::input_gradient, conv_pass::weight_gradient})
      all.insert(convolution(pass, size, in, out, 3, stride, before, size / stride));
  };
  const auto block = [&](std::int64_t size, std::int64_t in, std::int64_t out) {
    add(size, in, out), add(size, out, out);
  };
  std::vector<std::int64_t> skips{channels[0]};
  add(side, image, channels[0]);
  std::int64_t size = side, now = channels[0];
  for (std::size_t level = 0; level < channels.size(); ++level) {
    for (std::int64_t k = 0; k < layers; ++k) {
      block(size, now, channels[level]);
      skips.push_back(now = channels[level]);
    }
    if (level + 1 == channels.size()) break;
    add(size, now, now, 2);
    size /= 2;
    skips.push_back(now);
  }
  block(size, now, now);
  for (std::size_t level = channels.size(); level-- > 0;) {
    for (std::int64_t k = 0; k <= layers; ++k) {
      block(size, now + skips.back(), channels[level]);
      skips.pop_back();
      now = channels[level];
    }
    if (level == 0) break;
    size *= 2;
    add(size, now, now);
  }
  REQUIRE(skips.empty());
  REQUIRE(size == side);
  add(side, now, image);
  return all;
}

}  // namespace

TEST_CASE("on a device its description can be read back and planned for", "[nn][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const std::string json = boot::cudnn_device_json();
  CHECK(json.front() == '{');
  const boot::cudnn_descriptor device = boot::cudnn_device_from_json(json);
  CHECK_NOTHROW(
      boot::detail::plan_convolution({.device = &device}, convolution(conv_pass::forward, 32, 64, 64, 3, 1, 1, 32), 1));
  if (const char* const path = std::getenv("BOOT_WRITE_CUDNN_DEVICE")) {
    std::ofstream file(path);
    file << json << '\n';
    CHECK(file.good());
  }
}

// Needs a description that cuDNN wrote of a real device, golden/cudnn_device.json: the test above writes it on a card, to
// the path in BOOT_WRITE_CUDNN_DEVICE.
TEST_CASE("every convolution of the networks has a plan on the described device", "[nn][cuda]") {
  const char* const named = std::getenv("BOOT_CUDNN_DEVICE");
  const std::string path = named != nullptr ? named : BOOT_SOURCE_DIR "/tests/golden/cudnn_device.json";
  if (!std::filesystem::exists(path)) SKIP("no description of a device in " + path);
  std::ifstream file(path);
  std::string json{std::istreambuf_iterator<char>(file), {}};
  while (!json.empty() && json.back() == '\n') json.pop_back();
  const boot::cudnn_descriptor device = boot::cudnn_device_from_json(json);
  std::set<cudnn_convolution> all = convolutions_of(32, 3, {128, 256, 256, 256}, 2, false);  // cifar10
  CHECK(all.size() == 3 * 17);
  all.merge(convolutions_of(32, 3, {64, 128, 128}, 2, true));          // tiny32
  all.merge(convolutions_of(64, 4, {320, 640, 1280, 1280}, 2, true));  // Stable Diffusion 1.5
  CHECK(all.size() > 150);
  for (cudnn_convolution p : all)
    for (const auto type : {CUDNN_DATA_FLOAT, CUDNN_DATA_BFLOAT16}) {
      p.type = type;
      CAPTURE(p.text(), static_cast<int>(type));
      CHECK_NOTHROW(boot::detail::plan_convolution({.device = &device}, p, 1));
    }
}
