// SPDX-License-Identifier: MIT
// staging_ring: parts never overlap while their events are open, and it waits only when there is no room.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/device/staging.hpp>

#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace {

// An event that the test finishes, or that a wait finishes.
struct fake_event {
  std::shared_ptr<bool> open = std::make_shared<bool>(false);
  bool done() const { return !*open; }
  void wait() { *open = false; }
};
using ring = boot::staging_ring<fake_event>;

}  // namespace

TEST_CASE("a staging ring deals its memory in turn and waits only when it is full", "[device]") {
  ring r(1024, 8);
  std::vector<std::shared_ptr<bool>> events;
  const auto take = [&](std::size_t bytes) {
    const auto part = r.take(bytes);
    part.event.open = std::make_shared<bool>(true);
    events.push_back(part.event.open);
    return part.offset;
  };
  CHECK(take(256) == 0);
  CHECK(take(1) == 256);  // sizes are rounded up
  CHECK(take(512) == 512);
  CHECK(r.pending() == 3);
  CHECK(r.waits() == 0);
  *events[0] = false;
  CHECK(take(100) == 0);  // around the end, without waiting
  CHECK(r.waits() == 0);
  CHECK(take(100) == 256);  // full: the oldest is waited for
  CHECK(r.waits() == 1);
  CHECK_FALSE(*events[1]);
  CHECK(take(1024) == 0);  // needs everything
  CHECK(r.waits() == 4);
  CHECK(r.pending() == 1);
}

TEST_CASE("a staging ring has a limit of parts", "[device]") {
  ring r(4096, 2);
  for (int i = 0; i < 5; ++i) {
    const auto part = r.take(1);
    part.event.open = std::make_shared<bool>(true);
  }
  CHECK(r.waits() == 3);
  CHECK(r.pending() == 2);
}

TEST_CASE("open parts of a staging ring never overlap", "[device]") {
  struct open_part {
    std::size_t begin, end;
    std::shared_ptr<bool> open;
  };
  ring r(64 * 256, 7);
  std::mt19937 random(5);
  std::deque<open_part> all;
  bool apart = true, inside = true;
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t bytes = 1 + random() % (i % 50 == 0 ? r.capacity() : 4000);
    const auto part = r.take(bytes);
    std::erase_if(all, [](const open_part& p) { return !*p.open; });
    inside = inside && part.offset % ring::alignment == 0 && part.offset + bytes <= r.capacity();
    for (const open_part& p : all) apart = apart && (part.offset + bytes <= p.begin || p.end <= part.offset);
    part.event.open = std::make_shared<bool>(true);
    all.push_back({part.offset, part.offset + bytes, part.event.open});
    for (std::size_t n = random() % 3; n > 0 && !all.empty(); --n) {  // the device goes on, in order
      *all.front().open = false;
      all.pop_front();
    }
  }
  CHECK(inside);
  CHECK(apart);
}

TEST_CASE("a staging ring says what does not fit", "[device]") {
  ring r(512, 4);
  CHECK_THROWS_WITH(r.take(513), Catch::Matchers::ContainsSubstring("513 bytes of a staging ring of 512"));
  CHECK_THROWS_AS(r.take(0), boot::error);
  CHECK_THROWS_AS(ring(100, 4), boot::error);
  CHECK_THROWS_AS(ring(512, 0), boot::error);
}
