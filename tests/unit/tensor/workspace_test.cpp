// SPDX-License-Identifier: MIT
/// Memory kept from call to call.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>
#include <boot/tensor/workspace.hpp>

#include <vector>

using boot::cpu;

TEST_CASE("workspace: grows once and is then the same memory", "[tensor]") {
  boot::workspace<float, cpu> memory;
  const float* const first = memory.get(cpu{}, {4, 3}).data();
  CHECK(memory.get(cpu{}, {2, 5}).data() == first);
  CHECK(memory.get(cpu{}, {2, 5}).extents() == boot::shape{2, 5});
  const auto larger = memory.get(cpu{}, {5, 3});
  for (std::int64_t i = 0; i < larger.size(); ++i) larger.data()[i] = static_cast<float>(i);
  CHECK(memory.get(cpu{}, {12}).data() == larger.data());
  CHECK(memory.get(cpu{}, {12}).data()[11] == 11);
  CHECK(memory.get(cpu{}, {0, 3}).size() == 0);
}

TEST_CASE("row_table: rows one by one, or one row for all", "[tensor]") {
  struct row {
    float a = 0, b = 0;
  };
  boot::row_table<row, cpu> table;
  auto& rows = table.host(3);
  for (std::size_t i = 0; i < 3; ++i) rows[i] = {static_cast<float>(i), 1};
  const row* const three = table.upload(cpu{});
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(three[i].a == static_cast<float>(i));
    CHECK(three[i].b == 1);
  }
  const row* const two = table.upload(cpu{}, {7, 8}, 2);
  CHECK(two == three);
  CHECK(two[0].a == 7);
  CHECK(two[1].b == 8);
  CHECK(table.host(5).size() == 5);
}
