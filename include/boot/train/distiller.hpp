// SPDX-License-Identifier: MIT
/// The training loop: any objective, AdamW, averages, accumulation, logs, exact resume, and a clean end on signals.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/memory.hpp>
#include <boot/objective/objective.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/optim/learning_rate.hpp>
#include <boot/train/plan.hpp>
#include <boot/train/progress.hpp>
#include <boot/train/signals.hpp>
#include <boot/train/state_list.hpp>
#include <boot/train/step_replay.hpp>
#include <boot/train/training_log.hpp>
#include <boot/train/training_state.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>  // std::function: callbacks
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Options of a distiller.
struct distiller_options {
  std::int64_t steps = 10000;       ///< of the whole run
  std::int64_t batch = 256;         ///< samples per step
  std::uint64_t seed = 0;           ///< of noise, times and conditions
  learning_rate_options rate = {};  ///< its course over the run
  adamw_options optimizer = {};     ///< AdamW, clipping, averages
  std::int64_t accumulation = 1;    ///< parts a batch is cut into, one after the other, to save memory
  std::int64_t max_skips = 10;      ///< steps in a row whose loss or gradient is not finite, before giving up
  std::string folder = {};          ///< gets the logs, made when missing; a fresh run empties those there; "": no logs
  std::int64_t log_every = 50;      ///< steps between two log records
  bool log_csv = false;             ///< log.csv besides log.jsonl
  bool log_tensorboard = false;     ///< a TensorBoard event file besides log.jsonl
  std::int64_t sample_every = 0;    ///< steps between two calls of on_sample()'s functions; 0: none
  progress_mode progress = progress_mode::automatic;  ///< what stderr sees
  std::int64_t report_every = 0;  ///< steps between two plain lines where there is no live line; 0: none
  bool handle_signals = true;     ///< SIGINT and SIGTERM end run() after the step, saved, instead of the program
  bool resume = false;            ///< run() first continues the newest checkpoint, if there is one
  bool capture = true;            ///< devices that can (boot::cuda) do a whole step as one captured graph
};

/// How a run() ended.
struct run_result {
  std::int64_t step = 0;           ///< steps finished since the start of the run
  bool finished = false;           ///< all of them
  bool interrupted = false;        ///< by a signal or request_stop()
  int signal = 0;                  ///< which signal, 0 for none
  bool resumed = false;            ///< the run continues a checkpoint
  std::int64_t skipped_steps = 0;  ///< steps without an update, of the whole run
  loss_report loss = {};           ///< of the last step
  double seconds = 0;              ///< this call took
  std::int64_t live_bytes = 0;     ///< all the library holds on this kind of device at the end
};

/// Trains an objective's student:
///   boot::distiller trainer{dev, loss, {.steps = 3000, .batch = 256}};
///   trainer.run();
/// Holds references: the objective, its student and the store given to use() must outlive it.
///
/// A step clears the gradient, evaluates the objective on each part of the batch, and updates parameters and averages.
/// Everything random is a function of seed, step and sample, so arrays and counters are the whole state: a run resumed
/// from a checkpoint ends with the same bits as one never stopped.
///
/// An objective may also have
///   begin_step(dev, step, steps)   called before each step, and again for the same step after a resume or plan();
///   describe(batch)                see objective_cost;
///   warnings() -> std::vector<std::string>   what to know before training, shown by plan();
///   fingerprint() -> std::string   its options in words; a checkpoint refuses another one;
///   visit_state(v)                 its own state for checkpoints: calls v(name, x) for each part, x being a std::int64_t&,
///                                  double& or view<T, D>; the same parts every time. restored(dev) is called afterwards.
///
/// On a device that captures (boot::cuda on a stream of its own) a step is run twice as it is written, then captured and
/// replayed as one graph, with the same bits; the host prepares the numbers of later steps meanwhile (see step_replay).
/// Losses reach logs and callbacks some steps later unless there are on_step() callbacks, which need every step at once.
/// A teacher whose capturable() is false is called between two graphs. Not captured are objectives with begin_step() or
/// visit_state(), and what a message names.
template <class O, class D>
class distiller {
  static_assert(
      Objective<O, D>,
      "boot: an Objective needs `o(dev, batch_request) -> loss_report` and `o.student()`; see the contract in "
      "boot/objective/objective.hpp");

 public:
  using objective_type = O;                                                          ///< what is trained with
  using student_type = std::remove_cvref_t<decltype(std::declval<O&>().student())>;  ///< what is trained
  using scalar_type =
      typename std::remove_cvref_t<decltype(std::declval<O&>().student().parameters().values())>::value_type;  ///< T

  /// Prepares a run; throws boot::error for options that make no sense.
  distiller(const D& dev, O& objective, distiller_options options = {})
      : dev_(dev),
        objective_(&objective),
        options_(checked(std::move(options))),
        optimizer_(dev, objective.student().parameters(), options_.optimizer),
        replay_(dev),
        progress_(options_.progress, options_.report_every),
        log_({options_.folder, options_.log_every, options_.log_csv, options_.log_tensorboard}) {}
  distiller(const D&, O&&, distiller_options = {}) = delete;
  distiller(const distiller&) = delete;
  distiller& operator=(const distiller&) = delete;

  /// Called after every step.
  void on_step(std::function<void(const step_info&)> f) { step_callbacks_.push_back(std::move(f)); }
  /// Called every `sample_every` steps and after the last one.
  void on_sample(std::function<void(const step_info&)> f) { sample_callbacks_.push_back(std::move(f)); }
  /// Called with every warning, besides what stderr sees.
  void on_message(std::function<void(std::string_view)> f) { message_callbacks_.push_back(std::move(f)); }
  /// Keeps checkpoints in `store`, which must outlive this object: boot::checkpoints of boot/train/checkpoint.hpp.
  void use(checkpoint_store& store) noexcept { store_ = &store; }
  /// Ends run() after the current step, as a signal does.
  void request_stop() noexcept { stop_ = true; }

  /// Goes on from the newest checkpoint; false when there is none. Throws boot::error when it belongs to another run.
  bool resume() {
    require(store_ != nullptr,
            "boot: a distiller cannot resume without checkpoints; include boot/train/checkpoint.hpp and call "
            "use(checkpoints) first");
    drain();
    stop_replay();
    log_.close();
    looked_ = true;
    state_list<scalar_type, D> list(dev_);
    training_state state = describe(list);
    if (!store_->restore(state, [this](std::string_view text) { say(text); })) return false;
    list.upload();
    optimizer_.set_updates(updates_);
    if constexpr (requires { objective_->restored(dev_); }) objective_->restored(dev_);
    started_ = resumed_ = true;
    saved_ = step_;
    return true;
  }

  /// Trains up to the end of the run, or until `until` steps are finished; more calls go on. Throws boot::error when
  /// too many steps in a row are not finite, and for what the disk refuses; parameters and counters then stand as after
  /// the last step, and run() may be called again.
  run_result run(std::int64_t until = std::numeric_limits<std::int64_t>::max()) {
    until = std::min(until, options_.steps);
    const auto begin = std::chrono::steady_clock::now();
    start();
    stop_ = false;
    run_result result;
    {
      const signal_guard signals(options_.handle_signals);
      const line_end at_exit{progress_};
      drain();  // what an earlier run() launched and could not report
      while (step_ < until && !stop_ && signals.caught() == 0) {
        const std::int64_t before = step_;
        go_on(until);
        if (in_row_ >= options_.max_skips) give_up();
        if (step_ > before && store_ != nullptr && store_->every() > 0 && step_ % store_->every() == 0) save();
      }
      drain();
      result.signal = signals.caught();
      result.interrupted = (stop_ || result.signal != 0) && step_ < until;
      if (store_ != nullptr && saved_ != step_) save();
      if (result.interrupted && result.signal != 0)
        say(fmt::format("boot: {} after step {} of {}{}", result.signal == SIGINT ? "SIGINT" : "SIGTERM", step_,
                        options_.steps,
                        store_ != nullptr ? ": saved, resume = true goes on from here" : ": not saved"));
    }
    result.step = step_;
    result.finished = step_ == options_.steps;
    result.resumed = resumed_;
    result.skipped_steps = skipped_;
    result.loss = last_.loss;
    result.live_bytes = memory_use<D>().live_bytes;
    if (forecast_bytes_ > 0 && static_cast<double>(result.live_bytes) > 1.1 * static_cast<double>(forecast_bytes_))
      say(fmt::format("boot: the run holds {} of device memory, plan() had forecast {}: something else has taken more",
                      bytes_text(result.live_bytes), bytes_text(forecast_bytes_)));
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  }

  /// Writes a checkpoint now; throws boot::error without a store.
  void save() {
    require(store_ != nullptr,
            "boot: a distiller cannot save without checkpoints; include boot/train/checkpoint.hpp and call "
            "use(checkpoints) first");
    drain();
    state_list<scalar_type, D> list(dev_);
    updates_ = optimizer_.updates();
    const training_state state = describe(list);
    list.download();
    store_->save(state);
    saved_ = step_;
  }

  /// What the run will cost, from two throw-away evaluations of the objective; parameters stay as they are.
  [[nodiscard]] training_plan plan() {
    auto& arena = student().parameters();
    training_plan p;
    const auto& layout = arena.layout();
    for (const auto& e : layout.entries()) {
      p.parameters += e.extents.size();
      if (layout.groups()[static_cast<std::size_t>(e.group)].trainable) p.trainable += e.extents.size();
    }
    const std::int64_t flat = layout.size() * static_cast<std::int64_t>(sizeof(scalar_type));
    p.steps = options_.steps;
    p.batch = options_.batch;
    p.accumulation = options_.accumulation;
    p.weight_bytes = p.gradient_bytes = flat;
    p.moment_bytes = 2 * flat;
    p.average_bytes = static_cast<std::int64_t>(optimizer_.average_count()) * flat;
    if constexpr (requires { objective_->describe(p.batch); }) {
      p.calls = objective_->describe(p.batch);
      p.calls_known = true;
    }
    if constexpr (requires { objective_->warnings(); }) p.warnings = objective_->warnings();
    if constexpr (requires(typename O::condition_type c) {
                    c = typename O::condition_type{};
                    student().plan(dev_, p.batch, c, true, true, false).bytes;
                  }) {
      const std::int64_t part = (p.batch + p.accumulation - 1) / p.accumulation;
      try {
        const auto condition = detail::plan_condition<typename O::condition_type>::of(part);
        p.activation_bytes = student().plan(dev_, part, condition, true, true, false).bytes;
      } catch (const error&) {  // a condition of the user's own that cannot be empty: not known, then
      }
    }
    static_cast<void>(arena.gradient());  // it comes with the first call, and is listed by itself
    const std::int64_t before = memory_use<D>().live_bytes;
    static_cast<void>(evaluate(step_));
    synchronize(dev_);
    const auto begin = std::chrono::steady_clock::now();
    static_cast<void>(evaluate(step_));
    synchronize(dev_);
    p.seconds_per_step = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    p.live_bytes = memory_use<D>().live_bytes;
    p.working_bytes = p.live_bytes - before;
    p.samples_per_second = p.seconds_per_step > 0 ? static_cast<double>(p.batch) / p.seconds_per_step : 0;
    p.run_bytes = p.live_bytes;
    if constexpr (replays) {
      if (options_.capture && !replay_.ready() && capture_support<D>::possible(dev_)) {
        begin_recording();
        try {
          p.run_bytes += replay_.bytes_for(step_, recorded());
        } catch (const std::exception&) {  // run() will say why it captures nothing
        }
        optimizer_.set_updates(base_updates_);
      }
    }
    forecast_bytes_ = p.run_bytes;
    fill_zero(dev_, arena.gradient());
    return p;
  }

  /// Moments and averages.
  [[nodiscard]] adamw<scalar_type, D>& optimizer() noexcept { return optimizer_; }
  /// What is trained.
  [[nodiscard]] student_type& student() noexcept { return objective_->student(); }
  /// The objective.
  [[nodiscard]] O& objective() noexcept { return *objective_; }
  /// As given.
  [[nodiscard]] const distiller_options& options() const noexcept { return options_; }
  /// Steps of this object that were replays of a captured one.
  [[nodiscard]] std::int64_t replayed_steps() const noexcept { return replayed_; }
  /// Steps finished since the start of the run.
  [[nodiscard]] std::int64_t step() const noexcept { return step_; }
  /// Where it runs.
  [[nodiscard]] const D& device() const noexcept { return dev_; }
  /// A copy of the student with the values of average `i`.
  [[nodiscard]] student_type average_model(std::size_t i = 0) requires
      requires(const student_type& s, const D& dev, view<const scalar_type, D> values) {
    { s.clone(dev, values) } -> std::same_as<student_type>;
  }
  { return student().clone(dev_, optimizer_.average(i)); }

 private:
  struct line_end {
    progress_line& line;
    ~line_end() { line.finish(); }
  };

  static distiller_options checked(distiller_options o) {
    require(o.steps > 0, "boot: distiller steps = {}; needs at least 1, some thousands are usual", o.steps);
    require(o.batch > 0, "boot: distiller batch = {}; needs at least 1 sample, 256 is usual", o.batch);
    require(o.accumulation > 0 && o.accumulation <= o.batch,
            "boot: distiller accumulation = {} parts of a batch of {}; needs at least 1 and no more than the batch has "
            "samples; raise batch or lower accumulation",
            o.accumulation, o.batch);
    require(o.max_skips > 0, "boot: distiller max_skips = {}; needs at least 1, 10 is usual", o.max_skips);
    require(o.log_every > 0 && o.sample_every >= 0 && o.report_every >= 0,
            "boot: distiller log_every = {}, sample_every = {}, report_every = {}; the first needs at least 1, the "
            "others at least 0",
            o.log_every, o.sample_every, o.report_every);
    require(!o.folder.empty() || (!o.log_csv && !o.log_tensorboard),
            "boot: distiller log_csv or log_tensorboard without a folder; set folder to where the logs go");
    validate(o.rate);
    return o;
  }

  void say(std::string_view text) {
    progress_.say(text);
    for (const auto& f : message_callbacks_) f(text);
  }

  void start() {
    if (options_.resume && !looked_ && !started_) resume();
    if (!options_.folder.empty()) detail::make_folders(options_.folder);
    if (!started_ && store_ != nullptr) store_->start_fresh();
    log_.open(started_ ? step_ : -1);
    started_ = true;
  }

  // The gradient of a step's batch, part by part.
  loss_report evaluate(std::int64_t step) {
    fill_zero(dev_, student().parameters().gradient());
    if constexpr (requires { objective_->begin_step(dev_, step, options_.steps); })
      objective_->begin_step(dev_, step, options_.steps);
    loss_report loss;
    const std::int64_t parts = options_.accumulation;
    for (std::int64_t k = 0; k < parts; ++k) {
      const std::int64_t first = options_.batch * k / parts, end = options_.batch * (k + 1) / parts;
      const loss_report part = (*objective_)(
          dev_, batch_request{.seed = options_.seed,
                              .step = step,
                              .first = first,
                              .count = end - first,
                              .total = options_.batch,
                              .progress = static_cast<double>(step) / static_cast<double>(options_.steps)});
      if (k == 0) {
        loss = part;
      } else {
        loss += part;
      }
    }
    return loss;
  }

  // A step's host code: run as it is, captured, or rehearsed.
  step_info perform(std::int64_t step) {
    step_info info{.step = step, .steps = options_.steps};
    info.loss = evaluate(step);
    info.rate = learning_rate(options_.rate, step, options_.steps);
    info.gradient_norm = std::numeric_limits<double>::quiet_NaN();
    info.skipped = true;
    if (info.loss.finite()) {
      const step_result r = optimizer_.step(dev_, student().parameters(), info.rate);
      info.gradient_norm = r.gradient_norm;
      info.skipped = r.skipped;
    }
    return info;
  }

  // Counts a step that is done and tells about it.
  void tell(step_info info) {
    ++step_;
    in_row_ = info.skipped ? in_row_ + 1 : 0;
    skipped_ += info.skipped ? 1 : 0;
    info.skipped_steps = skipped_;
    last_ = info;
    if (info.skipped)
      say(fmt::format("boot: step {} skipped: {} is not finite (loss {}, gradient norm {}); {} in a row, {} in all",
                      info.step, info.loss.finite() ? "the gradient" : "the loss", info.loss.total, info.gradient_norm,
                      in_row_, skipped_));
    log_.add(info);
    progress_.show(info);
    for (const auto& f : step_callbacks_) f(info);
    if (options_.sample_every > 0 && (step_ % options_.sample_every == 0 || step_ == options_.steps))
      for (const auto& f : sample_callbacks_) f(info);
  }

  // One step as it is written, or some steps of a captured one; at most up to `until`.
  void go_on(std::int64_t until) {
    if constexpr (replays) {
      if (replay_.ready() && (replay_.memory_changed() || replay_.next() >= replay_.end())) {
        // A callback has allocated, or the next step does other work than the captured one: it is run as it is written.
        const std::int64_t before = step_;
        drain();
        stop_replay();
        if (step_ > before) return;
      }
      if (replay_.ready() || captured()) return replay_some(until);
    }
    tell(perform(step_));
    ++plain_steps_;
  }

  static constexpr bool replays = [] {
    if constexpr (requires(O & o, const D& dev) { o.begin_step(dev, std::int64_t{}, std::int64_t{}); }) return false;
    if constexpr (requires(O & o, state_list<scalar_type, D> & list) { o.visit_state(list); }) return false;
    return capture_support<D>::available;
  }();
  struct no_replay {
    explicit no_replay(const D&) {}
  };

  // The host code of a recorded step: its number of updates follows from its number.
  [[nodiscard]] auto recorded() {
    return [this](std::int64_t step) {
      optimizer_.set_updates(base_updates_ + (step - base_step_));
      return perform(step);
    };
  }
  void begin_recording() {
    base_step_ = step_;
    base_updates_ = optimizer_.updates();
  }
  // Captures the next step where that may be and pays.
  bool captured() {
    if (!options_.capture || replay_off_ || plain_steps_ < 2 || !capture_support<D>::possible(dev_)) return false;
    if (captures_ >= 8 && replayed_ < 16 * captures_) {
      switch_replay_off("something allocates device memory every few steps, and each time a step is captured again");
      return false;
    }
    begin_recording();
    bool cut = false;
    if constexpr (requires { objective_->teacher(); }) cut = !capturable(objective_->teacher());
    const std::string why = replay_.capture(step_, cut, recorded());
    optimizer_.set_updates(base_updates_);
    ++captures_;
    if (!why.empty()) switch_replay_off(why);
    return why.empty();
  }
  void switch_replay_off(std::string_view why) {
    replay_off_ = true;
    say(fmt::format("boot: steps are not captured as a graph: {}", why));
  }
  // The next step is run as it is written.
  void stop_replay() {
    if constexpr (replays) replay_.drop();
    plain_steps_ = std::min<std::int64_t>(plain_steps_, 1);
  }
  // Launches a step, and tells about those that are done.
  void replay_some(std::int64_t until) {
    // Where everything must be seen: before samples, checkpoints and the end, and before records are written over.
    const auto due = [this](std::int64_t every) {
      return every > 0 ? (step_ / every + 1) * every : std::numeric_limits<std::int64_t>::max();
    };
    std::int64_t stop = std::min({until, step_ + replay_.records() / 2, due(options_.sample_every)});
    if (store_ != nullptr) stop = std::min(stop, due(store_->every()));
    if (!step_callbacks_.empty()) stop = std::min(stop, step_ + 1);
    if (replay_.next() < stop && replay_.launch(options_.steps, recorded())) ++replayed_;
    const bool wait = replay_.next() >= std::min(stop, replay_.end());
    tell_replayed(wait ? replay_.finish() : replay_.finished(), wait);
  }
  // Tells about steps before `end`, which are done; `all`: about the last one in any case.
  void tell_replayed(std::int64_t end, bool all) {
    while (step_ < end) {
      const bool bad = replay_.record(step_).bad_step >= 0;
      if (!bad && !(all && step_ + 1 == end) && !log_.is_open() && step_callbacks_.empty() &&
          !progress_.wants(step_ + 1, options_.steps)) {
        ++step_;
        in_row_ = 0;
        continue;
      }
      if (bad) replay_.finish();
      const step_info info = replay_.report(step_, recorded());
      const std::int64_t updates = base_updates_ + (step_ - base_step_) + (bad ? 0 : 1);
      optimizer_.set_updates(updates);
      if (bad) {  // the device waits: no later step has changed anything
        replay_.restart(step_ + 1);
        base_step_ = step_ + 1;
        base_updates_ = updates;
      }
      tell(info);
      if (bad) return;
    }
  }
  // Waits for launched steps and tells about them.
  void drain() {
    if constexpr (replays) {
      if (!replay_.ready()) return;
      if (step_ < replay_.next()) tell_replayed(replay_.finish(), true);
      // Steps that nobody had to be told about were passed over, and rehearsals count updates of steps to come.
      if (last_.step + 1 != step_ && step_ > base_step_) {
        last_ = replay_.report(step_ - 1, recorded());
        last_.skipped_steps = skipped_;
      }
      optimizer_.set_updates(base_updates_ + (step_ - base_step_));
    }
  }

  [[noreturn]] void give_up() {
    if (store_ != nullptr) save();
    const std::int64_t count = std::exchange(in_row_, 0);  // so that another run() may try again
    fail(
        "boot: {} steps in a row had a loss or gradient that is not finite, the last one step {}. Parameters are as "
        "after the last good step{}. Try a lower rate.peak (now {}), a smaller optimizer.clip_norm (now {}), or look "
        "for NaN in what the teacher puts out and in the data",
        count, step_ - 1, store_ != nullptr ? " and saved" : "", options_.rate.peak, options_.optimizer.clip_norm);
  }

  training_state describe(state_list<scalar_type, D>& list) {
    training_state state;
    state.step = step_;
    state.numbers = {{"step", &step_}, {"updates", &updates_}, {"skipped", &skipped_}, {"skipped_in_row", &in_row_}};
    log_.add_to(state.numbers);
    auto& arena = student().parameters();
    list.add_parameters("student.", arena.layout(), arena.values());
    list.add_parameters("moment1.", arena.layout(), optimizer_.first_moment());
    list.add_parameters("moment2.", arena.layout(), optimizer_.second_moment());
    for (std::size_t i = 0; i < optimizer_.average_count(); ++i)
      list.add_parameters("average" + std::to_string(i) + ".", arena.layout(), optimizer_.average(i));
    if constexpr (requires { objective_->visit_state(list); }) objective_->visit_state(list);
    list.move_to(state);
    state.configuration = detail::configuration_of(options_, arena.layout());
    if constexpr (requires { objective_->fingerprint(); })
      state.configuration.emplace_back("objective", std::string(objective_->fingerprint()));
    return state;
  }

  D dev_;
  O* objective_;
  distiller_options options_;
  adamw<scalar_type, D> optimizer_;
  typename std::conditional_t<replays, std::type_identity<step_replay<D>>, std::type_identity<no_replay>>::type replay_;
  progress_line progress_;
  training_log log_;
  checkpoint_store* store_ = nullptr;
  std::vector<std::function<void(const step_info&)>> step_callbacks_, sample_callbacks_;
  std::vector<std::function<void(std::string_view)>> message_callbacks_;
  std::int64_t step_ = 0, updates_ = 0, skipped_ = 0, in_row_ = 0, saved_ = -1;
  std::int64_t base_step_ = 0, base_updates_ = 0;               // of the captured step
  std::int64_t plain_steps_ = 0, captures_ = 0, replayed_ = 0;  // steps run as written since the last change of memory
  bool started_ = false, resumed_ = false, looked_ = false, stop_ = false;
  bool replay_off_ = false;
  std::int64_t forecast_bytes_ = 0;  // of the last plan()
  step_info last_{};
};

/// A loop for an objective, with options.
template <class D, class O>
distiller(const D&, O&, distiller_options) -> distiller<O, D>;
/// A loop for an objective, by default.
template <class D, class O>
distiller(const D&, O&) -> distiller<O, D>;

}  // namespace boot::inline v0
