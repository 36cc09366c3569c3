// SPDX-License-Identifier: MIT
/// Choosing the fastest of several ways to do the same device work, by timing them once.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace boot::inline v0::detail {

/// The way with the least seconds; an earlier one where it is less than 3 % slower, so that noise changes no choice. Ways
/// that cannot be used have infinity. `seconds` is not empty.
[[nodiscard]] inline std::size_t fastest_of(const std::vector<double>& seconds) {
  const double least = *std::min_element(seconds.begin(), seconds.end());
  return static_cast<std::size_t>(
      std::find_if(seconds.begin(), seconds.end(), [&](double s) { return s <= 1.03 * least; }) - seconds.begin());
}

/// Times work on a stream.
class cuda_stopwatch {
 public:
  explicit cuda_stopwatch(const cuda& dev) : dev_(dev) {
    for (cudaEvent_t& e : at_) check_cuda(cudaEventCreate(&e), "cudaEventCreate");
  }
  cuda_stopwatch(const cuda_stopwatch&) = delete;
  cuda_stopwatch& operator=(const cuda_stopwatch&) = delete;
  ~cuda_stopwatch() {
    for (cudaEvent_t e : at_)
      if (e != nullptr) static_cast<void>(cudaEventDestroy(e));
  }
  /// Seconds that the device takes for one of `calls` calls of work(); waits for it.
  template <class Work>
  double seconds(int calls, const Work& work) {
    check_cuda(cudaEventRecord(at_[0], dev_.stream), "cudaEventRecord");
    for (int call = 0; call < calls; ++call) work();
    check_cuda(cudaEventRecord(at_[1], dev_.stream), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(at_[1]), "cudaEventSynchronize");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, at_[0], at_[1]), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e-3 / calls;
  }

 private:
  cuda dev_;
  cudaEvent_t at_[2]{};
};

/// The fastest of `count` ways: work(i) enqueues way i, again and again with the same result, and throws boot::error
/// where it cannot. Throws what the first way threw if all do. Not while the stream is captured.
template <class Work>
[[nodiscard]] std::size_t fastest_way(const cuda& dev, std::size_t count, const Work& work) {
  cuda_stopwatch watch(dev);
  std::vector<double> seconds(count, std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < count; ++i) {
    try {
      work(i);  // loads code
      for (int round = 0; round < 3; ++round) seconds[i] = std::min(seconds[i], watch.seconds(5, [&] { work(i); }));
    } catch (const error&) {
      seconds[i] = std::numeric_limits<double>::infinity();
    }
  }
  const std::size_t best = fastest_of(seconds);
  if (seconds[best] == std::numeric_limits<double>::infinity()) work(0);  // says what is wrong
  return best;
}

}  // namespace boot::inline v0::detail
