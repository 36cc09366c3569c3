// SPDX-License-Identifier: MIT
/// Progressive distillation (Salimans and Ho 2022): phase by phase one student step learns two steps of its teacher.
#pragma once

#include <boot/objective/trajectory.hpp>
#include <boot/objective/weighting.hpp>

#include <optional>
#include <string>
#include <utility>

namespace boot::inline v0 {

/// Weights of the residual in the clean signal.
enum class progressive_weighting {
  truncated_snr,  ///< max(alpha^2/sigma^2, 1)
  snr_plus_one,   ///< 1 + alpha^2/sigma^2: the residual in v where alpha^2 + sigma^2 = 1
  signal          ///< 1
};

/// Options of progressive_distillation.
struct progressive_distillation_options {
  std::int64_t first_steps = 16;    ///< student steps in the first phase, a power of two; its teacher does twice that
  std::int64_t phase_steps = 1000;  ///< training steps of one phase; the last one goes on until the end
  progressive_weighting weight = progressive_weighting::truncated_snr;  ///< of a step from t to s
  weight_function own_weight = {};                                      ///< the user's own; wins over `weight`
  clean_signal_limits limits = {};                                      ///< clip of the first teacher's clean signal
};

/// Phases with first_steps, first_steps / 2, ..., 1 student steps, equal in t. In each, the student's clean signal for
/// a step t -> s is regressed on the one that lands where two steps t -> m -> s of the phase's teacher land. That
/// teacher is the given one in the first phase, then a frozen copy of the student. A step from t_max reads sigma_T eps
/// and gives y_s itself, as with the other objectives, so the last phase's student is a one-step student.
///
/// No data: the points x_t are those the phase's teacher visits from fresh noise. Sample k of a phase (counted through
/// its batches) is step k mod N of trajectory k / N; the steps of a trajectory are targets and way at once, so a batch
/// that is a multiple of N costs two teacher samples per sample.
///
/// Needs `student.clone(dev)`. Its phase and frozen teacher are state: a training loop saves and loads them by
/// visit_state(). Holds references: teacher and student must outlive it. Everything random is a function of the
/// request.
template <class Teacher, class Student, NoiseSchedule Schedule, class Source = no_condition_source,
          class Distance = l2_distance>
class progressive_distillation {
 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  using condition_type = condition_of<Source, device_type>;            ///< of a batch

  /// Throws boot::error for options that make no sense, and for an epsilon student where alpha(t_max) = 0.
  progressive_distillation(const Teacher& teacher, Student& student, Schedule schedule,
                           progressive_distillation_options options = {}, Source source = {}, Distance distance = {})
      : teacher_(&teacher),
        student_(&student),
        schedule_(checked_schedule(std::move(schedule))),
        options_(std::move(options)),
        source_(std::move(source)),
        distance_(distance) {
    check_teacher<Teacher, device_type, condition_type, scalar_type>();
    check_student<Student, device_type, condition_type, scalar_type>();
    static_assert(
        requires(const Student& s, const device_type& dev) {
          { s.clone(dev) } -> std::same_as<Student>;
        },
        "boot: progressive_distillation needs `student.clone(dev)`, const, returning a Student with a copy of the "
        "weights");
    const auto& o = options_;
    require(o.first_steps > 0 && (o.first_steps & (o.first_steps - 1)) == 0,
            "boot: progressive_distillation first_steps = {}; needs a power of two, 16 is a good start", o.first_steps);
    require(o.phase_steps > 0,
            "boot: progressive_distillation phase_steps = {}; needs at least 1 training step a phase", o.phase_steps);
    check_pair(teacher, student, o.limits);
    static_cast<void>(student_signal(student.prediction(), schedule_));
  }
  progressive_distillation(Teacher&&, Student&, Schedule, progressive_distillation_options = {}, Source = {},
                           Distance = {}) = delete;

  /// Number of phases.
  [[nodiscard]] std::int64_t phases() const noexcept {
    std::int64_t p = 1;
    while ((options_.first_steps >> p) > 0) ++p;
    return p;
  }
  /// The phase that a training step belongs to.
  [[nodiscard]] std::int64_t phase_of(std::int64_t step) const noexcept {
    return std::min(step / options_.phase_steps, phases() - 1);
  }
  /// Student steps from noise to signal in a phase.
  [[nodiscard]] std::int64_t steps_of(std::int64_t phase) const noexcept { return options_.first_steps >> phase; }
  /// The phase it is in.
  [[nodiscard]] std::int64_t phase() const noexcept { return phase_; }
  /// From now on a phase ends with these weights (an average's values, say) instead of the student's own: both the next
  /// teacher and the student itself go on from them. The view must stay valid; an empty one undoes it.
  void end_phases_with(view<const scalar_type, device_type> weights) {
    require(weights.empty() || weights.size() == student_->parameters().layout().size(),
            "boot: weights of {} elements for a student with {}; give a flat array of the student's own layout",
            weights.size(), student_->parameters().layout().size());
    end_weights_ = weights;
  }
  /// Enters the phase of a training step if it begins there; called by every step. Throws boot::error when the step
  /// belongs to another phase than the state.
  void begin_step(const device_type& dev, std::int64_t step, std::int64_t = 0) {
    device_ = dev;
    const std::int64_t wanted = phase_of(step);
    if (wanted == phase_) return;
    require(
        wanted == phase_ + 1 && step == wanted * options_.phase_steps,
        "boot: progressive_distillation is in phase {} but step {} is within phase {}; load the state saved with the "
        "checkpoint, or begin at step {}",
        phase_, step, wanted, phase_ * options_.phase_steps);
    if (!end_weights_.empty()) copy(dev, end_weights_, student_->parameters().values());
    copy(dev, view<const scalar_type, device_type>(student_->parameters().values()), frozen(dev));
    phase_ = wanted;
  }
  /// Visits what a checkpoint must hold, to read or to write: v("phase", std::int64_t&) and v("teacher", view<T, D>),
  /// the frozen teacher's flat weights (those of the student as it is while the first phase lasts).
  template <class V>
  void visit_state(V& v) {
    v("phase", phase_);
    v("teacher", frozen(device_));
  }

  /// Loss of the requested part of a batch; its gradient is added to the student's.
  loss_report operator()(const device_type& dev, const batch_request& request) {
    using T = scalar_type;
    if (request.count == 0) return {};
    begin_step(dev, request.step);
    const std::int64_t n = student_->sample_shape().size(), total = request.count;
    const std::int64_t steps = steps_of(phase_), phase_start = phase_ * options_.phase_steps;
    const std::int64_t first = (request.step - phase_start) * request.batch() + request.first;
    const shape all = student_->sample_shape().batched(total);
    const view<T, device_type> x = x_.get(dev, all), target = target_.get(dev, all);
    follow(dev, request.seed, phase_start, first, total, x, target);

    samples_.resize(index(total));
    t_.resize(index(total));
    s_.resize(index(total));
    auto& signal = signal_rows_.host(total);
    auto& rows = loss_rows_.host(total);
    const double share = 1 / (static_cast<double>(n) * static_cast<double>(request.batch()));
    for (std::int64_t i = 0; i < total; ++i) {
      const auto k = index(i);
      const std::int64_t at = (first + i) % steps;
      samples_[k] = (first + i) / steps;
      t_[k] = grid_time(schedule_, at, steps);
      s_[k] = grid_time(schedule_, at + 1, steps);
      const auto ab = clean_signal_at(student_->prediction(), schedule_, t_[k]);
      signal[k] = {static_cast<T>(ab.a), static_cast<T>(ab.b), 0, 0, 0};
      rows[k] = {0,
                 0,
                 0,
                 0,
                 0,
                 static_cast<T>(weight(t_[k], s_[k], request.progress)),
                 static_cast<T>(share),
                 static_cast<T>(share * ab.b),
                 0,
                 0};
    }
    auto tape =
        student_->record(dev, view<const T, device_type>(x), source_times_.set(dev, *student_, t_),
                         target_times_.set(dev, *student_, s_), source_(dev, request.seed, phase_start, samples_));
    const view<T, device_type> y = y_.get(dev, all), gradient = gradient_.get(dev, all);
    for_each_element<T>(dev, affine_op<T>{}, signal_rows_.upload(dev), total, n,
                        inputs<T, T>(x.data(), tape.output().data()), outputs<T>(y.data()));
    losses_.begin(dev, total, n);
    for_each_element<T>(dev, regression_op<T, Distance>{distance_}, loss_rows_.upload(dev), total, n,
                        inputs<T, T>(y.data(), target.data()), outputs<T>(gradient.data()), losses_.at(0),
                        losses_.scratch());
    tape.backward(dev, gradient);
    loss_report report;
    report.part[0] = {"progressive", losses_.sum(dev, 0, total)};
    report.total = report.part[0].second;
    return report;
  }

  /// What is trained.
  [[nodiscard]] Student& student() const noexcept { return *student_; }
  /// What teaches in the first phase.
  [[nodiscard]] const Teacher& teacher() const noexcept { return *teacher_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const progressive_distillation_options& options() const noexcept { return options_; }
  /// What to know before training, one sentence each; for the dry run.
  [[nodiscard]] std::vector<std::string> warnings() const {
    return student_warnings(student_->prediction(), schedule_);
  }
  /// The options in words: a checkpoint of a run with others is refused. User functions show only as being there.
  [[nodiscard]] std::string fingerprint() const {
    const auto& o = options_;
    return fmt::format("progressive_distillation steps {} phase {} weight {} limits {} {}", o.first_steps,
                       o.phase_steps, o.own_weight ? -1 : static_cast<int>(o.weight), o.limits.low, o.limits.high);
  }
  /// Calls of one step in the present phase, for a batch that is a multiple of its steps.
  [[nodiscard]] objective_cost describe(std::int64_t batch) const {
    const double b = static_cast<double>(batch);
    if (phase_ > 0) return {0, 2 * b, b};
    const double starts = b / static_cast<double>(steps_of(0));
    return {b * 2 * (guided ? 2 : 1) + (extra_call() ? starts * (guided ? 2 : 1) : 0), 0, b};
  }

 private:
  using trajectory_type = teacher_trajectory<Teacher, condition_type, scalar_type, device_type>;
  static constexpr bool guided = teacher_call<Teacher, condition_type, scalar_type, device_type>::guided;

  static std::size_t index(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
  [[nodiscard]] bool extra_call() const { return schedule_.alpha(schedule_.t_max()) > 0; }
  view<scalar_type, device_type> frozen(const device_type& dev) {
    if (!frozen_) frozen_.emplace(student_->clone(dev));
    return frozen_->parameters().values();
  }
  [[nodiscard]] double weight(double t, double s, double progress) const {
    if (options_.own_weight)
      return bootstrap_weight(weighting::exact, options_.own_weight, schedule_, t, s, signal_step(schedule_, t, s),
                              progress);
    const double alpha = schedule_.alpha(t), sigma = schedule_.sigma(t), snr = alpha * alpha / (sigma * sigma);
    switch (options_.weight) {
      case progressive_weighting::truncated_snr:
        return std::max(snr, 1.0);
      case progressive_weighting::snr_plus_one:
        return snr + 1;
      case progressive_weighting::signal:
        return 1;
    }
    return 1;
  }

  /// Follows the trajectories of samples [first, first + count) and writes what the student reads and should answer.
  void follow(const device_type& dev, std::uint64_t seed, std::int64_t phase_start, std::int64_t first,
              std::int64_t count, view<scalar_type, device_type> x_rows, view<scalar_type, device_type> target_rows) {
    using T = scalar_type;
    const std::int64_t steps = steps_of(phase_), from = first / steps, last = first + count - 1;
    const std::int64_t many = last / steps - from + 1, n = student_->sample_shape().size();
    const std::int64_t needed = many > 1 ? steps : last % steps + 1;  // a lone trajectory may stop early
    const shape all = student_->sample_shape().batched(many);
    samples_.resize(index(many));
    for (std::int64_t i = 0; i < many; ++i) samples_[index(i)] = from + i;
    const view<T, device_type> x = way_.get(dev, all), middle = middle_.get(dev, all);
    const view<T, device_type> f1 = f1_.get(dev, all), f2 = f2_.get(dev, all);
    fill_noise(dev, counter_key{seed, stream::noise, static_cast<std::uint64_t>(phase_start)},
               std::span<const std::int64_t>(samples_), f1);
    const condition_type condition = source_(dev, seed, phase_start, samples_);
    const double t_max = schedule_.t_max(), alpha_max = schedule_.alpha(t_max), sigma_max = schedule_.sigma(t_max);
    for_each_element<T>(dev, start_op<T>{}, ode_rows_.upload(dev, {0, static_cast<T>(sigma_max)}, many), many, n,
                        inputs<T>(f1.data()), outputs<T>(x.data()));
    for (std::int64_t i = 0; i < needed; ++i) {
      const double t = grid_time(schedule_, 2 * i, 2 * steps), m = grid_time(schedule_, 2 * i + 1, 2 * steps);
      const double s = grid_time(schedule_, 2 * i + 2, 2 * steps);
      double d1 = signal_step(schedule_, t, m);
      const double d2 = signal_step(schedule_, m, s);
      clean(dev, t, m, x, condition, f1);
      if (i == 0) {
        if (phase_ == 0 && extra_call()) {
          // The true start is alpha_T y_T + sigma_T eps with y_T = f(sigma_T eps): one more call, then y_m = y_T + d1
          // (f - y_T).
          for_each_element<T>(dev, affine_op<T>{}, affine(dev, alpha_max, 1, many), many, n,
                              inputs<T, T>(f1.data(), x.data()), outputs<T>(middle.data()));
          clean(dev, t, m, middle, condition, f2);
          for_each_element<T>(dev, affine_op<T>{}, affine(dev, 1 - d1, d1, many), many, n,
                              inputs<T, T>(f1.data(), f2.data()), outputs<T>(f1.data()));
        }
        d1 = 1;  // what is given from sigma_T eps is y at the target time
      }
      move(dev, t, m, d1, x, f1, middle);
      clean(dev, m, s, middle, condition, f2);
      // Where two steps land, as one step's clean signal: a mean of f1 and f2.
      const double d = d1 + d2 - d1 * d2;
      for_each_element<T>(dev, affine_op<T>{}, affine(dev, (1 - d2) * d1 / d, d2 / d, many), many, n,
                          inputs<T, T>(f1.data(), f2.data()), outputs<T>(f1.data()));
      for (std::int64_t k = 0; k < count; ++k) {
        if ((first + k) % steps != i) continue;
        const std::int64_t row = (first + k) / steps - from;
        copy(dev, view<const T, device_type>(x.rows(row, 1)), x_rows.rows(k, 1));
        copy(dev, view<const T, device_type>(f1.rows(row, 1)), target_rows.rows(k, 1));
      }
      move(dev, m, s, d2, middle, f2, x);
    }
  }
  // Clean signal of the phase's teacher for a step from t to s.
  void clean(const device_type& dev, double t, double s, view<const scalar_type, device_type> x,
             const condition_type& condition, view<scalar_type, device_type> f) {
    using T = scalar_type;
    if (phase_ == 0) {
      trajectory_.clean(dev, *teacher_, schedule_, t, options_.limits, x, condition, f);
      return;
    }
    frozen_->predict(dev, x, source_times_.set(dev, *frozen_, t, x.batch()),
                     target_times_.set(dev, *frozen_, s, x.batch()), condition, f);
    const auto ab = clean_signal_at(frozen_->prediction(), schedule_, t);
    for_each_element<T>(dev, affine_op<T>{}, affine(dev, ab.a, ab.b, x.batch()), x.batch(), x.sample_size(),
                        inputs<T, T>(x.data(), f.data()), outputs<T>(f.data()));
  }
  // x_s = (sigma_s/sigma_t) x_t + alpha_s D f.
  void move(const device_type& dev, double t, double s, double step, view<const scalar_type, device_type> x,
            view<const scalar_type, device_type> f, view<scalar_type, device_type> out) {
    using T = scalar_type;
    const ode_row<T> factors{.x_factor = static_cast<T>(schedule_.sigma(s) / schedule_.sigma(t)),
                             .f_factor = static_cast<T>(schedule_.alpha(s) * step)};
    const auto* row = ode_rows_.upload(dev, factors, x.batch());
    for_each_element<T>(dev, ddim_op<T>{}, row, x.batch(), x.sample_size(), inputs<T, T>(x.data(), f.data()),
                        outputs<T>(out.data()));
  }
  const affine_row<scalar_type>* affine(const device_type& dev, double a, double b, std::int64_t count) {
    return affine_rows_.upload(dev, {static_cast<scalar_type>(a), static_cast<scalar_type>(b), 0, 0, 0}, count);
  }

  const Teacher* teacher_;
  Student* student_;
  Schedule schedule_;
  progressive_distillation_options options_;
  Source source_;
  Distance distance_;
  device_type device_{};
  std::int64_t phase_ = 0;
  std::optional<Student> frozen_;
  view<const scalar_type, device_type> end_weights_;
  std::vector<std::int64_t> samples_;
  std::vector<double> t_, s_;
  row_table<ode_row<scalar_type>, device_type> ode_rows_;
  row_table<affine_row<scalar_type>, device_type> affine_rows_, signal_rows_;
  row_table<bootstrap_row<scalar_type>, device_type> loss_rows_;
  workspace<scalar_type, device_type> x_, target_, way_, middle_, f1_, f2_, y_, gradient_;
  sample_losses<scalar_type, device_type> losses_;
  times_buffer<device_type, scalar_type> source_times_, target_times_;
  trajectory_type trajectory_;
};

/// Without conditions, with the squared distance.
template <class Teacher, class Student, class Schedule>
progressive_distillation(const Teacher&, Student&, Schedule, progressive_distillation_options = {})
    -> progressive_distillation<Teacher, Student, Schedule>;

}  // namespace boot::inline v0
