// SPDX-License-Identifier: MIT
/// What every sampler shares: options, report, noise given or drawn, buffers, and the walk along one chunk's trajectories.
#pragma once

#include <boot/core/random.hpp>
#include <boot/kernel/cpu/quantile.hpp>
#include <boot/kernel/op/prediction.hpp>
#include <boot/kernel/op/signal_ode.hpp>
#include <boot/model/teacher.hpp>
#include <boot/sampler/time_grid.hpp>
#include <boot/tensor/workspace.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Noise that is drawn: sample i of the call gets the noise of sample number first + i.
struct drawn_noise {
  std::uint64_t seed = 0;  ///< of the noise
  std::int64_t first = 0;  ///< number of the first sample
};

/// The noise a sampler starts from: given as [batch, sample...], or drawn.
template <ComputeScalar T, Device D>
class start_noise {
 public:
  /// Given; the caller keeps it alive.
  start_noise(view<const T, D> noise) : given_(noise), drawn_(false) {}  // NOLINT(google-explicit-constructor)
  /// Given; the caller keeps it alive.
  start_noise(view<T, D> noise) : start_noise(view<const T, D>(noise)) {}  // NOLINT(google-explicit-constructor)
  /// Given; the caller keeps it alive.
  start_noise(const tensor<T, D>& noise) : start_noise(noise.get()) {}  // NOLINT(google-explicit-constructor)
  /// Drawn, stream::noise at step 0.
  start_noise(const drawn_noise& from) : from_(from), drawn_(true) {}  // NOLINT(google-explicit-constructor)

  /// Whether it is drawn.
  [[nodiscard]] bool drawn() const noexcept { return drawn_; }
  /// Where it is drawn from.
  [[nodiscard]] const drawn_noise& from() const noexcept { return from_; }
  /// The noise itself, unless drawn.
  [[nodiscard]] const view<const T, D>& given() const noexcept { return given_; }

 private:
  view<const T, D> given_;
  drawn_noise from_;
  bool drawn_;
};

/// Where a trajectory starts.
enum class trajectory_start {
  /// x_T = sigma_T eps goes into the teacher, y_T = f(x_T, t_max), and the trajectory starts at alpha_T y_T + sigma_T eps:
  /// what students learn. Costs one more teacher call, except where alpha_T = 0 and both calls are the same one.
  boundary,
  /// At sigma_T eps itself, as samplers without a student do.
  noise,
  /// At the clean signal y that `out` holds on entry, at the first time of the grid, with x = alpha y + sigma eps: goes on
  /// where another sampler or a student stopped.
  signal
};

/// Options of the teacher's samplers.
struct sampler_options {
  std::int64_t steps = 10;                                ///< N
  time_spacing spacing = time_spacing::time;              ///< of the times
  std::vector<double> times = {};                         ///< own times, decreasing; win over steps and spacing
  double low = -std::numeric_limits<double>::infinity();  ///< smallest clean signal: clip in pixel space, -1 say
  double high = std::numeric_limits<double>::infinity();  ///< largest clean signal
  double threshold = 0;                                   ///< dynamic thresholding: quantile of |f|, .995 say; 0: none
  /// A limited f takes the noise that belongs to it along (what the objectives do, and diffusers'
  /// use_clipped_model_output = true); false: the noise of the f before limiting, diffusers' default. ddim and ddpm only.
  bool recompute_noise = true;
  trajectory_start start = trajectory_start::boundary;  ///< start of the trajectory
  double eta = 0;                                       ///< ddim: share of fresh noise, 0 deterministic, 1 ancestral
  std::int64_t batch = 2048;                            ///< samples worked on together
  drawn_noise renoise = {};                             ///< fresh noise's address where the start noise is given
  bool lower_order_final = true;                        ///< dpm_solver: last step of first order below 15 steps
};

/// What a call cost.
struct sampler_report {
  std::int64_t steps = 0;            ///< of the grid
  std::int64_t teacher_samples = 0;  ///< samples the teacher's network saw; both halves of guidance count
  std::int64_t student_samples = 0;  ///< samples the student's network saw

  /// Sum of two stages or parts.
  sampler_report& operator+=(const sampler_report& other) noexcept {
    steps += other.steps;
    teacher_samples += other.teacher_samples;
    student_samples += other.student_samples;
    return *this;
  }
};

/// Memory of a sampler. Keep one and pass it to calls of the same sizes: they then allocate nothing on the device.
template <ComputeScalar T, Device D>
struct sampler_buffers {
  workspace<T, D> x, eps, fresh, f, raw, other, out_c, out_n, quantile;  ///< [chunk, sample...]
  row_table<ode_row<T>, D> ode;                                          ///< step table
  row_table<affine_row<T>, D> affine;                                    ///< step table
  std::vector<std::int64_t> samples;                                     ///< numbers of the chunk's samples
  times_buffer<D, T> times, target_times;                                ///< of the chunk
};

namespace detail {

inline void check_sampler_options(const char* name, const sampler_options& o) {
  require(o.low < o.high,
          "boot: {} got limits [{}, {}] of the clean signal; it needs low < high, -1 and 1 for pixels say", name, o.low,
          o.high);
  require(o.threshold >= 0 && o.threshold <= 1,
          "boot: {} got threshold = {}; it needs a quantile in (0, 1], 0.995 is usual, or 0 for none", name,
          o.threshold);
  require(o.threshold == 0 || (std::isinf(o.low) && std::isinf(o.high)),
          "boot: {} got both limits [{}, {}] and threshold = {}; use one of them", name, o.low, o.high, o.threshold);
  require(o.batch >= 1, "boot: {} got batch = {}; it needs at least 1 sample at a time, 2048 is the default", name,
          o.batch);
  require(o.eta >= 0 && o.eta <= 1,
          "boot: {} got eta = {}; it needs a number in [0, 1], 0 for DDIM, 1 for ancestral noise", name, o.eta);
  require(o.renoise.first >= 0, "boot: {} got renoise.first = {}; samples are numbered from 0", name, o.renoise.first);
}

// Samplers that have no use for an option refuse it rather than ignore it.
inline void require_deterministic(const char* name, const sampler_options& o) {
  require(o.eta == 0, "boot: {} got eta = {}, but it is deterministic; leave eta at 0 or use ddim_sample", name, o.eta);
  require(o.recompute_noise,
          "boot: {} got recompute_noise = false, which only ddim_sample and ddpm_sample know; leave it true", name);
}

template <class T, class D>
void check_sampler_shapes(const char* name, const shape& sample, const start_noise<T, D>& noise, const view<T, D>& out,
                          const view<T, D>& x_out) {
  const shape needed = sample.batched(out.batch());
  require(out.extents() == needed,
          "boot: {} got out of shape {}; its samples have shape {}, make it [batch, ...] of those", name,
          to_string(out.extents()), to_string(sample));
  if (noise.drawn()) {
    require(noise.from().first >= 0, "boot: {} got drawn noise from sample {}; samples are numbered from 0", name,
            noise.from().first);
  } else {
    require_shape(name, "noise", noise.given(), needed);
    for (const view<T, D>& target : {out, x_out})
      require(target.empty() || noise.given().data() + needed.size() <= target.data() ||
                  target.data() + needed.size() <= noise.given().data(),
              "boot: {} got an output that shares memory with the noise, which every step reads again; give it memory "
              "of its own",
              name);
  }
  if (!x_out.empty()) require_shape(name, "x_out", x_out, needed);
}

// The noise of the call's samples from `first` on, as many as y has: the caller's own, or drawn into the buffers.
template <class T, class D>
view<const T, D> noise_rows(const D& dev, const start_noise<T, D>& noise, std::int64_t first, const view<T, D>& y,
                            sampler_buffers<T, D>& b) {
  if (!noise.drawn()) return noise.given().rows(first, y.batch());
  b.samples.resize(static_cast<std::size_t>(y.batch()));
  std::iota(b.samples.begin(), b.samples.end(), noise.from().first + first);
  const view<T, D> eps = b.eps.get(dev, y.extents());
  fill_noise(dev, counter_key{noise.from().seed, stream::noise, 0}, std::span<const std::int64_t>(b.samples), eps);
  return eps;
}

// Samples a prediction costs the network: guided teachers may say 1 or 2.
template <class Teacher, class C, class T, class D>
std::int64_t calls_of(const Teacher& teacher) {
  if constexpr (requires { teacher.calls_per_prediction(); }) return teacher.calls_per_prediction();
  return GuidedTeacher<Teacher, D, C, T> ? 2 : 1;
}

/// One chunk on its way: y and x of every sample, and the teacher calls that move them. All steps are in signal space:
/// x = alpha y + sigma eps always, so every formula keeps its finite limit where alpha = 0.
template <class Teacher, class Schedule, class C, class T, class D>
class sampler_walk {
 public:
  sampler_walk(const D& dev, const Teacher& teacher, const Schedule& schedule, const sampler_options& options,
               sampler_buffers<T, D>& buffers)
      : dev_(dev), teacher_(teacher), schedule_(schedule), options_(options), b_(buffers), kind_(teacher.prediction()) {
    limited_ = options.threshold > 0 || !std::isinf(options.low) || !std::isinf(options.high);
  }

  /// Takes samples [first, first + y.batch()) of the call; y is where the clean signal will be.
  void begin(const C& condition, const start_noise<T, D>& noise, std::int64_t first, view<T, D> y, view<T, D> x) {
    condition_ = &condition;
    y_ = y;
    count_ = y.batch();
    n_ = y.sample_size();
    x_ = x.empty() ? b_.x.get(dev_, y.extents()) : x;
    fresh_from_ = noise.drawn() ? noise.from() : options_.renoise;
    eps_ = noise_rows(dev_, noise, first, y, b_);
    b_.samples.resize(static_cast<std::size_t>(count_));
    std::iota(b_.samples.begin(), b_.samples.end(), fresh_from_.first + first);
    f_ = b_.f.get(dev_, y.extents());
    other_ = b_.other.get(dev_, y.extents());
    f_known_ = false;
  }
  /// Starts at time t as the options say.
  void start(double t) {
    if (options_.start == trajectory_start::signal) return perturb(t);
    const double alpha = schedule_.alpha(t);
    for_each_element<T>(dev_, start_op<T>{}, ode(t, 0, 0), count_, n_, inputs<T>(eps_.data()), outputs<T>(x_.data()));
    if (options_.start == trajectory_start::noise) return fill_zero(dev_, y_);
    clean(t);
    copy(dev_, view<const T, D>(f_), y_);
    if (alpha == 0) {
      f_known_ = true;  // x stays sigma eps, so the first step would ask the same question again
    } else {
      perturb(t);
    }
  }

  /// f of the current x at time t, limited as the options say.
  void clean(double t) {
    if (std::exchange(f_known_, false)) return;
    const auto& when = b_.times.set(dev_, teacher_, t, count_);
    const view<const T, D> x = x_;
    const view<T, D> out_c = b_.out_c.get(dev_, x.extents());
    view<T, D> out_n = out_c;
    const auto ab = clean_signal_at(kind_, schedule_, t);
    const bool clip_here = options_.threshold == 0;
    const T low = clip_here ? static_cast<T>(options_.low) : -infinity,
            high = clip_here ? static_cast<T>(options_.high) : infinity;
    const affine_row<T> row{static_cast<T>(ab.a), static_cast<T>(ab.b), 0, low, high};
    auto& rows = b_.affine.host(count_);
    std::fill(rows.begin(), rows.end(), row);
    if constexpr (GuidedTeacher<Teacher, D, C, T>) {
      out_n = b_.out_n.get(dev_, x.extents());
      teacher_.predict_pair(dev_, x, when, *condition_, out_c, out_n);
      for (std::int64_t i = 0; i < count_; ++i)
        rows[static_cast<std::size_t>(i)].guidance = static_cast<T>(teacher_.guidance(*condition_, i));
    } else {
      teacher_.predict(dev_, x, when, *condition_, out_c);
    }
    report.teacher_samples += count_ * calls_of<Teacher, C, T, D>(teacher_);
    const auto make = [&](view<T, D> into) {
      for_each_element<T>(dev_, clean_signal_op<T>{}, b_.affine.upload(dev_), count_, n_,
                          inputs<T, T, T>(x.data(), out_c.data(), out_n.data()), outputs<T>(into.data()));
    };
    make(f_);
    if (keeps_raw()) {
      for (auto& r : rows) {
        r.low = -infinity;
        r.high = infinity;
      }
      make(b_.raw.get(dev_, x.extents()));
    }
    if (options_.threshold > 0) threshold();
  }

  /// DDIM's step from t to s with the current f: y_s = y + D (f - y). With eta > 0 the noise of the trajectory is mixed
  /// with fresh noise z, eps <- q eps + p z with q^2 + p^2 = 1, p^2 = eta^2 (1 - (r_s/r_t)^2), and D becomes 1 - (1 - D) q: the
  /// usual update x_s = alpha_s f + sqrt(sigma_s^2 - c^2) eps^ + c z with c = p sigma_s, written in signal space.
  void euler(double t, double s, double eta = 0, std::int64_t index = 0) {
    const double d = signal_step(schedule_, t, s);
    double step = d;
    if (eta > 0) {
      const double p2 = eta * eta * d * (2 - d), q = std::sqrt((std::max)(0.0, 1 - p2));
      step = d + (1 - d) * (p2 / (1 + q));
      mix_noise(q, std::sqrt(p2), index);
    }
    const bool raw = keeps_raw();
    const view<T, D> f = raw ? b_.raw.get(dev_, y_.extents()) : f_;
    for_each_element<T>(dev_, signal_euler_op<T>{}, ode(s, step, 0), count_, n_,
                        inputs<T, T, T>(y_.data(), f.data(), eps_.data()), outputs<T, T>(y_.data(), x_.data()));
    if (raw) add(s, 1, f, f_);
  }
  /// y_s += factor (to - from), and x_s with it.
  void add(double s, double factor, view<T, D> from, view<T, D> to) {
    for_each_element<T>(dev_, signal_heun_op<T>{}, ode(s, 0, factor), count_, n_,
                        inputs<T, T, T, T>(y_.data(), from.data(), to.data(), eps_.data()),
                        outputs<T, T>(y_.data(), x_.data()));
  }
  /// The current f becomes the other one: the next clean() leaves it alone.
  void set_aside() { std::swap(f_, other_); }
  /// The latest f.
  [[nodiscard]] view<T, D> latest() const noexcept { return f_; }
  /// The f set aside.
  [[nodiscard]] view<T, D> aside() const noexcept { return other_; }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }

  sampler_report report;  ///< of all chunks so far

 private:
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  [[nodiscard]] bool keeps_raw() const noexcept { return limited_ && !options_.recompute_noise; }
  const ode_row<T>* ode(double t, double step, double heun) {
    return b_.ode.upload(dev_,
                         {static_cast<T>(schedule_.alpha(t)), static_cast<T>(schedule_.sigma(t)), static_cast<T>(step),
                          static_cast<T>(heun)},
                         count_);
  }
  void perturb(double t) {
    for_each_element<T>(dev_, perturb_op<T>{}, ode(t, 0, 0), count_, n_, inputs<T, T>(y_.data(), eps_.data()),
                        outputs<T>(x_.data()));
  }
  void threshold() {
    const view<T, D> q = b_.quantile.get(dev_, {count_});
    abs_quantile(dev_, options_.threshold, T{1}, view<const T, D>(f_), q.data());
    for_each_element<T>(dev_, threshold_op<T>{}, static_cast<const T*>(q.data()), count_, n_, inputs<T>(f_.data()),
                        outputs<T>(f_.data()));
  }
  void mix_noise(double q, double p, std::int64_t index) {
    const view<T, D> fresh = b_.fresh.get(dev_, y_.extents());
    const view<T, D> eps = b_.eps.get(dev_, y_.extents());
    fill_noise(dev_, counter_key{fresh_from_.seed, stream::renoise, static_cast<std::uint64_t>(index)},
               std::span<const std::int64_t>(b_.samples), fresh);
    for_each_element<T>(dev_, perturb_op<T>{}, b_.ode.upload(dev_, {static_cast<T>(q), static_cast<T>(p)}, count_),
                        count_, n_, inputs<T, T>(eps_.data(), fresh.data()), outputs<T>(eps.data()));
    eps_ = eps;
  }

  const D& dev_;
  const Teacher& teacher_;
  const Schedule& schedule_;
  const sampler_options& options_;
  sampler_buffers<T, D>& b_;
  prediction kind_;
  const C* condition_ = nullptr;
  view<T, D> y_, x_, f_, other_;
  view<const T, D> eps_;
  drawn_noise fresh_from_;
  std::int64_t count_ = 0, n_ = 0;
  bool limited_ = false, f_known_ = false;
};

/// Cuts the call into chunks and calls step(walk, i, t, s, steps) for every step of each.
template <class Teacher, class Schedule, class C, class T, class D, class Step>
sampler_report run_sampler(const char* name, const D& dev, const Teacher& teacher, const Schedule& schedule,
                           const C& condition, const start_noise<T, D>& noise, const sampler_options& options,
                           const std::vector<double>& times, view<T, D> out, view<T, D> x_out,
                           sampler_buffers<T, D>* buffers, const Step& step) {
  check_teacher<Teacher, D, C, T>();
  check_schedule<Schedule>();
  check_sampler_options(name, options);
  check_sampler_shapes(name, teacher.sample_shape(), noise, out, x_out);
  check_time_grid(schedule, times);
  sampler_buffers<T, D> own;
  sampler_walk<Teacher, Schedule, C, T, D> walk(dev, teacher, schedule, options, buffers != nullptr ? *buffers : own);
  const auto steps = static_cast<std::int64_t>(times.size()) - 1;
  for (std::int64_t first = 0; first < out.batch(); first += options.batch) {
    const std::int64_t count = (std::min)(options.batch, out.batch() - first);
    const C part = condition.rows(first, count);
    walk.begin(part, noise, first, out.rows(first, count), x_out.empty() ? x_out : x_out.rows(first, count));
    walk.start(times.front());
    for (std::int64_t i = 0; i < steps; ++i)
      step(walk, i, times[static_cast<std::size_t>(i)], times[static_cast<std::size_t>(i) + 1], steps);
  }
  walk.report.steps = steps;
  return walk.report;
}

/// The grid the options ask for.
template <class Schedule>
std::vector<double> sampler_times(const Schedule& schedule, const sampler_options& o, double from) {
  return o.times.empty() ? make_time_grid(schedule, o.spacing, o.steps, from, schedule.t_min()) : o.times;
}

}  // namespace detail

}  // namespace boot::inline v0
