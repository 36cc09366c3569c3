// SPDX-License-Identifier: MIT
/// The BOOT objective (Gu et al., arXiv 2306.05544): the student at s is pulled to one teacher step from its own output at t.
#pragma once

#include <boot/objective/common.hpp>
#include <boot/objective/time_sampling.hpp>
#include <boot/objective/weighting.hpp>

#include <string>
#include <type_traits>
#include <utility>

namespace boot::inline v0 {

/// Options of bootstrap.
struct bootstrap_options {
  double delta = 0.04;              ///< t - s as a share of the schedule's range
  double boundary_weight = 0.5;     ///< beta: factor of the boundary loss
  double boundary_fraction = 0.25;  ///< share of the batch that carries the boundary loss instead; 1: all of it
  target_solver target = target_solver::euler;  ///< Euler or Heun
  weighting weight = weighting::upwind;         ///< weight of a pair of times
  weight_function own_weight = {};              ///< the user's own; wins over `weight`
  time_options time = {};                       ///< distribution of t
  clean_signal_limits limits = {};              ///< clip of the teacher's clean signal
};

/// L = E w ||y(eps, s) - SG[y(eps, t) + D (f(x^_t, t) - y(eps, t))]||^2 + beta E ||y(eps, t_max) - f(sigma_T eps, t_max)||^2
/// with x^_t = alpha_t SG[y(eps, t)] + sigma_t eps and the mean over elements as the norm; MATH in docs/method.md.
///
/// Holds references: teacher and student must outlive it. Noise, times and conditions are functions of the request, so
/// a batch may be cut into parts at will. The gradient runs through y(eps, s) and y(eps, t_max) only.
template <class Teacher, class Student, class Schedule, class Source = no_condition_source,
          class Distance = l2_distance>
class bootstrap {
  // In the body, so that a missing piece is said in one sentence before anything that needs it is compiled.
  static_assert((check_schedule<Schedule>(), true));

 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  using condition_type = condition_of<Source, device_type>;            ///< of a batch
  static_assert((check_teacher<Teacher, device_type, condition_type, scalar_type>(), true));
  static_assert((check_student<Student, device_type, condition_type, scalar_type>(), true));

  /// Throws boot::error for options that make no sense, and for an epsilon student where alpha(t_max) = 0.
  bootstrap(const Teacher& teacher, Student& student, Schedule schedule, bootstrap_options options = {},
            Source source = {}, Distance distance = {})
      : teacher_(&teacher),
        student_(&student),
        schedule_(checked_schedule(std::move(schedule))),
        options_(std::move(options)),
        source_(std::move(source)),
        distance_(distance),
        call_student_(student, schedule_) {
    const auto& o = options_;
    require(o.delta > 0 && o.delta < 1,
            "boot: bootstrap delta = {}; needs a share of the time range in (0, 1), 0.04 is a good start", o.delta);
    boundary_ = boundary_samples("bootstrap", o.boundary_weight, o.boundary_fraction);
    check_pair(teacher, student, o.limits);
  }
  bootstrap(Teacher&&, Student&, Schedule, bootstrap_options = {}, Source = {}, Distance = {}) = delete;

  /// Loss of the requested part of a batch; its gradient is added to the student's.
  loss_report operator()(const device_type& dev, const batch_request& request) {
    if (request.count == 0) return {};
    inner_ = boundary_.lay_out(request, samples_);
    const auto eps = eps_.get(dev, student_->sample_shape().batched(request.count));
    fill_noise(dev, counter_key{request.seed, stream::noise, static_cast<std::uint64_t>(request.step)},
               std::span<const std::int64_t>(samples_), eps);
    return (*this)(dev, request, view<const scalar_type, device_type>(eps));
  }
  /// The same for given noise, [count, sample...]: boundary samples behind the others, each kind in order.
  loss_report operator()(const device_type& dev, const batch_request& request,
                         view<const scalar_type, device_type> eps) {
    using T = scalar_type;
    inner_ = boundary_.lay_out(request, samples_);
    const std::int64_t n = student_->sample_shape().size(), total = request.count;
    const std::int64_t inner = inner_, boundary = total - inner;
    const shape all = student_->sample_shape().batched(total);
    require_shape("bootstrap", "noise", eps, all);
    if (total == 0) return {};
    const condition_type condition = source_(dev, request.seed, request.step, samples_);
    fill_rows(request, condition, n);
    const auto* ode = ode_rows_.upload(dev);
    const auto* rows = loss_rows_.upload(dev);

    // The start of every trajectory, x_T = sigma_T eps, is what the student reads and what the boundary compares at.
    const view<const T, device_type> start = call_student_.begin(dev, eps);
    const view<T, device_type> x = x_.get(dev, all), y_t = y_t_.get(dev, all);
    if (boundary > 0) copy(dev, start.rows(inner, boundary), x.rows(inner, boundary));
    if (inner > 0) {
      call_student_.predict(dev, std::span<const double>(t_).first(index(inner)), condition.rows(0, inner),
                            y_t.rows(0, inner));
      for_each_element<T>(dev, perturb_op<T>{}, ode, inner, n, inputs<T, T>(y_t.data(), eps.data()),
                          outputs<T>(x.data()));
    }
    call_(dev, *teacher_, x, teacher_times_.set(dev, *teacher_, t_), condition);

    view<T, device_type> f1, x2;
    if (options_.target == target_solver::heun && inner > 0) {
      const shape part = student_->sample_shape().batched(inner);
      f1 = f_.get(dev, part);
      x2 = x2_.get(dev, part);
      for_each_element<T>(dev, clean_signal_op<T>{}, clean_rows_.upload(dev), inner, n,
                          inputs<T, T, T>(x.data(), call_.conditional(), call_.unconditional()), outputs<T>(f1.data()));
      const view<T, device_type> euler = euler_.get(dev, part);
      for_each_element<T>(dev, signal_euler_op<T>{}, second_rows_.upload(dev), inner, n,
                          inputs<T, T, T>(y_t.data(), f1.data(), eps.data()), outputs<T, T>(euler.data(), x2.data()));
      second_call_(dev, *teacher_, x2,
                   second_times_.set(dev, *teacher_, std::span<const double>(s_).first(index(inner))),
                   condition.rows(0, inner));
    }

    const view<T, device_type> y_s = y_s_.get(dev, all), gradient = gradient_.get(dev, all);
    auto tape = call_student_.record(dev, s_, condition, y_s);
    losses_.begin(dev, total, n);
    if (inner > 0) {
      if (options_.target == target_solver::heun) {
        for_each_element<T>(dev, bootstrap_heun_op<T, Distance>{distance_}, rows, inner, n,
                            inputs<T, T, T, T, T, T>(y_s.data(), y_t.data(), f1.data(), x2.data(),
                                                     second_call_.conditional(), second_call_.unconditional()),
                            outputs<T>(gradient.data()), losses_.at(0), losses_.scratch());
      } else {
        for_each_element<T>(
            dev, bootstrap_euler_op<T, Distance>{distance_}, rows, inner, n,
            inputs<T, T, T, T, T>(y_s.data(), y_t.data(), x.data(), call_.conditional(), call_.unconditional()),
            outputs<T>(gradient.data()), losses_.at(0), losses_.scratch());
      }
    }
    boundary_loss(dev, distance_, rows, inner, y_s, x, call_, gradient, losses_);
    tape.backward(dev, gradient);

    loss_report report;
    report.part[0] = {"bootstrap", losses_.sum(dev, 0, inner)};
    report.part[1] = {"boundary", losses_.sum(dev, inner, boundary)};
    report.total = report.part[0].second + options_.boundary_weight * report.part[1].second;
    return report;
  }

  /// What is trained.
  [[nodiscard]] Student& student() const noexcept { return *student_; }
  /// What teaches.
  [[nodiscard]] const Teacher& teacher() const noexcept { return *teacher_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const bootstrap_options& options() const noexcept { return options_; }
  /// What to know before training, one sentence each; for the dry run.
  [[nodiscard]] std::vector<std::string> warnings() const {
    return student_warnings(student_->prediction(), schedule_);
  }
  /// The options in words: a checkpoint of a run with others is refused. User functions show only as being there.
  [[nodiscard]] std::string fingerprint() const {
    const auto& o = options_;
    return fmt::format("bootstrap delta {} boundary {} of {} target {} weight {} time {} limits {} {}", o.delta,
                       o.boundary_weight, o.boundary_fraction, static_cast<int>(o.target),
                       o.own_weight ? -1 : static_cast<int>(o.weight), to_string(o.time), o.limits.low, o.limits.high);
  }
  /// Calls of one step.
  [[nodiscard]] objective_cost describe(std::int64_t batch) const {
    const double b = static_cast<double>(batch), inner = b * (1 - boundary_.fraction());
    const double guided = decltype(call_)::guided ? 2 : 1;
    return {guided * (b + (options_.target == target_solver::heun ? inner : 0)), inner, b};
  }

 private:
  static std::size_t index(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
  void fill_rows(const batch_request& r, const condition_type& condition, std::int64_t n) {
    using T = scalar_type;
    const double t_max = schedule_.t_max(), t_min = schedule_.t_min(), delta = options_.delta * (t_max - t_min);
    const auto count = r.count;
    const double boundary_total = static_cast<double>(boundary_.before(r.batch()));
    const double inner_total = static_cast<double>(r.batch()) - boundary_total;
    const counter_key key{r.seed, stream::time, static_cast<std::uint64_t>(r.step)};
    const prediction teacher_kind = teacher_->prediction();
    t_.resize(index(count));
    s_.resize(index(count));
    auto& ode = ode_rows_.host(count);
    auto& second = second_rows_.host(count);
    auto& clean = clean_rows_.host(count);
    auto& rows = loss_rows_.host(count);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto k = index(i);
      const bool boundary = i >= inner_;
      const double u = uniform_double(key, static_cast<std::uint64_t>(samples_[k]), 0);
      const time_pair pair = boundary
                                 ? time_pair{t_max, t_max}
                                 : bootstrap_times(time_position(options_.time, u, r.progress), t_min, t_max, delta);
      t_[k] = pair.t;
      s_[k] = pair.s;
      const double step = boundary ? 1 : signal_step(schedule_, pair.t, pair.s);
      const double heun = boundary ? 0 : heun_factor(step);
      const auto ab_t = clean_signal_at(teacher_kind, schedule_, pair.t);
      // A Heun target makes its clean signal at s, an Euler target at t: the loss kernel gets the map of its last call.
      const bool second_order = options_.target == target_solver::heun && !boundary;
      const auto ab = second_order ? clean_signal_at(teacher_kind, schedule_, pair.s) : ab_t;
      const double w = decltype(call_)::guidance(*teacher_, condition, i);
      const auto low = static_cast<T>(options_.limits.low), high = static_cast<T>(options_.limits.high);
      const double share = 1 / (static_cast<double>(n) * (boundary ? boundary_total : inner_total));
      const double weight = boundary ? 1
                                     : bootstrap_weight(options_.weight, options_.own_weight, schedule_, pair.t, pair.s,
                                                        step, r.progress);
      rows[k] = {static_cast<T>(ab.a),
                 static_cast<T>(ab.b),
                 static_cast<T>(w),
                 static_cast<T>(step),
                 static_cast<T>(heun),
                 static_cast<T>(weight),
                 static_cast<T>(share),
                 static_cast<T>(share * call_student_.slope() * (boundary ? options_.boundary_weight : 1)),
                 low,
                 high};
      clean[k] = {static_cast<T>(ab_t.a), static_cast<T>(ab_t.b), static_cast<T>(w), low, high};
      ode[k] = {static_cast<T>(schedule_.alpha(pair.t)), static_cast<T>(schedule_.sigma(pair.t))};
      second[k] = {static_cast<T>(schedule_.alpha(pair.s)), static_cast<T>(schedule_.sigma(pair.s)),
                   static_cast<T>(step), static_cast<T>(heun)};
    }
  }

  const Teacher* teacher_;
  Student* student_;
  Schedule schedule_;
  bootstrap_options options_;
  Source source_;
  Distance distance_;
  boundary_samples boundary_;
  std::int64_t inner_ = 0;
  std::vector<std::int64_t> samples_;
  std::vector<double> t_, s_;
  row_table<ode_row<scalar_type>, device_type> ode_rows_, second_rows_;
  row_table<affine_row<scalar_type>, device_type> clean_rows_;
  row_table<bootstrap_row<scalar_type>, device_type> loss_rows_;
  workspace<scalar_type, device_type> eps_, x_, y_t_, y_s_, gradient_, f_, x2_, euler_;
  times_buffer<device_type, scalar_type> teacher_times_, second_times_;
  student_call<Student, scalar_type, device_type> call_student_;
  sample_losses<scalar_type, device_type> losses_;
  teacher_call<Teacher, condition_type, scalar_type, device_type> call_, second_call_;
};

/// Without conditions, with the squared distance.
template <class Teacher, class Student, class Schedule>
bootstrap(const Teacher&, Student&, Schedule, bootstrap_options = {}) -> bootstrap<Teacher, Student, Schedule>;

}  // namespace boot::inline v0
