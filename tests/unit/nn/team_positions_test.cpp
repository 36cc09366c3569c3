// SPDX-License-Identifier: MIT
/// Positions of tokens as team kernels on the host device, against the loops of boot::cpu in float64.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/patches.hpp>
#include <boot/nn/team/positions.hpp>

namespace {
using boot::testing::team_array;
constexpr boot::testing::team_device dev{};
constexpr boot::cpu host{1};

template <class T>
void positioned(const boot::shape& s, double base, std::int64_t shift) {
  CAPTURE(s[0], s[1], s[2], s[3], base, shift, sizeof(T));
  const team_array<T> x(s, 1, shift);
  team_array<T> y(s, 2, shift), own(s, 1, shift);
  y.poison();
  boot::add_positions(dev, x.in(), base, y.numbers);
  boot::add_positions(dev, own.in(), base, own.numbers);
  boot::add_positions(host, boot::testing::in(x.host, s), base, boot::testing::out(y.host, s));
  own.host = y.host;
  CHECK(y.error() <= boot::testing::team_tolerance<T>());
  CHECK(own.error() <= boot::testing::team_tolerance<T>());
}
}  // namespace

TEST_CASE("team kernels add positions to no sample", "[nn][team]") {
  team_array<float> none({0, 2, 3, 8}, 1);
  boot::add_positions(dev, none.in(), 1, none.numbers);
}

TEMPLATE_TEST_CASE("Team kernels add positions as the host does", "[nn][team]", float, double, boot::bf16) {
  positioned<TestType>({1, 1, 1, 4}, 1, 0);
  positioned<TestType>({2, 3, 5, 12}, 16, 1);
  positioned<TestType>({1, 16, 16, 8}, 64, 0);
  positioned<TestType>({35, 2, 3, 8}, 7.5, 0);
}
