// SPDX-License-Identifier: MIT
// boot::cpu: loops visit every index once whatever the team, chunks ignore it, memory is aligned and errors are told.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

TEST_CASE("parallel_for calls every index exactly once", "[device]") {
  const int threads = GENERATE(1, 2, 3, 8);
  const std::int64_t count = GENERATE(0, 1, 2, 7, 1000);
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
  boot::parallel_for(boot::cpu{threads}, count,
                     [&](std::int64_t i) { seen[static_cast<std::size_t>(i)].fetch_add(1); });
  for (const auto& n : seen) REQUIRE(n.load() == 1);
  CHECK(seen.size() == static_cast<std::size_t>(count));
}

TEST_CASE("parallel_for inside parallel_for runs and is complete", "[device]") {
  std::array<std::atomic<int>, 12> seen{};
  boot::parallel_for(boot::cpu{3}, 3, [&](std::int64_t i) {
    boot::parallel_for(boot::cpu{3}, 4,
                       [&](std::int64_t j) { seen[static_cast<std::size_t>(4 * i + j)].fetch_add(1); });
  });
  for (const auto& n : seen) CHECK(n.load() == 1);
}

TEST_CASE("chunks cover the range, and their cut does not depend on threads", "[device]") {
  const std::int64_t n = GENERATE(0, 1, 9, 10, 11, 99);
  std::set<std::pair<std::int64_t, std::int64_t>> first;
  for (const int threads : {1, 2, 3}) {
    std::set<std::pair<std::int64_t, std::int64_t>> cuts;
    std::mutex lock;
    boot::parallel_chunks(boot::cpu{threads}, n, 10, [&](std::int64_t begin, std::int64_t end) {
      const std::lock_guard hold(lock);
      cuts.emplace(begin, end);
    });
    std::int64_t at = 0;
    for (const auto& [begin, end] : cuts) {
      REQUIRE(begin == at);
      REQUIRE(end > begin);
      REQUIRE(end - begin <= 10);
      at = end;
    }
    CHECK(at == n);
    if (threads == 1) first = cuts;
    CHECK(cuts == first);
  }
}

TEST_CASE("host memory is 128-byte aligned, and what cannot be had is an error with the size", "[device]") {
  const boot::cpu dev;
  for (const std::size_t bytes : {1U, 127U, 4096U}) {
    void* const p = dev.allocate(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 128 == 0);
    dev.deallocate(p, bytes);
  }
  // Sanitizers abort on such a request unless told otherwise; plain builds must throw our error.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const std::size_t most = (std::numeric_limits<std::size_t>::max)() / 4;
  CHECK_THROWS_WITH(static_cast<void>(dev.allocate(most)), Catch::Matchers::ContainsSubstring("no memory for") &&
                                                               Catch::Matchers::ContainsSubstring("smaller batch"));
#endif
}

TEST_CASE("raw copies, zeros and poison", "[device]") {
  const boot::cpu dev{2};
  const std::size_t n = 300'001;  // more than one chunk of the copy
  std::vector<float> a(n), b(n, -1.0f);
  for (std::size_t i = 0; i < n; ++i) a[i] = static_cast<float>(i);
  boot::copy_bytes(dev, a.data(), b.data(), n * sizeof(float));
  CHECK(a == b);
  boot::fill_zero(dev, b.data(), n * sizeof(float));
  CHECK(b == std::vector<float>(n, 0.0f));
  boot::copy_from_host(dev, a.data(), b.data(), sizeof(float) * 3);
  CHECK(b[2] == 2.0f);
  CHECK(b[3] == 0.0f);
  float back = 0;
  boot::copy_to_host(dev, a.data() + 9, &back, sizeof back);
  CHECK(back == 9.0f);
  std::array<double, 2> d{1, 2};
  boot::poison(dev, d.data(), sizeof d);
  CHECK(std::isnan(d[0]));
  CHECK(std::isnan(d[1]));
  boot::synchronize(dev);
}

TEST_CASE("a device says how many threads it will use", "[device]") {
  CHECK(boot::cpu{}.thread_count() >= 1);
#if BOOT_HAS_OPENMP
  CHECK(boot::cpu{3}.thread_count() == 3);
#else
  CHECK(boot::cpu{3}.thread_count() == 1);
#endif
}
