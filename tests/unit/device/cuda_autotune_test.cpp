// SPDX-License-Identifier: MIT
// Which of several ways is taken: by numbers, and on a device by timing real work.
#include "support/catch.hpp"

#include <boot/device/autotune.hpp>

#include <limits>

TEST_CASE("a way is taken when it is clearly the fastest", "[device][cuda]") {
  constexpr double never = std::numeric_limits<double>::infinity();
  CHECK(boot::detail::fastest_of({1}) == 0);
  CHECK(boot::detail::fastest_of({3, 1, 2}) == 1);
  CHECK(boot::detail::fastest_of({1.02, 1, 1.01}) == 0);  // noise
  CHECK(boot::detail::fastest_of({1.1, 1.02, 1}) == 1);
  CHECK(boot::detail::fastest_of({never, 2, 3}) == 1);
  CHECK(boot::detail::fastest_of({never, never}) == 0);
}

TEST_CASE("ways are timed on a device, and those that fail are passed over", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) SKIP("no CUDA device");
  const boot::cuda_stream stream;
  const boot::cuda dev = stream.device();
  const std::size_t size[] = {std::size_t{1} << 28, 0, std::size_t{1} << 20, std::size_t{1} << 27};
  const boot::buffer<boot::cuda> memory(dev, size[0]);
  const auto work = [&](std::size_t i) {
    boot::require(size[i] > 0, "this way does not work");
    boot::fill_zero(dev, memory.data(), size[i]);
  };
  CHECK(boot::detail::fastest_way(dev, 4, work) == 2);
  CHECK_THROWS_WITH(boot::detail::fastest_way(dev, 1, [&](std::size_t) { work(1); }),
                    Catch::Matchers::ContainsSubstring("does not work"));
}
