// SPDX-License-Identifier: MIT
/// The times of one call, one per sample, together with what the model itself made of them.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/tensor/workspace.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace boot::inline v0 {

/// Per-sample times as a model gets them. The model owns the map from the schedule's time to what its network reads
/// and the scaling of its input; both were evaluated on the host in float64, so no user code runs on a device.
template <Device D, ComputeScalar T = float>
struct times {
  view<const double, D> time;  ///< schedule time, [batch]
  view<const T, D> input;      ///< model.time_input(time), [batch]; the time itself if the model has no such member
  view<const T, D> scale;      ///< model.input_scale(time), [batch]; empty if the model has no such member
  bool uniform = false;        ///< all samples have the same time: a network may embed it once

  /// Number of samples.
  [[nodiscard]] std::int64_t batch() const noexcept { return time.batch(); }
  /// Samples [first, first + count).
  [[nodiscard]] times rows(std::int64_t first, std::int64_t count) const {
    return {time.rows(first, count), input.rows(first, count), scale.empty() ? scale : scale.rows(first, count),
            uniform};
  }
};

/// What `model`'s network reads for schedule time t.
template <class M>
[[nodiscard]] double time_input(const M& model, double t) {
  if constexpr (requires { model.time_input(t); }) return static_cast<double>(model.time_input(t));
  return t;
}

/// Storage behind times<D, T>. Keeps its memory: setting as many times again allocates nothing.
template <Device D, ComputeScalar T = float>
class times_buffer {
 public:
  times_buffer() = default;

  /// Evaluates the model's maps at every time and uploads them; the result is valid until the next call.
  template <class M>
  const times<D, T>& set(const D& dev, const M& model, std::span<const double> t) {
    const auto n = static_cast<std::int64_t>(t.size());
    host_.resize(t.size());
    times_.time = {send(dev, t, time_), {n}};
    times_.scale = {};
    times_.uniform = true;
    for (std::size_t i = 0; i < t.size(); ++i) {
      // Curricula and samplers give the same time to many samples: the model's map is not evaluated again for those.
      host_[i] = i > 0 && t[i] == t[i - 1] ? host_[i - 1] : static_cast<T>(time_input(model, t[i]));
      times_.uniform = times_.uniform && t[i] == t[0];
    }
    times_.input = {send(dev, std::span<const T>(host_), input_), {n}};
    if constexpr (requires { model.input_scale(1.0); }) {
      for (std::size_t i = 0; i < t.size(); ++i)
        host_[i] = i > 0 && t[i] == t[i - 1] ? host_[i - 1] : static_cast<T>(model.input_scale(t[i]));
      times_.scale = {send(dev, std::span<const T>(host_), scale_), {n}};
    }
    return times_;
  }
  /// `n` times the same time.
  template <class M>
  const times<D, T>& set(const D& dev, const M& model, double t, std::int64_t n) {
    same_.assign(static_cast<std::size_t>(n), t);
    return set(dev, model, std::span<const double>(same_));
  }
  /// What the last set() gave.
  [[nodiscard]] const times<D, T>& get() const noexcept { return times_; }

 private:
  tensor<double, D> time_;
  tensor<T, D> input_, scale_;
  std::vector<T> host_;
  std::vector<double> same_;
  times<D, T> times_;
};

}  // namespace boot::inline v0
