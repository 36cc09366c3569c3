// SPDX-License-Identifier: MIT
/// Counts what a piece of code enqueues on the test device: kernels, copies, fills and products.
#pragma once

#include <boot/device/recording.hpp>
#include <boot/testing/team_device.hpp>

#include <cstddef>

namespace boot::inline v0::testing {

/// Device calls of `work()`, which are captured and not run.
template <class Work>
[[nodiscard]] std::size_t team_calls(const Work& work) {
  using capture = capture_support<team_device>;
  detail::step_recording recording;
  recording.captured = true;
  const detail::recording_scope scope(&recording);
  capture::begin(team_device{});
  work();
  const std::size_t n = detail::team_capture->size();
  capture::abandon(team_device{});
  return n;
}

}  // namespace boot::inline v0::testing
