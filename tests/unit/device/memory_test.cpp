// SPDX-License-Identifier: MIT
// buffer: move-only ownership, and counters that tell live bytes, the peak and the number of allocations.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/device/memory.hpp>

#include <cstdint>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace {

// A device of its own, so that nothing else moves its counters.
struct counted_device {
  using device_category = counted_device;
  int number = 0;
  void* allocate(std::size_t bytes) const {
    boot::require(bytes < 1'000'000, "boot: no memory for {} bytes here", bytes);
    return std::malloc(bytes);
  }
  void deallocate(void* p, std::size_t) const { std::free(p); }
};
static_assert(boot::Device<counted_device>);
static_assert(boot::Device<boot::cpu>);
struct half_a_device {
  using device_category = half_a_device;
};
static_assert(!boot::Device<half_a_device>);
struct impostor : boot::cpu {};  // its category names another type
static_assert(!boot::Device<impostor>);

using buffer = boot::buffer<counted_device>;
static_assert(!std::is_copy_constructible_v<buffer> && !std::is_copy_assignable_v<buffer>);
static_assert(std::is_nothrow_move_constructible_v<buffer> && std::is_nothrow_move_assignable_v<buffer>);

}  // namespace

TEST_CASE("counters follow every allocation, move and release", "[device]") {
  const auto start = boot::memory_use<counted_device>();
  const auto now = [&] {
    const auto s = boot::memory_use(counted_device{});
    return std::pair{s.live_bytes - start.live_bytes, s.allocations - start.allocations};
  };
  {
    buffer a({7}, 1000);
    CHECK(a.data() != nullptr);
    CHECK(a.bytes() == 1000);
    CHECK(a.device().number == 7);
    CHECK(now() == std::pair<std::int64_t, std::int64_t>{1000, 1});
    buffer b({8}, 500);
    CHECK(now() == std::pair<std::int64_t, std::int64_t>{1500, 2});
    void* const kept = a.data();
    b = std::move(a);  // gives its 500 bytes back
    CHECK(now() == std::pair<std::int64_t, std::int64_t>{1000, 2});
    CHECK(b.data() == kept);
    CHECK(b.device().number == 7);
    CHECK(a.data() == nullptr);  // NOLINT(bugprone-use-after-move): a moved-from buffer is empty
    CHECK(a.bytes() == 0);
    buffer& same = b;
    b = std::move(same);
    CHECK(b.data() == kept);
    const buffer c(std::move(b));
    CHECK(c.data() == kept);
    CHECK(now() == std::pair<std::int64_t, std::int64_t>{1000, 2});
  }
  CHECK(now() == std::pair<std::int64_t, std::int64_t>{0, 2});
  CHECK(boot::memory_use<counted_device>().peak_bytes - start.live_bytes >= 1500);
}

TEST_CASE("a part of a program has its own peak", "[device]") {
  const auto peak = [] { return boot::memory_use<counted_device>().peak_bytes; };
  const buffer kept({}, 300);
  { const buffer large({}, 5000); }
  CHECK(peak() >= 5300);
  boot::reset_peak_memory<counted_device>();
  CHECK(peak() == boot::memory_use<counted_device>().live_bytes);
  { const buffer small({}, 200); }
  CHECK(peak() == boot::memory_use<counted_device>().live_bytes + 200);
}

TEST_CASE("an empty buffer allocates nothing, and a failed one is not counted", "[device]") {
  const auto before = boot::memory_use<counted_device>();
  const buffer none({}, 0);
  CHECK(none.data() == nullptr);
  CHECK_THROWS_AS(buffer({}, 2'000'000), boot::error);
  const auto after = boot::memory_use<counted_device>();
  CHECK(after.allocations == before.allocations);
  CHECK(after.live_bytes == before.live_bytes);
  CHECK(after.peak_bytes == before.peak_bytes);
}
