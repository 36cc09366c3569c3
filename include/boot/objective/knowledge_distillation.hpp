// SPDX-License-Identifier: MIT
/// Direct knowledge distillation (Luhman and Luhman 2021): regression on endpoints of the teacher's trajectories.
#pragma once

#include <boot/objective/trajectory.hpp>

#include <optional>
#include <string>
#include <utility>

namespace boot::inline v0 {

/// Options of knowledge_distillation.
struct knowledge_distillation_options {
  std::int64_t steps = 16;                      ///< of the teacher, equal in t
  target_solver target = target_solver::euler;  ///< Euler (DDIM) or Heun
  std::int64_t pool = 0;            ///< > 0: endpoints of that many noises are made once and drawn from; 0: online
  std::int64_t pool_batch = 256;    ///< samples made together for the pool
  clean_signal_limits limits = {};  ///< clip of the teacher's clean signal
};

/// L = E ||y(eps, t_min) - endpoint of the teacher's trajectory from eps||^2, the mean over elements as the norm.
///
/// Online, every step draws fresh noise and costs `steps` teacher calls. With a pool the endpoints are made at the
/// first step (or by prepare()) from the seed alone: a resumed run makes the same ones again.
///
/// Holds references: teacher and student must outlive it. Noise and conditions are functions of the request.
template <class Teacher, class Student, NoiseSchedule Schedule, class Source = no_condition_source,
          class Distance = l2_distance>
class knowledge_distillation {
 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  using condition_type = condition_of<Source, device_type>;            ///< of a batch

  /// Step number under which the pool's noises and conditions are drawn: beyond any step of a run.
  static constexpr std::int64_t pool_step = static_cast<std::int64_t>(max_random_step);

  /// Throws boot::error for options that make no sense, and for an epsilon student where alpha(t_max) = 0.
  knowledge_distillation(const Teacher& teacher, Student& student, Schedule schedule,
                         knowledge_distillation_options options = {}, Source source = {}, Distance distance = {})
      : teacher_(&teacher),
        student_(&student),
        schedule_(checked_schedule(std::move(schedule))),
        options_(options),
        source_(std::move(source)),
        distance_(distance),
        call_student_(student, schedule_) {
    check_teacher<Teacher, device_type, condition_type, scalar_type>();
    check_student<Student, device_type, condition_type, scalar_type>();
    const auto& o = options_;
    require(o.steps > 0, "boot: knowledge_distillation with {} teacher steps; needs at least 1, 16 is a good start",
            o.steps);
    require(
        o.pool >= 0 && o.pool < (std::int64_t{1} << 32) && o.pool_batch > 0,
        "boot: knowledge_distillation with a pool of {} made {} at a time; needs a pool from 0 (online) to 2^32 - 1 "
        "and at least 1 at a time",
        o.pool, o.pool_batch);
    check_pair(teacher, student, o.limits);
  }
  knowledge_distillation(Teacher&&, Student&, Schedule, knowledge_distillation_options = {}, Source = {},
                         Distance = {}) = delete;

  /// Makes the pool of this seed, if there is to be one and it is not there yet; the first step does it otherwise.
  void prepare(const device_type& dev, std::uint64_t seed) {
    using T = scalar_type;
    if (options_.pool == 0 || pool_seed_ == seed) return;
    const shape one = student_->sample_shape();
    if (pool_.size() == 0) pool_ = tensor<T, device_type>(dev, one.batched(options_.pool));
    for (std::int64_t first = 0; first < options_.pool; first += options_.pool_batch) {
      const std::int64_t count = std::min(options_.pool_batch, options_.pool - first);
      samples_.resize(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < samples_.size(); ++i) samples_[i] = first + static_cast<std::int64_t>(i);
      const view<T, device_type> eps = eps_.get(dev, one.batched(count));
      draw_noise(dev, seed, pool_step, eps);
      endpoints(dev, eps, source_(dev, seed, pool_step, samples_), pool_.get().rows(first, count));
    }
    pool_seed_ = seed;
  }

  /// Loss of the requested part of a batch; its gradient is added to the student's.
  loss_report operator()(const device_type& dev, const batch_request& request) {
    using T = scalar_type;
    const std::int64_t n = student_->sample_shape().size(), total = request.count;
    const shape all = student_->sample_shape().batched(total);
    if (total == 0) return {};
    prepare(dev, request.seed);
    const bool stored = options_.pool > 0;
    const counter_key choice{request.seed, stream::shuffle, static_cast<std::uint64_t>(request.step)};
    samples_.resize(static_cast<std::size_t>(total));
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      samples_[i] = request.first + static_cast<std::int64_t>(i);
      if (stored)
        samples_[i] = uniform_index(static_cast<std::uint32_t>(options_.pool), choice,
                                    static_cast<std::uint64_t>(samples_[i]), 0);
    }
    const std::int64_t step = stored ? pool_step : request.step;
    const view<T, device_type> eps = eps_.get(dev, all), target = target_.get(dev, all);
    draw_noise(dev, request.seed, step, eps);
    const condition_type condition = source_(dev, request.seed, step, samples_);
    if (stored) {
      gather_rows(dev, view<const T, device_type>(pool_.get()),
                  send(dev, std::span<const std::int64_t>(samples_), chosen_), target);
    } else {
      endpoints(dev, eps, condition, target);
    }

    call_student_.begin(dev, eps);
    targets_.assign(static_cast<std::size_t>(total), schedule_.t_min());
    const view<T, device_type> y = y_.get(dev, all), gradient = gradient_.get(dev, all);
    auto tape = call_student_.record(dev, targets_, condition, y);
    losses_.begin(dev, total, n);
    const double share = 1 / (static_cast<double>(n) * static_cast<double>(request.batch()));
    const bootstrap_row<T> row{0, 0, 0, 0, 0, 1, static_cast<T>(share), static_cast<T>(share * call_student_.slope()),
                               0, 0};
    for_each_element<T>(dev, regression_op<T, Distance>{distance_}, loss_rows_.upload(dev, row, total), total, n,
                        inputs<T, T>(y.data(), target.data()), outputs<T>(gradient.data()), losses_.at(0),
                        losses_.scratch());
    tape.backward(dev, gradient);
    loss_report report;
    report.part[0] = {"knowledge_distillation", losses_.sum(dev, 0, total)};
    report.total = report.part[0].second;
    return report;
  }

  /// What is trained.
  [[nodiscard]] Student& student() const noexcept { return *student_; }
  /// What teaches.
  [[nodiscard]] const Teacher& teacher() const noexcept { return *teacher_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const knowledge_distillation_options& options() const noexcept { return options_; }
  /// What to know before training, one sentence each; for the dry run.
  [[nodiscard]] std::vector<std::string> warnings() const {
    return student_warnings(student_->prediction(), schedule_);
  }
  /// The options in words: a checkpoint of a run with others is refused. User functions show only as being there.
  [[nodiscard]] std::string fingerprint() const {
    const auto& o = options_;
    return fmt::format("knowledge_distillation steps {} target {} pool {} limits {} {}", o.steps,
                       static_cast<int>(o.target), o.pool, o.limits.low, o.limits.high);
  }
  /// Calls of one step; a pool's are spent before the first.
  [[nodiscard]] objective_cost describe(std::int64_t batch) const {
    const double b = static_cast<double>(batch);
    return {options_.pool > 0 ? 0 : b * trajectory_type::cost(schedule_, options_.steps, options_.target), 0, b};
  }

 private:
  using trajectory_type = teacher_trajectory<Teacher, condition_type, scalar_type, device_type>;

  void draw_noise(const device_type& dev, std::uint64_t seed, std::int64_t step, view<scalar_type, device_type> eps) {
    fill_noise(dev, counter_key{seed, stream::noise, static_cast<std::uint64_t>(step)},
               std::span<const std::int64_t>(samples_), eps);
  }
  void endpoints(const device_type& dev, view<const scalar_type, device_type> eps, const condition_type& condition,
                 view<scalar_type, device_type> y) {
    trajectory_(dev, *teacher_, schedule_, options_.steps, options_.target, options_.limits, eps, condition, y);
  }

  const Teacher* teacher_;
  Student* student_;
  Schedule schedule_;
  knowledge_distillation_options options_;
  Source source_;
  Distance distance_;
  std::optional<std::uint64_t> pool_seed_;
  tensor<scalar_type, device_type> pool_;
  tensor<std::int64_t, device_type> chosen_;
  std::vector<std::int64_t> samples_;
  std::vector<double> targets_;
  row_table<bootstrap_row<scalar_type>, device_type> loss_rows_;
  workspace<scalar_type, device_type> eps_, target_, y_, gradient_;
  student_call<Student, scalar_type, device_type> call_student_;
  sample_losses<scalar_type, device_type> losses_;
  trajectory_type trajectory_;
};

/// Without conditions, with the squared distance.
template <class Teacher, class Student, class Schedule>
knowledge_distillation(const Teacher&, Student&, Schedule, knowledge_distillation_options = {})
    -> knowledge_distillation<Teacher, Student, Schedule>;

}  // namespace boot::inline v0
