// SPDX-License-Identifier: MIT
/// What every replay of a captured step does besides the step: fetches its row of the table, keeps what was read, counts.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/kernel/team/group.hpp>
#include <boot/kernel/team/team_device.hpp>

#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

/// The numbers by which replays know where they are, in device memory.
struct step_control {
  std::int64_t step = 0;       ///< the step that the next replay does
  std::int64_t bad_step = -1;  ///< a step that read a number which is not finite; no replay updates anything until the
                               ///< host has seen it
  std::int32_t bad = 0;        ///< the step being done has read such a number
};

/// What a replay leaves for the host in front of the numbers it read.
struct step_record {
  std::int64_t step;      ///< which
  std::int64_t bad_step;  ///< of the control
};

namespace detail {

/// to = row step % rows of the table. `bytes` is a multiple of 16. Grid: blocks x 1.
struct fetch_row_body {
  const step_control* control;
  const std::byte* table;
  std::int64_t rows_mask;  // rows - 1, rows a power of two
  std::int64_t bytes;
  std::byte* to;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const auto* const from = reinterpret_cast<const group_words*>(table + (control->step & rows_mask) * bytes);
    auto* const out = reinterpret_cast<group_words*>(to);
    const std::int64_t step = team.blocks() * Team::size;
    BOOT_NO_UNROLL
    for (std::int64_t i = team.block() * Team::size + team.rank(); i < bytes / 16; i += step) out[i] = from[i];
  }
};

/// to = from, and control->bad where a number is not finite. Grid: one block.
template <class T>
struct read_numbers_body {
  const T* from;
  std::int64_t n;
  T* to;
  step_control* control;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    float bad = 0;
    for (std::int64_t i = team.rank(); i < n; i += Team::size) {
      const T v = from[i];
      to[i] = v;
      if (!math::is_finite(v)) bad = 1;
    }
    bad = team_sum(team, bad);
    if (team.rank() == 0 && bad > 0) control->bad = 1;
  }
};

/// Keeps what the step read in its row of the records and moves the control on. `bytes` is a multiple of 16. Grid: one
/// block.
struct finish_step_body {
  step_control* control;
  const std::byte* read;
  std::int64_t bytes;
  std::byte* records;  // rows of a step_record and `bytes` bytes, in memory that the host sees
  std::int64_t rows_mask;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    step_control c = *control;
    if (c.bad != 0 && c.bad_step < 0) c.bad_step = c.step;
    std::byte* const row = records + (c.step & rows_mask) * (static_cast<std::int64_t>(sizeof(step_record)) + bytes);
    const auto* const from = reinterpret_cast<const group_words*>(read);
    auto* const out = reinterpret_cast<group_words*>(row + sizeof(step_record));
    for (std::int64_t i = team.rank(); i < bytes / 16; i += Team::size) out[i] = from[i];
    team.sync();  // everybody has read the control
    if (team.rank() != 0) return;
    *reinterpret_cast<step_record*>(row) = {c.step, c.bad_step};
    c.bad = 0;
    ++c.step;
    *control = c;
  }
};
static_assert(sizeof(step_record) == 16);

}  // namespace detail

/// Begins a captured step: copies its row, `control->step` modulo `rows` (a power of two), of a table with `bytes` bytes
/// (a multiple of 16) per row to `sent`.
template <TeamDevice D>
void fetch_row(const D& dev, const step_control* control, const std::byte* table, std::int64_t rows, std::int64_t bytes,
               std::byte* sent) {
  launch(dev, detail::fetch_row_body{control, table, rows - 1, bytes, sent}, blocks_for(bytes, 8192, 64), 1);
}
/// Ends a captured step: keeps the `bytes` bytes (a multiple of 16) that it read in its row of `records`, a ring of `rows`
/// (a power of two) rows of a step_record and these bytes in memory that the host sees, and counts the step.
template <TeamDevice D>
void finish_step(const D& dev, step_control* control, const std::byte* read, std::int64_t bytes, std::byte* records,
                 std::int64_t rows) {
  launch(dev, detail::finish_step_body{control, read, bytes, records, rows - 1}, 1, 1);
}

/// Reads `n` numbers of the device that decide whether a step counts; waits for the device. In a captured step they are
/// kept for the host to read later, and one that is not finite makes the step a bad one: it updates nothing.
template <TeamDevice D, ComputeScalar T>
void read_numbers(const D& dev, const T* from, T* to, std::int64_t n) {
  const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
  detail::step_recording* const r = detail::current_recording;
  if (r == nullptr) return copy_to_host(dev, from, to, bytes);
  auto* const place = reinterpret_cast<T*>(r->receive(to, bytes));
  launch(dev, detail::read_numbers_body<T>{from, n, place, static_cast<step_control*>(r->device_control)}, 1, 1);
}

}  // namespace boot::inline v0
