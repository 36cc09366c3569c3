// SPDX-License-Identifier: MIT
/// The denoising objective: trains a teacher on data, in the space of its own prediction.
#pragma once

#include <boot/kernel/op/denoising.hpp>
#include <boot/objective/common.hpp>
#include <boot/objective/time_sampling.hpp>
#include <boot/objective/weighting.hpp>

#include <string>
#include <utility>

namespace boot::inline v0 {

/// How rows of the data are drawn. Either way the row is a function of (seed, step, sample number).
enum class data_order {
  epochs,      ///< one random permutation of the rows after another: every row once before any row twice
  independent  ///< each sample draws its row anew
};

/// The space in which the residual is measured.
enum class residual_space {
  prediction,  ///< the network's own output against the exact one
  signal       ///< the clean signal behind it: the residual times b of f = a x + b out
};

/// Options of denoising.
struct denoising_options {
  data_order order = data_order::epochs;              ///< how rows are drawn
  bool stratified = true;                             ///< one time in each of `batch` equal slices of the distribution
  time_options time = {};                             ///< distribution of t
  residual_space space = residual_space::prediction;  ///< where the residual is measured
  weight_function own_weight = {};  ///< the user's own; unset: 1. Its t and s are the time, its step 0
};

/// Row `position` of a random permutation of 0 .. count - 1, a function of (seed, epoch): a six-round Feistel network
/// of Philox words on the next power of four, repeated until it falls below `count` (fewer than four times on average).
[[nodiscard]] inline std::int64_t permuted_row(std::int64_t position, std::int64_t count, std::uint64_t seed,
                                               std::uint64_t epoch) noexcept {
  int half = 1;
  while ((std::int64_t{1} << (2 * half)) < count) ++half;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  const counter_key key{seed, stream::shuffle, epoch};
  auto v = static_cast<std::uint64_t>(position);
  do {
    std::uint64_t left = v >> half, right = v & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t mixed = (left ^ random_bits(key, right, round)) & mask;
      left = right;
      right = mixed;
    }
    v = (left << half) | right;
  } while (v >= static_cast<std::uint64_t>(count));
  return static_cast<std::int64_t>(v);
}

/// What the wanted output of a network is, in clean signal and noise: out = signal x0 + noise eps.
struct exact_output {
  double signal = 0;  ///< factor of x0
  double noise = 0;   ///< factor of eps
};

/// The exact output for x = alpha x0 + sigma eps; finite wherever alpha and sigma are not both 0 (EDM: sigma > 0 unless
/// alpha = 1).
[[nodiscard]] inline exact_output exact_output_of(const prediction& p, double alpha, double sigma) {
  switch (p.kind) {
    case prediction_kind::sample:
      return {1, 0};
    case prediction_kind::epsilon:
      return {0, 1};
    case prediction_kind::v:
      return {-sigma, alpha};
    case prediction_kind::flow:
      return {-1, 1};
    case prediction_kind::edm: {
      // (x0 - c_skip x)/c_out with the division by sigma done by hand: exact at sigma = 0 too.
      const double d = p.sigma_data, root = std::sqrt(sigma * sigma + d * d);
      return {sigma / (d * root) + (alpha == 1 ? 0 : d * (1 - alpha) / (sigma * root)), -d / root};
    }
  }
  fail("boot: unknown prediction kind {}", static_cast<int>(p.kind));
}

/// Data without a condition.
struct no_data_condition {
  /// Nothing.
  template <class D>
  no_condition operator()(const D&, std::uint64_t, std::int64_t, std::span<const std::int64_t>,
                          std::span<const std::int64_t>) const noexcept {
    return {};
  }
  /// Any data will do.
  void check(std::int64_t) const noexcept {}
};

/// One class label per row of the data; a share of the samples gets the null class instead, for guidance.
///
/// A user's own kind of condition is a struct with the same two members; `rows` are the rows drawn for `samples`.
template <Device D = cpu>
class data_labels {
 public:
  /// Throws boot::error for a dropout outside [0, 1].
  explicit data_labels(std::vector<std::int32_t> labels, double dropout = 0.1)
      : labels_(std::move(labels)), dropout_(dropout) {
    require(dropout >= 0 && dropout <= 1,
            "boot: label dropout {}; needs a share of the samples in [0, 1], 0.1 is common", dropout);
  }
  /// Labels of the rows, or null; valid until the next call.
  class_labels<D> operator()(const D& dev, std::uint64_t seed, std::int64_t step, std::span<const std::int64_t> samples,
                             std::span<const std::int64_t> rows) {
    const auto n = static_cast<std::int64_t>(samples.size());
    const counter_key key{seed, stream::condition, static_cast<std::uint64_t>(step)};
    host_.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const bool drop = uniform_double(key, static_cast<std::uint64_t>(samples[i]), 0) < dropout_;
      host_[i] = drop ? -1 : labels_[static_cast<std::size_t>(rows[i])];
    }
    return {{send(dev, std::span<const std::int32_t>(host_), memory_), {n}}, false};
  }
  /// Throws boot::error unless there is one label per row.
  void check(std::int64_t rows) const {
    require(static_cast<std::int64_t>(labels_.size()) == rows,
            "boot: {} labels for {} rows of data; give one label per row, -1 for rows without a class", labels_.size(),
            rows);
  }

 private:
  std::vector<std::int32_t> labels_;
  double dropout_;
  std::vector<std::int32_t> host_;
  tensor<std::int32_t, D> memory_;
};

/// L = E w ||out(alpha_t x0 + sigma_t eps, t) - exact output||^2 over rows x0 of the data, with the mean over elements
/// as the norm. The network gets t_source = t_target = t.
///
/// Holds references: student and data must outlive it. Rows, times, noise and dropped labels are functions of the
/// request.
template <class Student, NoiseSchedule Schedule, class DataCondition = no_data_condition, class Distance = l2_distance>
class denoising {
 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  /// Of a batch.
  using condition_type =
      std::remove_cvref_t<std::invoke_result_t<DataCondition&, const device_type&, std::uint64_t, std::int64_t,
                                               std::span<const std::int64_t>, std::span<const std::int64_t>>>;

  /// `data` is [rows, sample...]. Throws boot::error when it has another shape or no rows, or labels do not fit it.
  denoising(Student& student, Schedule schedule, view<const scalar_type, device_type> data,
            denoising_options options = {}, DataCondition condition = {}, Distance distance = {})
      : student_(&student),
        schedule_(checked_schedule(std::move(schedule))),
        data_(data),
        options_(std::move(options)),
        condition_(std::move(condition)),
        distance_(distance) {
    check_student<Student, device_type, condition_type, scalar_type>();
    const shape one = student.sample_shape();
    require(
        !data.empty() && data.extents() == one.batched(data.batch()),
        "boot: denoising got data of shape {} for a network with samples of shape {}; needs [rows, sample...] with at "
        "least one row, reshape the data or build the network for them",
        to_string(data.extents()), to_string(one));
    require(data.batch() < (std::int64_t{1} << 32),
            "boot: denoising got {} rows of data; at most 2^32 - 1 are supported", data.batch());
    condition_.check(data.batch());
  }

  /// Loss of the requested part of a batch; its gradient is added to the student's.
  loss_report operator()(const device_type& dev, const batch_request& request) {
    using T = scalar_type;
    const std::int64_t n = student_->sample_shape().size(), total = request.count;
    const shape all = student_->sample_shape().batched(total);
    if (total == 0) return {};
    fill_rows(request, n);
    const view<T, device_type> eps = eps_.get(dev, all), x0 = x0_.get(dev, all), x = x_.get(dev, all);
    fill_noise(dev, counter_key{request.seed, stream::noise, static_cast<std::uint64_t>(request.step)},
               std::span<const std::int64_t>(samples_), eps);
    gather_rows(dev, data_, send(dev, std::span<const std::int64_t>(data_rows_), chosen_), x0);
    const condition_type condition = condition_(dev, request.seed, request.step, samples_, data_rows_);
    for_each_element<T>(dev, perturb_op<T>{}, ode_rows_.upload(dev), total, n, inputs<T, T>(x0.data(), eps.data()),
                        outputs<T>(x.data()));
    const auto& t = times_.set(dev, *student_, t_);
    auto tape = student_->record(dev, view<const T, device_type>(x), t, t, condition);
    const view<T, device_type> gradient = gradient_.get(dev, all);
    losses_.begin(dev, total, n);
    for_each_element<T>(dev, denoising_op<T, Distance>{distance_}, loss_rows_.upload(dev), total, n,
                        inputs<T, T, T>(tape.output().data(), x0.data(), eps.data()), outputs<T>(gradient.data()),
                        losses_.at(0), losses_.scratch());
    tape.backward(dev, gradient);
    loss_report report;
    report.part[0] = {"denoising", losses_.sum(dev, 0, total)};
    report.total = report.part[0].second;
    return report;
  }

  /// What is trained.
  [[nodiscard]] Student& student() const noexcept { return *student_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const denoising_options& options() const noexcept { return options_; }
  /// The options in words: a checkpoint of a run with others is refused. User functions show only as being there.
  [[nodiscard]] std::string fingerprint() const {
    const auto& o = options_;
    return fmt::format("denoising rows {} order {} stratified {} time {} space {} weight {}", data_.batch(),
                       static_cast<int>(o.order), o.stratified, to_string(o.time), static_cast<int>(o.space),
                       o.own_weight ? "own" : "1");
  }
  /// Calls of one step.
  [[nodiscard]] objective_cost describe(std::int64_t batch) const { return {0, 0, static_cast<double>(batch)}; }

  /// The row of the data that a sample of a step is made from.
  [[nodiscard]] std::int64_t data_row(const batch_request& r, std::int64_t sample) const noexcept {
    const std::int64_t rows = data_.batch();
    if (options_.order == data_order::independent)
      return uniform_index(static_cast<std::uint32_t>(rows),
                           counter_key{r.seed, stream::shuffle, static_cast<std::uint64_t>(r.step)},
                           static_cast<std::uint64_t>(sample), 0);
    const std::int64_t drawn = r.step * r.batch() + sample;
    return permuted_row(drawn % rows, rows, r.seed, static_cast<std::uint64_t>(drawn / rows));
  }

 private:
  static std::size_t index(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
  void fill_rows(const batch_request& r, std::int64_t n) {
    using T = scalar_type;
    const double t_max = schedule_.t_max(), t_min = schedule_.t_min(), batch = static_cast<double>(r.batch());
    const counter_key key{r.seed, stream::time, static_cast<std::uint64_t>(r.step)};
    const prediction kind = student_->prediction();
    samples_.resize(index(r.count));
    data_rows_.resize(index(r.count));
    t_.resize(index(r.count));
    auto& ode = ode_rows_.host(r.count);
    auto& rows = loss_rows_.host(r.count);
    for (std::int64_t i = 0; i < r.count; ++i) {
      const auto k = index(i);
      const std::int64_t sample = r.first + i;
      samples_[k] = sample;
      data_rows_[k] = data_row(r, sample);
      double u = uniform_double(key, static_cast<std::uint64_t>(sample), 0);
      // The last slice's upper end may round to 1, which is no position of an open distribution.
      if (options_.stratified) u = std::min((static_cast<double>(sample % r.batch()) + u) / batch, 1 - 0x1p-53);
      const double t = t_min + time_position(options_.time, u, r.progress) * (t_max - t_min);
      t_[k] = t;
      const double alpha = schedule_.alpha(t), sigma = schedule_.sigma(t);
      const exact_output wanted = exact_output_of(kind, alpha, sigma);
      const double scale =
          options_.space == residual_space::prediction ? 1 : clean_signal_coefficients(kind, alpha, sigma).b;
      const double weight =
          options_.own_weight ? bootstrap_weight(weighting::exact, options_.own_weight, schedule_, t, t, 0, r.progress)
                              : 1;
      const double share = 1 / (static_cast<double>(n) * batch);
      rows[k] = {static_cast<T>(scale),
                 static_cast<T>(scale * wanted.signal),
                 static_cast<T>(scale * wanted.noise),
                 static_cast<T>(weight),
                 static_cast<T>(share),
                 static_cast<T>(share * scale)};
      ode[k] = {static_cast<T>(alpha), static_cast<T>(sigma)};
    }
  }

  Student* student_;
  Schedule schedule_;
  view<const scalar_type, device_type> data_;
  denoising_options options_;
  DataCondition condition_;
  Distance distance_;
  std::vector<std::int64_t> samples_, data_rows_;
  tensor<std::int64_t, device_type> chosen_;
  std::vector<double> t_;
  row_table<ode_row<scalar_type>, device_type> ode_rows_;
  row_table<denoising_row<scalar_type>, device_type> loss_rows_;
  workspace<scalar_type, device_type> eps_, x0_, x_, gradient_;
  sample_losses<scalar_type, device_type> losses_;
  times_buffer<device_type, scalar_type> times_;
};

/// Without conditions, with the squared distance.
template <class Student, class Schedule, class Data>
denoising(Student&, Schedule, const Data&, denoising_options = {}) -> denoising<Student, Schedule>;
/// With conditions, with the squared distance.
template <class Student, class Schedule, class Data, class DataCondition>
denoising(Student&, Schedule, const Data&, denoising_options, DataCondition)
    -> denoising<Student, Schedule, DataCondition>;
/// With conditions and a distance.
template <class Student, class Schedule, class Data, class DataCondition, class Distance>
denoising(Student&, Schedule, const Data&, denoising_options, DataCondition, Distance)
    -> denoising<Student, Schedule, DataCondition, Distance>;

}  // namespace boot::inline v0
