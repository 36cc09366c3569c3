// SPDX-License-Identifier: MIT
/// A device of host memory whose kernels run as on boot::cuda, the same launchers and bodies, on host threads: what is
/// left untested on a machine without a GPU is then the vendor's libraries and the launch itself. Slow: for tests only.
#pragma once

#include <boot/device/cpu.hpp>
#include <boot/device/memory.hpp>
#include <boot/device/recording.hpp>
#include <boot/kernel/team/host_team.hpp>
#include <boot/kernel/team/team_device.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>  // std::function: captured calls
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Host memory that counts as a device's own: views of boot::cpu do not convert. Models Device and TeamDevice. It lies in
/// namespace boot, as boot::cuda does: the operations of a graph find their functions by the device's namespace.
struct team_device {
  using device_category = team_device;         ///< names itself, see boot::Device
  static constexpr bool computes_bf16 = true;  ///< the operations of a graph take views of bf16 here

  /// Memory, filled with NaN patterns.
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    void* const p = cpu{}.allocate(bytes);
    std::memset(p, 0xff, bytes);
    return p;
  }
  /// Gives memory of allocate() back.
  void deallocate(void* p, std::size_t bytes) const noexcept { cpu{}.deallocate(p, bytes); }
};

/// Threads of a block on the host device: two warps show every barrier and every sum over warps.
inline constexpr int team_device_threads = 64;

/// How many events of this thread a device that is slower than the host would be behind; 0: none.
inline thread_local std::int64_t team_lag = 0;

namespace detail {
inline thread_local std::int64_t team_recorded = 0,
                                 team_reached = 0;  // events: made, and known to be behind the device

/// What the captured calls of this thread are appended to.
inline thread_local std::vector<std::function<void()>>* team_capture = nullptr;

/// Runs `call`, or keeps it for replays.
template <class Call>
void run_or_keep(Call call) {
  if (current_recording == nullptr) return call();
  require(team_capture != nullptr, "boot: a call was captured outside begin_capture() and end_capture()");
  team_capture->emplace_back(std::move(call));
}
inline void enqueue_copy(const team_device&, const void* from, void* to, std::size_t bytes) {
  run_or_keep([=] { std::memcpy(to, from, bytes); });
}
}  // namespace detail

/// Runs `call`, keeps it for replays, or leaves it out: whatever the step that is recorded needs. `number` tells calls
/// apart.
template <class Call, class... N>
void enqueue(const team_device&, Call call, N... number) {
  if (detail::enqueues(number...)) detail::run_or_keep(std::move(call));
}

/// Runs body(team) on `blocks` blocks for each of `samples` samples.
template <class Body>
void launch(const team_device& dev, const Body& body, std::int64_t blocks, std::int64_t samples) {
  static_assert(std::is_trivially_copyable_v<Body>, "boot: a kernel body is copied to the device bit by bit");
  if (blocks <= 0 || samples <= 0) return;
  enqueue(
      dev, [=] { launch_on_host<team_device_threads>(blocks, samples, body); }, detail::launch_number<Body>(), blocks,
      samples);
}

/// Memory for partial results, valid until the next call with the same slot, 0 to 3; NaN patterns at every call that is
/// not recorded. Memory given out once stays, so that what was captured can be replayed.
[[nodiscard]] inline void* device_scratch(const team_device& dev, std::size_t bytes, int slot = 0) {
  thread_local std::vector<buffer<team_device>> memory[4];
  auto& all = memory[slot];
  if (rehearsed() || bytes == 0) return all.empty() ? nullptr : all.back().data();
  if (all.empty() || all.back().bytes() < bytes) all.emplace_back(dev, bytes);
  if (detail::current_recording == nullptr) std::memset(all.back().data(), 0xff, bytes);
  return all.back().data();
}

/// Sets `bytes` bytes at `p` to zero.
inline void fill_zero(const team_device& dev, void* p, std::size_t bytes) {
  enqueue(
      dev, [=] { std::memset(p, 0, bytes); }, 3, bytes);
}
/// Copies between addresses that do not overlap.
inline void copy_bytes(const team_device& dev, const void* from, void* to, std::size_t bytes) {
  if (detail::enqueues_copy(from, to, bytes)) detail::enqueue_copy(dev, from, to, bytes);
}
/// Host to device. In a captured step the bytes come from the step's table.
inline void copy_from_host(const team_device& dev, const void* from, void* to, std::size_t bytes) {
  const void* const place = detail::sent_in_place(from, bytes);
  if (detail::enqueues(4, bytes))
    detail::enqueue_copy(dev, detail::current_recording != nullptr ? place : from, to, bytes);
}
/// Device to host. In a captured step it writes zeros: what a replay leaves is known later.
inline void copy_to_host(const team_device& dev, const void* from, void* to, std::size_t bytes) {
  void* const place = detail::current_recording != nullptr ? detail::current_recording->receive(to, bytes) : to;
  if (detail::enqueues(4, bytes)) detail::enqueue_copy(dev, from, place, bytes);
}
/// Fills memory with bytes that read as NaN in float, double and bf16.
inline void poison(const team_device& dev, void* p, std::size_t bytes) {
  enqueue(
      dev, [=] { std::memset(p, 0xff, bytes); }, 5, bytes);
}
/// The device has reached every event.
inline void synchronize(const team_device&) noexcept { detail::team_reached = detail::team_recorded; }

/// Capture on the test device: the calls with their arguments, in order.
template <>
struct capture_support<team_device> {
  static constexpr bool available = true;  ///< yes

  /// What was captured.
  class graph {
   public:
    explicit graph(std::vector<std::function<void()>> calls) : calls_(std::move(calls)) {}
    /// Runs the calls again.
    void replay(const team_device&) const {
      for (const auto& call : calls_) call();
    }

   private:
    std::vector<std::function<void()>> calls_;
  };
  /// Work is done when it is enqueued; an event says so after `team_lag` more events, or when somebody waits for it.
  class event {
   public:
    /// Behind what was enqueued so far.
    void record(const team_device&) noexcept { number_ = ++detail::team_recorded; }
    /// Whether it shows.
    [[nodiscard]] bool done() const noexcept {
      return number_ <= std::max(detail::team_reached, detail::team_recorded - team_lag);
    }
    /// Until then.
    void wait() const noexcept { detail::team_reached = std::max(detail::team_reached, number_); }

   private:
    std::int64_t number_ = 0;
  };
  /// Plain memory.
  class host_memory {
   public:
    explicit host_memory(std::size_t bytes) : memory_(cpu{}, bytes) {}
    /// First byte.
    [[nodiscard]] void* data() const noexcept { return memory_.data(); }

   private:
    buffer<cpu> memory_;
  };

  /// Always.
  [[nodiscard]] static bool possible(const team_device&) noexcept { return true; }
  /// From here on calls of this thread are kept instead of run.
  static void begin(const team_device&) { detail::team_capture = new std::vector<std::function<void()>>; }
  /// What was captured.
  [[nodiscard]] static graph end(const team_device& dev) {
    graph g(std::move(*detail::team_capture));
    abandon(dev);
    return g;
  }
  /// Ends a capture that failed.
  static void abandon(const team_device&) noexcept { delete std::exchange(detail::team_capture, nullptr); }
};

static_assert(TeamDevice<team_device>);

namespace testing {
using boot::team_device;
}  // namespace testing

}  // namespace boot::inline v0
