// SPDX-License-Identifier: MIT
// offset_allocator against a plain list of ranges: no overlap, first fit, coalescing, and the peak it promises.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/arena.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace {

std::int64_t rounded(std::int64_t bytes) { return (std::max<std::int64_t>(bytes, 1) + 127) / 128 * 128; }

// The lowest gap that is large enough, found by walking all live ranges.
std::int64_t first_fit(const std::map<std::int64_t, std::int64_t>& live, std::int64_t bytes) {
  std::int64_t at = 0;
  for (const auto& [offset, size] : live) {
    if (offset - at >= bytes) return at;
    at = offset + size;
  }
  return at;
}

}  // namespace

TEST_CASE("random takes and gives agree with a naive first fit", "[nn][arena]") {
  const std::uint64_t seed = GENERATE(range(std::uint64_t{1}, std::uint64_t{9}));
  boot::offset_allocator places;
  std::map<std::int64_t, std::int64_t> live;  // offset, rounded bytes
  std::vector<std::pair<std::int64_t, std::int64_t>> held;
  std::int64_t peak = 0;
  const boot::counter_key key{seed, boot::stream::test, 0};
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const bool take = held.empty() || boot::uniform_index(100, key, i, 0) < (i % 1000 < 500 ? 60U : 40U);
    if (take) {
      const std::int64_t bytes = boot::uniform_index(3000, key, i, 1);
      const std::int64_t expected = first_fit(live, rounded(bytes));
      const std::int64_t offset = places.take(bytes);
      REQUIRE(offset == expected);
      REQUIRE(offset % boot::offset_allocator::alignment == 0);
      live[offset] = rounded(bytes);
      held.emplace_back(offset, bytes);
      peak = std::max(peak, live.rbegin()->first + live.rbegin()->second);
    } else {
      const std::size_t which = boot::uniform_index(static_cast<std::uint32_t>(held.size()), key, i, 2);
      places.give(held[which].first, held[which].second);
      live.erase(held[which].first);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
    REQUIRE(places.peak() == peak);
  }
  // All given back in any order, the next range starts at 0 again.
  while (!held.empty()) {
    places.give(held.back().first, held.back().second);
    held.pop_back();
  }
  CHECK(places.take(peak) == 0);
  CHECK(places.peak() == peak);
}

TEST_CASE("neighbouring free ranges become one, on either side", "[nn][arena]") {
  boot::offset_allocator places;
  const std::int64_t a = places.take(128), b = places.take(128), c = places.take(128), d = places.take(128);
  places.give(a, 128);
  places.give(c, 128);
  CHECK(places.take(256) == 512);  // neither hole is large enough
  places.give(b, 128);
  CHECK(places.take(384) == a);
  CHECK(places.peak() == 768);
  CHECK(d == 384);
}

TEST_CASE("the end shrinks back, nothing is ever of size 0, and clear() keeps the peak", "[nn][arena]") {
  boot::offset_allocator places;
  const std::int64_t a = places.take(0), b = places.take(1);
  CHECK(b == a + 128);
  places.give(b, 1);
  CHECK(places.take(1000) == b);
  CHECK(places.peak() == 128 + 1024);
  places.clear();
  CHECK(places.peak() == 128 + 1024);
  CHECK(places.take(64) == 0);
}
