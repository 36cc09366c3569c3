// SPDX-License-Identifier: MIT
/// What the device calls of this thread do while a training step is captured or rehearsed instead of run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace boot::inline v0 {

namespace detail {

/// A step that is captured or rehearsed. What it sends to the device and reads back is known by its place in the step.
/// Captured, the device's calls are kept for replays; what was sent lies at fixed places of the device, which every
/// replay fills from a table, and what is read goes to fixed places, too. Rehearsed, nothing is enqueued: what the step
/// sends becomes a row of that table, and what it reads comes from what a replay left, or is zero.
struct step_recording {
  static constexpr std::size_t alignment = 128;  ///< bytes, of every place

  bool captured = false;                            ///< calls are captured; false: rehearsed
  std::byte* device_sent = nullptr;                 ///< where the device finds what was sent
  std::byte* device_read = nullptr;                 ///< where the device leaves what is read
  void* device_control = nullptr;                   ///< the replay's own numbers on the device
  std::byte* sent = nullptr;                        ///< rehearsed: the table's row, null while its size is not known
  std::size_t sent_room = 0;                        ///< bytes of device_sent and sent
  const std::byte* read = nullptr;                  ///< rehearsed: what a replay left; null: zeros
  std::size_t read_room = 0;                        ///< bytes of device_read and read
  std::size_t sent_bytes = 0;                       ///< so far
  std::size_t read_bytes = 0;                       ///< so far
  std::uint64_t signature = 14695981039346656037u;  ///< of the calls so far: equal for steps that do the same

  /// Takes numbers of a call into the signature.
  template <class... N>
  void note(N... number) noexcept {
    ((signature = (signature ^ static_cast<std::uint64_t>(number)) * 1099511628211u), ...);
  }
  /// The place of the next `bytes` bytes that are sent; keeps them where they go to a table.
  [[nodiscard]] const std::byte* send(const void* from, std::size_t bytes) noexcept {
    const std::size_t at = sent_bytes;
    sent_bytes += (bytes + alignment - 1) / alignment * alignment;
    note(1, bytes);
    if (sent != nullptr && sent_bytes <= sent_room) std::memcpy(sent + at, from, bytes);
    return device_sent + at;
  }
  /// The place of the next `bytes` bytes that are read; rehearsed, `to` gets what a replay left there.
  [[nodiscard]] std::byte* receive(void* to, std::size_t bytes) noexcept {
    const std::size_t at = read_bytes;
    read_bytes += (bytes + alignment - 1) / alignment * alignment;
    note(2, bytes);
    if (!captured && read != nullptr && read_bytes <= read_room) {
      std::memcpy(to, read + at, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
    return device_read + at;
  }
};

inline thread_local step_recording* current_recording = nullptr;

/// Makes `recording` this thread's for a scope.
class recording_scope {
 public:
  explicit recording_scope(step_recording& recording) noexcept : before_(current_recording) {
    current_recording = &recording;
  }
  recording_scope(const recording_scope&) = delete;
  recording_scope& operator=(const recording_scope&) = delete;
  ~recording_scope() { current_recording = before_; }

 private:
  step_recording* before_;
};

/// Takes a call that enqueues device work into the recording, if there is one. False: leave the work out.
template <class... N>
[[nodiscard]] bool enqueues(N... number) noexcept {
  step_recording* const r = current_recording;
  if (r == nullptr) [[likely]]
    return true;
  r->note(number...);
  return r->captured;
}

/// Where the device finds `bytes` bytes at `from` while a step is recorded, without a copy of its own; null otherwise.
[[nodiscard]] inline const void* sent_in_place(const void* from, std::size_t bytes) noexcept {
  step_recording* const r = current_recording;
  return r == nullptr ? nullptr : r->send(from, bytes);
}

}  // namespace detail

/// How a device captures what is enqueued, specialised beside the devices that can. `available` devices have
///   `static bool possible(dev)`, `begin(dev)`, `end(dev) -> graph`, `abandon(dev)`
///   graph        `replay(dev)` enqueues the captured calls once more
///   event        `record(dev)`, `done()`, `wait()`; default-constructible, one never recorded is done
///   host_memory  `host_memory(bytes)`, `data()`: memory that host and device both reach
template <class D>
struct capture_support {
  static constexpr bool available = false;  ///< this device captures nothing
};

/// True while a step's host code runs without its device work: whatever would be enqueued is left out. Functions that
/// call a vendor's library ask; launches, copies and fills do so themselves.
[[nodiscard]] inline bool rehearsed() noexcept {
  return detail::current_recording != nullptr && !detail::current_recording->captured;
}

}  // namespace boot::inline v0
