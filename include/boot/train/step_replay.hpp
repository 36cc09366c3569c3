// SPDX-License-Identifier: MIT
/// Replays a captured training step: everything that changes from step to step comes from a table made on the host.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/memory.hpp>
#include <boot/device/recording.hpp>
#include <boot/kernel/team/step.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// A step of training is the same device work every time; only numbers sent from the host differ (noise keys, times,
/// rows of coefficients, the learning rate). capture() keeps that work once. The numbers of the steps to come are found
/// by rehearsing: the step's own host code runs again with its device calls left out, and what it sends becomes a row of
/// a table in device memory. launch() replays the work, whose first kernel fetches the row of the device's own step
/// counter; the host never waits for the device except to stay at most `run_ahead` steps ahead. What a step reads back
/// is kept by the device, and report() runs the host code a last time on it: the same code gives the same numbers.
///
/// A part that cannot be captured (a teacher that runs elsewhere) cuts the work into several graphs. launch() then runs
/// the host code once more, with that part as it is written between two graphs.
///
/// The device decides what to do with a step that reads a number that is not finite: it updates nothing, and neither does
/// any later replay until the host has seen it and called restart().
template <class D>
class step_replay {
  using support = capture_support<D>;

 public:
  static constexpr std::int64_t run_ahead = 32;    ///< steps launched and not known to be finished, at most
  static constexpr std::int64_t fewest_rows = 64;  ///< of the table: rows are sent before half of it is launched

  /// The table in device memory takes about `table_bytes`, less where a step sends little.
  explicit step_replay(const D& dev, std::size_t table_bytes = std::size_t{32} << 20)
      : dev_(dev), table_bytes_(table_bytes) {}
  step_replay(const step_replay&) = delete;
  step_replay& operator=(const step_replay&) = delete;
  ~step_replay() {
    try {
      drop();  // replays in flight write to memory of this object
    } catch (const std::exception&) {
    }
  }

  /// Whether there is something to replay.
  [[nodiscard]] bool ready() const noexcept { return !graphs_.empty(); }
  /// The step that launch() will do next.
  [[nodiscard]] std::int64_t next() const noexcept { return next_; }
  /// Steps that can be launched, at most: from this one on the host code does other calls than the captured ones.
  [[nodiscard]] std::int64_t end() const noexcept { return end_; }
  /// Steps between a launch and the last moment for its report.
  [[nodiscard]] std::int64_t records() const noexcept { return rows_; }
  /// Whether the device's memory is no longer what it was when the step was captured, so that addresses may be stale.
  [[nodiscard]] bool memory_changed() const noexcept {
    const memory_statistics now = memory_use<D>();
    return now.allocations != memory_.allocations || now.live_bytes != memory_.live_bytes;
  }

  /// Bytes of device memory that capture() of code(step) will take, whose memory must be there.
  template <class Code>
  [[nodiscard]] std::int64_t bytes_for(std::int64_t step, const Code& code) {
    detail::step_recording measured = rehearsal();
    perform(measured, step, code);
    const std::size_t sent = room(measured.sent_bytes), read = room(measured.read_bytes);
    return static_cast<std::int64_t>(sent + read + static_cast<std::size_t>(rows_for(sent)) * sent +
                                     sizeof(step_control));
  }
  /// Captures code(step), the host code of a step that was run uncaptured before, so that its memory is there. Nothing
  /// is updated. `cut`: some of it cannot be captured, and must be called as such. On failure returns why, and what follows
  /// must run uncaptured; "" for success.
  template <class Code>
  [[nodiscard]] std::string capture(std::int64_t step, bool cut, const Code& code) {
    drop();
    quiet_ = {};
    detail::step_recording measured = rehearsal();
    try {
      perform(measured, step, code);
      if (cut && measured.cuts == 0)
        return "the teacher cannot be captured, and the objective calls it by itself; call it by boot::teacher_call";
      make_room(measured);
      end_ = never;
      restart(step);
    } catch (const std::exception& e) {
      return e.what();
    }
    detail::step_recording captured = rehearsal();
    captured.captured = true;
    captured.cutter = this;
    captured.cut = [](void* self, void (*)(const void*), const void*) {
      auto& replay = *static_cast<step_replay*>(self);
      replay.graphs_.push_back(support::end(replay.dev_));
      support::begin(replay.dev_);
    };
    support::begin(dev_);
    try {
      const detail::recording_scope scope(&captured);
      const auto* const control = static_cast<const step_control*>(control_.data());
      const std::uint64_t fresh = captured.signature;
      fetch_row(dev_, control, static_cast<const std::byte*>(table_.data()), rows_, sent_bytes(),
                static_cast<std::byte*>(sent_.data()));
      captured.signature = fresh;
      static_cast<void>(code(step));
      require(captured.signature == signature_ && same_room(captured),
              "boot: a step enqueued other work while it was captured than a moment before");
      finish_step(dev_, static_cast<step_control*>(control_.data()), static_cast<const std::byte*>(read_.data()),
                  read_bytes(), static_cast<std::byte*>(records_->data()), rows_);
      graphs_.push_back(support::end(dev_));
    } catch (const std::exception& e) {
      support::abandon(dev_);
      graphs_.clear();
      return e.what();
    }
    memory_ = memory_use<D>();
    return {};
  }
  /// Forgets what was captured; the device must be done with it.
  void drop() {
    if (graphs_.empty()) return;
    synchronize(dev_);
    graphs_.clear();
  }
  /// Goes on with `step`: after a bad step, or where steps were done in another way. Waits for the device.
  void restart(std::int64_t step) {
    synchronize(dev_);
    const step_control control{.step = step};
    copy_from_host(dev_, &control, control_.data(), sizeof control);
    next_ = filled_ = sent_to_ = finished_ = step;
  }
  /// Enqueues step next(), which must be before end(), and prepares steps to come before `last`. False where the step
  /// turns out to do other calls than the captured ones: end() is then next().
  template <class Code>
  [[nodiscard]] bool launch(std::int64_t last, const Code& code) {
    if (filled_ == next_ && !fill(code)) return false;
    if (sent_to_ == next_) send_rows();
    auto& event = event_of(next_);
    // Waiting half of the way ahead: one sleep of this thread serves as many steps.
    const bool is_free = event.done();
    if (!is_free) event_of(next_ + run_ahead / 2).wait();
    finished_ = std::max(finished_, next_ + 1 - (is_free ? run_ahead : run_ahead / 2));  // before it is recorded again
    replay_graphs(code);
    event.record(dev_);
    ++next_;
    const std::int64_t ahead = std::min(last, next_ + std::min(rows_ / 2, run_ahead + 8));
    for (int k = 0; k < 2 && filled_ < ahead; ++k)
      if (!fill(code)) break;
    if (filled_ - sent_to_ >= rows_ / 4) send_rows();
    return true;
  }
  /// Steps that the device is done with: those before the result.
  [[nodiscard]] std::int64_t finished() {
    while (finished_ < next_ && event_of(finished_).done()) ++finished_;
    return finished_;
  }
  /// Waits until every launched step is done.
  std::int64_t finish() {
    if (finished_ < next_) event_of(next_ - 1).wait();
    return finished_ = next_;
  }
  /// What step `step` left, which must be finished and among the last records() launched.
  [[nodiscard]] step_record record(std::int64_t step) const {
    step_record r;
    std::memcpy(&r, row(step), sizeof r);
    return r;
  }
  /// code(step) with the numbers that the finished step read.
  template <class Code>
  auto report(std::int64_t step, const Code& code) {
    detail::step_recording reading = rehearsal();
    reading.read = row(step) + sizeof(step_record);
    reading.leaves_out = quiet_.alike >= detail::quiet_parts::needed;
    reading.quiet = reading.leaves_out ? &quiet_ : nullptr;
    return perform(reading, step, code);
  }

 private:
  static constexpr std::int64_t never = INT64_MAX;

  // Steps run_ahead apart share one.
  [[nodiscard]] auto& event_of(std::int64_t step) noexcept {
    return events_[static_cast<std::size_t>(step % run_ahead)];
  }

  [[nodiscard]] std::int64_t sent_bytes() const noexcept { return static_cast<std::int64_t>(sent_.bytes()); }
  [[nodiscard]] std::int64_t read_bytes() const noexcept { return static_cast<std::int64_t>(read_.bytes()); }
  [[nodiscard]] const std::byte* row(std::int64_t step) const noexcept {
    return static_cast<const std::byte*>(records_->data()) +
           static_cast<std::size_t>(step & (rows_ - 1)) * (sizeof(step_record) + read_.bytes());
  }
  [[nodiscard]] bool same_room(const detail::step_recording& r) const noexcept {
    return room(r.sent_bytes) == sent_.bytes() && room(r.read_bytes) == read_.bytes();
  }
  // A recording with the device's places; before they exist, addresses that nobody follows.
  [[nodiscard]] detail::step_recording rehearsal() const noexcept {
    detail::step_recording r;
    const auto place = [](const buffer<D>& b) {
      return b.data() != nullptr ? static_cast<std::byte*>(b.data())
                                 : reinterpret_cast<std::byte*>(alignof(double) * 16);
    };
    r.device_sent = place(sent_);
    r.device_read = place(read_);
    r.device_control = control_.data();
    r.sent_room = sent_.bytes();
    r.read_room = read_.bytes();
    return r;
  }
  template <class Code>
  auto perform(detail::step_recording& recording, std::int64_t step, const Code& code) {
    const detail::recording_scope scope(&recording);
    return code(step);
  }
  // One step's graphs. Where there are several, its host code runs again for what lies between them: every part of it,
  // so that a part that takes memory from a pool finds the pool as it was when the step was captured.
  template <class Code>
  void replay_graphs(const Code& code) {
    std::size_t at = 0;
    if (graphs_.size() > 1) {
      const auto cut = [&](void (*call)(const void*), const void* work) {
        graphs_[at++].replay(dev_);
        const detail::recording_scope plain(nullptr);
        const memory_statistics before = memory_use<D>();
        call(work);
        const memory_statistics after = memory_use<D>();  // its own memory is in no captured call
        memory_.allocations += after.allocations - before.allocations;
        memory_.live_bytes += after.live_bytes - before.live_bytes;
      };
      detail::step_recording between = rehearsal();
      between.cutter = const_cast<void*>(static_cast<const void*>(&cut));
      between.cut = [](void* self, void (*call)(const void*), const void* work) {
        (*static_cast<decltype(&cut)>(self))(call, work);
      };
      static_cast<void>(perform(between, next_, code));
    }
    graphs_[at].replay(dev_);
  }
  [[nodiscard]] static std::size_t room(std::size_t bytes) noexcept { return std::max<std::size_t>(bytes, 128); }
  [[nodiscard]] std::int64_t rows_for(std::size_t sent) const noexcept {
    std::int64_t rows = 512;
    while (rows > fewest_rows && static_cast<std::size_t>(rows) * sent > table_bytes_) rows /= 2;
    return rows;
  }
  void make_room(const detail::step_recording& r) {
    signature_ = r.signature;
    const std::size_t sent = room(r.sent_bytes), read = room(r.read_bytes);
    if (sent_.bytes() == sent && read_.bytes() == read) return;
    rows_ = rows_for(sent);
    sent_ = buffer<D>(dev_, sent);
    read_ = buffer<D>(dev_, read);
    table_ = buffer<D>(dev_, static_cast<std::size_t>(rows_) * sent);
    if (control_.bytes() == 0) control_ = buffer<D>(dev_, sizeof(step_control));
    fill_zero(dev_, read_.data(), read);  // the gaps between the numbers
    mirror_.assign(table_.bytes(), std::byte{0});
    records_.emplace(static_cast<std::size_t>(rows_) * (sizeof(step_record) + read));
  }
  // Rehearses the next step into the table's mirror; false where it does other calls than were captured.
  template <class Code>
  bool fill(const Code& code) {
    if (filled_ >= end_) return false;
    detail::step_recording r = rehearsal();
    r.sent = mirror_.data() + static_cast<std::size_t>(filled_ & (rows_ - 1)) * sent_.bytes();
    r.quiet = &quiet_;
    r.leaves_out = quiet_.alike >= detail::quiet_parts::needed;
    quiet_.now.clear();
    quiet_.loud = false;
    static_cast<void>(perform(r, filled_, code));
    if (!r.leaves_out) quiet_.finish();
    if (r.signature != signature_ || !same_room(r)) {
      end_ = filled_;
      return false;
    }
    ++filled_;
    return true;
  }
  // Copies the rows that were filled to the device, in the order of its work: the steps that used them are launched.
  void send_rows() {
    while (sent_to_ < filled_) {
      const std::int64_t first = sent_to_ & (rows_ - 1), count = std::min(filled_ - sent_to_, rows_ - first);
      const std::size_t at = static_cast<std::size_t>(first) * sent_.bytes();
      copy_from_host(dev_, mirror_.data() + at, static_cast<std::byte*>(table_.data()) + at,
                     static_cast<std::size_t>(count) * sent_.bytes());
      sent_to_ += count;
    }
  }

  D dev_;
  std::size_t table_bytes_;
  std::vector<typename support::graph> graphs_;  // of one step, in order
  buffer<D> table_, sent_, read_, control_;
  std::optional<typename support::host_memory> records_;
  std::vector<std::byte> mirror_;  // of the table
  std::array<typename support::event, run_ahead> events_;
  std::int64_t rows_ = 0;
  std::int64_t next_ = 0, finished_ = 0;   // launched and done
  std::int64_t filled_ = 0, sent_to_ = 0;  // rehearsed, and of these on the device
  std::int64_t end_ = never;
  std::uint64_t signature_ = 0;
  detail::quiet_parts quiet_;
  memory_statistics memory_;
};

}  // namespace boot::inline v0
