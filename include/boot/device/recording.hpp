// SPDX-License-Identifier: MIT
/// What the device calls of this thread do while a training step is captured or rehearsed instead of run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace boot::inline v0 {

namespace detail {

/// The parts of a step that only enqueue work, as networks do, and that were the same in several rehearsals: a network's
/// host code takes far longer than the rest of a step, so later rehearsals leave it out.
struct quiet_parts {
  /// One part: its arguments, and the signature of what it enqueued.
  struct part {
    std::uint64_t arguments = 0, signature = 0;
    bool operator==(const part&) const = default;
  };
  static constexpr int needed = 3;  ///< rehearsals alike before parts are left out

  std::vector<part> known, now;  ///< of the last rehearsal, of this one
  bool loud = false;             ///< a part of this rehearsal sent or read something
  int alike = 0;                 ///< rehearsals with the known parts

  /// Ends a rehearsal in which no part was left out.
  void finish() {
    alike = loud ? 0 : known == now ? alike + 1 : 1;
    known.swap(now);
    now.clear();
    loud = false;
  }
};

/// A step that is captured or rehearsed. What it sends to the device and reads back is known by its place in the step.
/// Captured, the device's calls are kept for replays; what was sent lies at fixed places of the device, which every
/// replay fills from a table, and what is read goes to fixed places, too. Rehearsed, nothing is enqueued: what the step
/// sends becomes a row of that table, and what it reads comes from what a replay left, or is zero.
struct step_recording {
  static constexpr std::size_t alignment = 128;  ///< bytes, of every place
  static constexpr std::uint64_t no_calls = 14695981039346656037u;

  bool captured = false;               ///< calls are captured; false: rehearsed
  std::byte* device_sent = nullptr;    ///< where the device finds what was sent
  std::byte* device_read = nullptr;    ///< where the device leaves what is read
  void* device_control = nullptr;      ///< the replay's own numbers on the device
  std::byte* sent = nullptr;           ///< rehearsed: the table's row, null while its size is not known
  std::size_t sent_room = 0;           ///< bytes of device_sent and sent
  const std::byte* read = nullptr;     ///< rehearsed: what a replay left; null: zeros
  std::size_t read_room = 0;           ///< bytes of device_read and read
  std::size_t sent_bytes = 0;          ///< so far
  std::size_t read_bytes = 0;          ///< so far
  std::uint64_t signature = no_calls;  ///< of the calls so far: equal for steps that do the same
  quiet_parts* quiet = nullptr;        ///< where parts are looked up that may be left out; null: none is
  bool leaves_out = false;             ///< they are
  std::size_t next_part = 0;           ///< of the known ones
  bool in_part = false;                ///< one is running
  /// What is done at a part that cannot be captured, `call(work)`; null: the part is left out.
  void (*cut)(void* cutter, void (*call)(const void* work), const void* work) = nullptr;
  void* cutter = nullptr;  ///< handed to cut
  int cuts = 0;            ///< such parts so far

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

/// Makes `recording` this thread's for a scope; null: calls run as they are written.
class recording_scope {
 public:
  explicit recording_scope(step_recording* recording) noexcept : before_(current_recording) {
    current_recording = recording;
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

/// The same for a copy between device addresses: a captured one is replayed with the same addresses, so a step with
/// others does other work. Not in a part that takes memory from a pool, whose addresses follow from its arguments.
[[nodiscard]] inline bool enqueues_copy(const void* from, const void* to, std::size_t bytes) noexcept {
  const step_recording* const r = current_recording;
  if (r == nullptr || r->in_part) return enqueues(4, bytes);
  return enqueues(4, bytes, reinterpret_cast<std::uintptr_t>(from), reinterpret_cast<std::uintptr_t>(to));
}

/// Runs a part of a step that only enqueues work: `work()`, whose calls follow from the numbers `argument` alone. In a
/// rehearsal that knows it already the part is left out, and the result is false.
template <class Work, class... N>
bool quiet_part(const Work& work, N... argument) {
  step_recording* const r = current_recording;
  if (r == nullptr || r->in_part) {
    work();
    return true;
  }
  const std::uint64_t before = r->signature;
  const std::size_t sent = r->sent_bytes, read = r->read_bytes;
  r->signature = step_recording::no_calls;
  r->note(argument...);
  quiet_parts::part p{r->signature, 0};
  if (r->leaves_out) {
    const auto& known = r->quiet->known;
    if (r->next_part < known.size() && known[r->next_part].arguments == p.arguments)
      p.signature = known[r->next_part].signature;
    ++r->next_part;
    r->signature = before;
    r->note(p.signature);  // 0 where it is another part: the step then differs from the captured one
    return false;
  }
  r->in_part = true;
  work();  // what throws here ends the recording
  r->in_part = false;
  p.signature = r->signature;
  r->signature = before;
  r->note(p.signature);
  if (r->quiet != nullptr) {
    r->quiet->now.push_back(p);
    r->quiet->loud = r->quiet->loud || r->sent_bytes != sent || r->read_bytes != read;
  }
  return true;
}

/// Runs a part of a step that cannot be captured, between two graphs of the captured step.
template <class Work>
void uncaptured_part(const Work& work) {
  step_recording* const r = current_recording;
  if (r == nullptr) return work();
  r->note(8);
  ++r->cuts;
  if (r->cut != nullptr)
    r->cut(
        r->cutter, [](const void* w) { (*static_cast<const Work*>(w))(); }, &work);
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
