// SPDX-License-Identifier: MIT
/// Condition sources: drawn labels, drawn labels with guidance scales, and fixed tables of either.
#pragma once

#include <boot/core/random.hpp>
#include <boot/nn/condition.hpp>
#include <boot/objective/objective.hpp>
#include <boot/tensor/workspace.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace boot::inline v0 {

namespace detail {

// Host numbers and their copy on a device; grows to the largest batch seen. A copied source starts with its own.
template <class T, class D>
class source_storage {
 public:
  source_storage() = default;
  source_storage(const source_storage&) {}
  source_storage& operator=(const source_storage&) { return *this; }
  source_storage(source_storage&&) noexcept = default;
  source_storage& operator=(source_storage&&) noexcept = default;

  template <class F>
  view<const T, D> fill(const D& dev, std::span<const std::int64_t> samples, const F& value) {
    const auto n = static_cast<std::int64_t>(samples.size());
    host_.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) host_[i] = static_cast<T>(value(samples[i]));
    return {send(dev, std::span<const T>(host_), memory_), {n}};
  }
  [[nodiscard]] std::span<const T> host() const noexcept { return host_; }

 private:
  std::vector<T> host_;
  tensor<T, D> memory_;
};

inline void require_source_samples(std::span<const std::int64_t> samples) {
  for (const std::int64_t i : samples)
    require(i >= 0, "boot: a condition source was asked for sample {}; samples are numbered from 0", i);
}

inline std::int32_t drawn_label(std::uint64_t seed, std::int64_t step, std::int64_t sample, std::int32_t classes) {
  return static_cast<std::int32_t>(uniform_index(static_cast<std::uint32_t>(classes),
                                                 {seed, stream::condition, static_cast<std::uint64_t>(step)},
                                                 static_cast<std::uint64_t>(sample), 0));
}

}  // namespace detail

/// Uniform class labels 0 .. classes - 1: a function of seed, step and sample number. Models: ConditionSource.
template <Device D = cpu>
class label_source {
 public:
  /// Throws boot::error for fewer than one class.
  explicit label_source(std::int32_t classes) : classes_(classes) {
    require(classes >= 1,
            "boot: a label_source for {} classes; it needs at least 1, give the number of classes the teacher knows",
            classes);
  }
  /// One label per entry of `samples`; valid until the next call.
  class_labels<D> operator()(const D& dev, std::uint64_t seed, std::int64_t step,
                             std::span<const std::int64_t> samples) {
    detail::require_source_samples(samples);
    return {ids_.fill(dev, samples, [&](std::int64_t i) { return detail::drawn_label(seed, step, i, classes_); })};
  }
  /// Number of classes.
  [[nodiscard]] std::int32_t classes() const noexcept { return classes_; }

 private:
  std::int32_t classes_;
  detail::source_storage<std::int32_t, D> ids_;
};
/// Labels on the host.
label_source(std::int32_t)->label_source<cpu>;

/// The labels of label_source and a guidance scale w, uniform on (w_min, w_max), for students that take it as an input
/// and for guided teachers without a scale of their own. Models: ConditionSource.
template <Device D = cpu, ComputeScalar T = float>
class guided_label_source {
 public:
  using condition_type = conditions<class_labels<D>, guidance_scale<D, T>>;  ///< what it gives

  /// Throws boot::error for fewer than one class or an empty range of scales. w_min = w_max gives that scale always.
  guided_label_source(std::int32_t classes, double w_min, double w_max)
      : classes_(classes), w_min_(w_min), w_max_(w_max) {
    require(
        classes >= 1,
        "boot: a guided_label_source for {} classes; it needs at least 1, give the number of classes the teacher knows",
        classes);
    require(std::isfinite(w_min) && std::isfinite(w_max) && w_min <= w_max,
            "boot: a guided_label_source with scales from {} to {}; it needs finite w_min <= w_max, 1 to 4 say", w_min,
            w_max);
  }
  /// One label and one scale per entry of `samples`; valid until the next call.
  condition_type operator()(const D& dev, std::uint64_t seed, std::int64_t step,
                            std::span<const std::int64_t> samples) {
    detail::require_source_samples(samples);
    const counter_key key{seed, stream::condition, static_cast<std::uint64_t>(step)};
    const class_labels<D> labels{
        ids_.fill(dev, samples, [&](std::int64_t i) { return detail::drawn_label(seed, step, i, classes_); })};
    const view<const T, D> scale = scales_.fill(dev, samples, [&](std::int64_t i) {
      return w_min_ + (w_max_ - w_min_) * static_cast<double>(uniform(key, static_cast<std::uint64_t>(i), 4));
    });
    return condition_type(labels, guidance_scale<D, T>{scale, scales_.host()});
  }
  /// Number of classes.
  [[nodiscard]] std::int32_t classes() const noexcept { return classes_; }

 private:
  std::int32_t classes_;
  double w_min_, w_max_;
  detail::source_storage<std::int32_t, D> ids_;
  detail::source_storage<T, D> scales_;
};
/// Labels and scales on the host.
guided_label_source(std::int32_t, double, double)->guided_label_source<cpu, float>;

/// A fixed table of labels: sample i has labels[i modulo its length], at every step. Models: ConditionSource.
template <Device D = cpu>
class label_table {
 public:
  /// Throws boot::error for an empty table. A negative label is the null class.
  explicit label_table(std::vector<std::int32_t> labels) : labels_(std::move(labels)) {
    require(!labels_.empty(), "boot: an empty label_table; give at least one label");
  }
  /// One label per entry of `samples`; valid until the next call.
  class_labels<D> operator()(const D& dev, std::uint64_t, std::int64_t, std::span<const std::int64_t> samples) {
    detail::require_source_samples(samples);
    return {
        ids_.fill(dev, samples, [&](std::int64_t i) { return labels_[static_cast<std::size_t>(i) % labels_.size()]; })};
  }

 private:
  std::vector<std::int32_t> labels_;
  detail::source_storage<std::int32_t, D> ids_;
};
/// A table on the host.
label_table(std::vector<std::int32_t>)->label_table<cpu>;

/// A fixed table of labels with guidance scales: sample i has entry i modulo its length. Models: ConditionSource.
template <Device D = cpu, ComputeScalar T = float>
class guided_label_table {
 public:
  using condition_type = conditions<class_labels<D>, guidance_scale<D, T>>;  ///< what it gives

  /// Throws boot::error for empty tables or ones of unequal length.
  guided_label_table(std::vector<std::int32_t> labels, std::vector<double> scales)
      : labels_(std::move(labels)), scales_(std::move(scales)) {
    require(!labels_.empty() && labels_.size() == scales_.size(),
            "boot: a guided_label_table with {} labels and {} scales; it needs as many of either, at least one",
            labels_.size(), scales_.size());
  }
  /// One label and one scale per entry of `samples`; valid until the next call.
  condition_type operator()(const D& dev, std::uint64_t, std::int64_t, std::span<const std::int64_t> samples) {
    detail::require_source_samples(samples);
    const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(i) % labels_.size(); };
    const class_labels<D> labels{ids_.fill(dev, samples, [&](std::int64_t i) { return labels_[at(i)]; })};
    const view<const T, D> scale = w_.fill(dev, samples, [&](std::int64_t i) { return scales_[at(i)]; });
    return condition_type(labels, guidance_scale<D, T>{scale, w_.host()});
  }

 private:
  std::vector<std::int32_t> labels_;
  std::vector<double> scales_;
  detail::source_storage<std::int32_t, D> ids_;
  detail::source_storage<T, D> w_;
};
/// A table on the host.
guided_label_table(std::vector<std::int32_t>, std::vector<double>)->guided_label_table<cpu, float>;

static_assert(ConditionSource<label_source<cpu>, cpu> && ConditionSource<guided_label_source<cpu, float>, cpu>);
static_assert(ConditionSource<label_table<cpu>, cpu> && ConditionSource<guided_label_table<cpu, float>, cpu>);

}  // namespace boot::inline v0
