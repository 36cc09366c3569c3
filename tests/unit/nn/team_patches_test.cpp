// SPDX-License-Identifier: MIT
/// Patches as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/patches.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/nn/team/patches.hpp>

namespace {
using boot::testing::team_array;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void patched(const boot::shape& s, std::int64_t size, std::int64_t shift, bool accumulate) {
  const team_array<T> from(s, 1, shift);
  const auto reference = boot::testing::in(from.host, s);
  CAPTURE(s[0], s[1], s[2], s[3], size, shift, accumulate, sizeof(T));
  team_array<T> a(s, 2, shift), b(s, 3, shift);
  if (!accumulate) a.poison(), b.poison();
  boot::image_to_patches(dev, from.in(), size, a.numbers, accumulate);
  boot::image_to_patches(host, reference, size, boot::testing::out(a.host, s), accumulate);
  CHECK(a.error() <= boot::testing::team_tolerance<T>());
  boot::patches_to_image(dev, from.in(), size, b.numbers, accumulate);
  boot::patches_to_image(host, reference, size, boot::testing::out(b.host, s), accumulate);
  CHECK(b.error() <= boot::testing::team_tolerance<T>());
}
}  // namespace

TEMPLATE_TEST_CASE("team kernels move patches as the host does", "[nn][team]", float, double, boot::bf16) {
  const bool accumulate = GENERATE(false, true);
  patched<TestType>({1, 1, 1, 1}, 1, 0, accumulate);
  patched<TestType>({2, 6, 4, 8}, 2, 0, accumulate);
  patched<TestType>({2, 6, 4, 8}, 2, 1, accumulate);
  patched<TestType>({3, 6, 9, 3}, 3, 0, accumulate);
}
