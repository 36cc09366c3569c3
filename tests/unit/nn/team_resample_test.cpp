// SPDX-License-Identifier: MIT
/// Upsampling and pooling as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/resample.hpp>
#include <boot/nn/team/resample.hpp>

namespace {
using boot::testing::team_array;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void resampled(std::int64_t b, std::int64_t h, std::int64_t w, std::int64_t c, std::int64_t shift, bool accumulate) {
  const boot::shape small{b, h, w, c}, large{b, 2 * h, 2 * w, c};
  const team_array<T> coarse(small, 1, shift), fine(large, 2, shift);
  const auto hc = boot::testing::in(coarse.host, small), hf = boot::testing::in(fine.host, large);
  const double bound = boot::testing::team_tolerance<T>();
  CAPTURE(b, h, w, c, shift, accumulate, sizeof(T));

  team_array<T> up(small, 3, shift), pool(large, 4, shift);
  if (!accumulate) up.poison(), pool.poison();
  boot::upsample_backward(dev, fine.in(), up.numbers, accumulate);
  boot::upsample_backward(host, hf, boot::testing::out(up.host, small), accumulate);
  CHECK(up.error() <= bound);
  boot::average_pool_backward(dev, coarse.in(), pool.numbers, accumulate);
  boot::average_pool_backward(host, hc, boot::testing::out(pool.host, large), accumulate);
  CHECK(pool.error() <= bound);

  up.poison(), pool.poison();
  boot::average_pool_forward(dev, fine.in(), up.numbers);
  boot::average_pool_forward(host, hf, boot::testing::out(up.host, small));
  CHECK(up.error() <= bound);
  boot::upsample_forward(dev, coarse.in(), pool.numbers);
  boot::upsample_forward(host, hc, boot::testing::out(pool.host, large));
  CHECK(pool.error() <= bound);
}
}  // namespace

TEMPLATE_TEST_CASE("team kernels resample as the host does", "[nn][team]", float, double, boot::bf16) {
  const bool accumulate = GENERATE(false, true);
  resampled<TestType>(1, 1, 1, 1, 0, accumulate);
  resampled<TestType>(2, 3, 5, 16, 0, accumulate);
  resampled<TestType>(2, 3, 5, 16, 1, accumulate);
  resampled<TestType>(3, 4, 3, 7, 0, accumulate);
  resampled<TestType>(1, 9, 8, 264, 0, accumulate);
}
