// SPDX-License-Identifier: MIT
/// The fixed-point objective: the continuous form of the Signal-ODE, its time derivative taken from the noise side.
#pragma once

#include <boot/kernel/op/fixed_point.hpp>
#include <boot/objective/common.hpp>
#include <boot/objective/time_sampling.hpp>
#include <boot/objective/weighting.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace boot::inline v0 {

/// Options of fixed_point.
struct fixed_point_options {
  double delta = 0.04;  ///< width h of the difference quotient as a share of the schedule's range
  std::optional<double> boundary_weight = {};  ///< beta; unset: 0.5 where lambda' stays small at t_max, else 0
  double boundary_fraction = 0.25;  ///< share of the batch that carries the boundary loss instead; 1: all of it
  weight_function own_weight = {};  ///< the user's own; unset: 1. Its t and s are the trained time, its step 0
  time_options time = {};           ///< distribution of t
  clean_signal_limits limits = {};  ///< clip of the teacher's clean signal
};

/// L = E w ||y(eps, t) - SG[f(x^_t, t) + (1/lambda'_t) (y(eps, t + h) - y(eps, t))/h]||^2 + beta L_boundary with
/// x^_t = alpha_t SG[y(eps, t)] + sigma_t eps, L_boundary as in bootstrap, and the mean over elements as the norm.
///
/// The quotient looks to the noise side (upwind), where the solution is already known: central differences leave the
/// time embedding's high frequencies undamped and diverge. t + h is clipped at t_max, and t stays h/64 below it so that
/// the quotient keeps its digits. Where lambda' grows without bound (cosine, flow) the boundary is contained in the
/// limit t -> t_max and the boundary term is off by default; elsewhere (linear, EDM) it is on.
/// Wants a target-time embedding of low frequency, 8 to 32 radians over the range: see docs/training_a_student.md.
///
/// Holds references: teacher and student must outlive it. Noise, times and conditions are functions of the request.
template <class Teacher, class Student, NoiseSchedule Schedule, class Source = no_condition_source,
          class Distance = l2_distance>
class fixed_point {
 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  using condition_type = condition_of<Source, device_type>;            ///< of a batch

  /// Throws boot::error for options that make no sense, and for an epsilon student where alpha(t_max) = 0.
  fixed_point(const Teacher& teacher, Student& student, Schedule schedule, fixed_point_options options = {},
              Source source = {}, Distance distance = {})
      : teacher_(&teacher),
        student_(&student),
        schedule_(checked_schedule(std::move(schedule))),
        options_(std::move(options)),
        source_(std::move(source)),
        distance_(distance),
        call_student_(student, schedule_) {
    check_teacher<Teacher, device_type, condition_type, scalar_type>();
    check_student<Student, device_type, condition_type, scalar_type>();
    const auto& o = options_;
    require(o.delta > 0 && o.delta < 1,
            "boot: fixed_point delta = {}; needs a share of the time range in (0, 1), 0.04 is a good start", o.delta);
    // 1/lambda' in units of the range: 0 for cosine and flow, about .1 for linear and .2 for EDM.
    const double range = schedule_.t_max() - schedule_.t_min();
    const bool contained = inverse_dlambda(schedule_, schedule_.t_max()) < 0.01 * range;
    boundary_weight_ = o.boundary_weight.value_or(contained ? 0.0 : 0.5);
    boundary_ = boundary_samples("fixed_point", boundary_weight_, o.boundary_fraction);
    check_pair(teacher, student, o.limits);
  }
  fixed_point(Teacher&&, Student&, Schedule, fixed_point_options = {}, Source = {}, Distance = {}) = delete;

  /// Loss of the requested part of a batch; its gradient is added to the student's.
  loss_report operator()(const device_type& dev, const batch_request& request) {
    using T = scalar_type;
    inner_ = boundary_.lay_out(request, samples_);
    const std::int64_t n = student_->sample_shape().size(), total = request.count;
    const std::int64_t inner = inner_, boundary = total - inner;
    const shape all = student_->sample_shape().batched(total);
    if (total == 0) return {};

    const view<T, device_type> eps = eps_.get(dev, all);
    fill_noise(dev, counter_key{request.seed, stream::noise, static_cast<std::uint64_t>(request.step)},
               std::span<const std::int64_t>(samples_), eps);
    const condition_type condition = source_(dev, request.seed, request.step, samples_);
    fill_rows(request, condition, n);
    const auto* ode = ode_rows_.upload(dev);
    const auto* rows = loss_rows_.upload(dev);

    const view<const T, device_type> start = call_student_.begin(dev, eps);
    const view<T, device_type> x = x_.get(dev, all), y = y_.get(dev, all);
    const view<T, device_type> y_next = y_next_.get(dev, all), gradient = gradient_.get(dev, all);
    if (inner > 0)
      call_student_.predict(dev, std::span<const double>(next_).first(index(inner)), condition.rows(0, inner),
                            y_next.rows(0, inner));
    // One recorded call serves both as what is trained and as the constant y(eps, t) inside the target.
    auto tape = call_student_.record(dev, t_, condition, y);
    if (inner > 0)
      for_each_element<T>(dev, perturb_op<T>{}, ode, inner, n, inputs<T, T>(y.data(), eps.data()),
                          outputs<T>(x.data()));
    if (boundary > 0) copy(dev, start.rows(inner, boundary), x.rows(inner, boundary));
    call_(dev, *teacher_, x, teacher_times_.set(dev, *teacher_, t_), condition);

    losses_.begin(dev, total, n);
    if (inner > 0)
      for_each_element<T>(
          dev, fixed_point_op<T, Distance>{distance_}, rows, inner, n,
          inputs<T, T, T, T, T>(y.data(), y_next.data(), x.data(), call_.conditional(), call_.unconditional()),
          outputs<T>(gradient.data()), losses_.at(0), losses_.scratch());
    boundary_loss(dev, distance_, rows, inner, y, x, call_, gradient, losses_);
    tape.backward(dev, gradient);

    loss_report report;
    report.part[0] = {"fixed_point", losses_.sum(dev, 0, inner)};
    report.part[1] = {"boundary", losses_.sum(dev, inner, boundary)};
    report.total = report.part[0].second + boundary_weight_ * report.part[1].second;
    return report;
  }

  /// What is trained.
  [[nodiscard]] Student& student() const noexcept { return *student_; }
  /// What teaches.
  [[nodiscard]] const Teacher& teacher() const noexcept { return *teacher_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const fixed_point_options& options() const noexcept { return options_; }
  /// The boundary loss's factor, also where the options left it to the schedule.
  [[nodiscard]] double boundary_weight() const noexcept { return boundary_weight_; }
  /// What to know before training, one sentence each; for the dry run.
  [[nodiscard]] std::vector<std::string> warnings() const {
    return student_warnings(student_->prediction(), schedule_);
  }
  /// The options in words: a checkpoint of a run with others is refused. User functions show only as being there.
  [[nodiscard]] std::string fingerprint() const {
    const auto& o = options_;
    return fmt::format("fixed_point delta {} boundary {} of {} weight {} time {} limits {} {}", o.delta,
                       boundary_weight_, o.boundary_fraction, o.own_weight ? "own" : "1", to_string(o.time),
                       o.limits.low, o.limits.high);
  }
  /// Calls of one step.
  [[nodiscard]] objective_cost describe(std::int64_t batch) const {
    const double b = static_cast<double>(batch), guided = decltype(call_)::guided ? 2 : 1;
    return {guided * b, b * (1 - boundary_.fraction()), b};
  }

 private:
  static std::size_t index(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
  void fill_rows(const batch_request& r, const condition_type& condition, std::int64_t n) {
    using T = scalar_type;
    const double t_max = schedule_.t_max(), t_min = schedule_.t_min(), h = options_.delta * (t_max - t_min);
    const auto count = r.count;
    const double boundary_total = static_cast<double>(boundary_.before(r.batch()));
    const double inner_total = static_cast<double>(r.batch()) - boundary_total;
    const counter_key key{r.seed, stream::time, static_cast<std::uint64_t>(r.step)};
    const prediction teacher_kind = teacher_->prediction();
    t_.resize(index(count));
    next_.resize(index(count));
    auto& ode = ode_rows_.host(count);
    auto& rows = loss_rows_.host(count);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto k = index(i);
      const bool boundary = i >= inner_;
      double t = t_max, next = t_max, factor = 0, weight = 1;
      if (!boundary) {
        const double u = uniform_double(key, static_cast<std::uint64_t>(samples_[k]), 0);
        t = std::min(t_min + time_position(options_.time, u, r.progress) * (t_max - t_min), t_max - h / 64);
        next = std::min(t + h, t_max);
        factor = inverse_dlambda(schedule_, t) / (next - t);
        if (options_.own_weight) {
          // The shipped kinds speak of a step D, which this form does not take: only the user's own weight matters.
          weight = bootstrap_weight(weighting::exact, options_.own_weight, schedule_, t, t, 0, r.progress);
        }
      }
      t_[k] = t;
      next_[k] = next;
      const auto ab = clean_signal_at(teacher_kind, schedule_, t);
      const double w = decltype(call_)::guidance(*teacher_, condition, i);
      const double share = 1 / (static_cast<double>(n) * (boundary ? boundary_total : inner_total));
      rows[k] = {static_cast<T>(ab.a),
                 static_cast<T>(ab.b),
                 static_cast<T>(w),
                 static_cast<T>(factor),
                 0,
                 static_cast<T>(weight),
                 static_cast<T>(share),
                 static_cast<T>(share * call_student_.slope() * (boundary ? boundary_weight_ : 1)),
                 static_cast<T>(options_.limits.low),
                 static_cast<T>(options_.limits.high)};
      ode[k] = {static_cast<T>(schedule_.alpha(t)), static_cast<T>(schedule_.sigma(t))};
    }
  }

  const Teacher* teacher_;
  Student* student_;
  Schedule schedule_;
  fixed_point_options options_;
  Source source_;
  Distance distance_;
  boundary_samples boundary_;
  double boundary_weight_ = 0;
  std::int64_t inner_ = 0;
  std::vector<std::int64_t> samples_;
  std::vector<double> t_, next_;
  row_table<ode_row<scalar_type>, device_type> ode_rows_;
  row_table<bootstrap_row<scalar_type>, device_type> loss_rows_;
  workspace<scalar_type, device_type> eps_, x_, y_, y_next_, gradient_;
  times_buffer<device_type, scalar_type> teacher_times_;
  student_call<Student, scalar_type, device_type> call_student_;
  sample_losses<scalar_type, device_type> losses_;
  teacher_call<Teacher, condition_type, scalar_type, device_type> call_;
};

/// Without conditions, with the squared distance.
template <class Teacher, class Student, class Schedule>
fixed_point(const Teacher&, Student&, Schedule, fixed_point_options = {}) -> fixed_point<Teacher, Student, Schedule>;

}  // namespace boot::inline v0
