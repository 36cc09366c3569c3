// SPDX-License-Identifier: MIT
/// Tables without a null class as team kernels on the host device: plain copies and sums.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/team/embedding_without_null.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {
using boot::testing::team_array;
constexpr boot::testing::team_device dev{};

struct ids_without_null {
  boot::class_labels<boot::team_device> labels;
  std::int32_t classes;
};
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of tables without a null class copy and add rows", "[nn][team]", float, double,
                   boot::bf16) {
  using T = TestType;
  using C = boot::compute_type<T>;
  const std::int64_t width = GENERATE(1, 65, 300), classes = 4;
  const std::vector<std::int32_t> ids{3, 0, 3, 1, -1, 4};  // the last two have no row
  const auto batch = static_cast<std::int64_t>(ids.size());
  const auto ids_there = boot::testing::on_device(ids);
  const ids_without_null labels{{{ids_there.data(), {batch}}}, static_cast<std::int32_t>(classes)};
  const team_array<C> table({classes, width}, 1, 1);
  const team_array<T> dy({batch, width}, 2, 1);
  team_array<T> y({batch, width}, 3, 1);
  team_array<C> sums({classes, width}, 4, 1), untouched({classes, width}, 5);
  y.poison();
  boot::embedding_forward(dev, table.in(), labels, y.numbers);
  boot::embedding_backward(dev, dy.in(), labels, sums.numbers);
  for (std::int64_t r = 0; r < batch; ++r)
    for (std::int64_t i = 0; i < width; ++i) {
      const auto at = static_cast<std::size_t>(r * width + i);
      const auto have = static_cast<double>(static_cast<C>(y.numbers.data()[at]));
      const std::int64_t k = ids[static_cast<std::size_t>(r)];
      if (k < 0 || k >= classes) {
        CHECK(std::isnan(have));
      } else {
        T stored;
        boot::store(stored, static_cast<C>(table.host[static_cast<std::size_t>(k * width + i)]));
        CHECK(have == static_cast<double>(static_cast<C>(stored)));
        sums.host[static_cast<std::size_t>(k * width + i)] += dy.host[at];
      }
    }
  CHECK(sums.error() <= boot::testing::team_tolerance<C>(2));

  const ids_without_null none{{labels.labels.ids, true}, labels.classes};
  boot::embedding_forward(dev, table.in(), none, y.numbers);
  for (std::int64_t i = 0; i < y.numbers.size(); ++i) CHECK(std::isnan(static_cast<C>(y.numbers.data()[i])));
  boot::embedding_backward(dev, dy.in(), none, untouched.numbers);
  CHECK(untouched.error() == 0);
}
