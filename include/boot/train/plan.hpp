// SPDX-License-Identifier: MIT
/// What a run will cost, before its first step.
#pragma once

#include <boot/nn/condition.hpp>
#include <boot/objective/objective.hpp>
#include <boot/train/progress.hpp>

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace boot::inline v0 {

/// The cost of a run. Bytes are of device memory and counted, not guessed, unless said otherwise.
struct training_plan {
  std::int64_t parameters = 0;         ///< numbers the student has
  std::int64_t trainable = 0;          ///< of these, numbers that are trained
  std::int64_t steps = 0;              ///< of the run
  std::int64_t batch = 0;              ///< samples per step
  std::int64_t accumulation = 1;       ///< parts a batch is cut into
  std::int64_t weight_bytes = 0;       ///< student
  std::int64_t gradient_bytes = 0;     ///< of its parameters
  std::int64_t moment_bytes = 0;       ///< both moments of the optimiser
  std::int64_t average_bytes = 0;      ///< all averages
  std::int64_t activation_bytes = -1;  ///< of the recorded student call on one part, by student.plan(); -1: not known
  std::int64_t working_bytes = 0;      ///< taken by evaluations of the objective: its buffers and all activations
  std::int64_t live_bytes = 0;         ///< all the library holds on this kind of device, other objects included
  std::int64_t run_bytes = 0;          ///< the same during run(): with what captured steps take besides. run() says so
                                       ///< where it ends with a tenth more
  bool calls_known = false;            ///< the objective has describe()
  objective_cost calls = {};           ///< samples per step that teacher and student see
  double seconds_per_step = 0;         ///< measured: one evaluation of the objective, without the optimiser's pass
  double samples_per_second = 0;       ///< batch / seconds_per_step
  std::vector<std::string> warnings = {};  ///< what the objective says to know before training, by its warnings()
};

namespace detail {
/// A condition that has a batch and no contents: what plan() of a student needs to know. How many tokens a prompt has,
/// and of what width, only its source knows: prompt embeddings have no shape here, a student that reads them says so by
/// an error, and what its calls take is not known before the first.
template <class C>
struct plan_condition {
  static C of(std::int64_t) { return C{}; }
};
template <class D>
struct plan_condition<class_labels<D>> {
  static class_labels<D> of(std::int64_t batch) { return {view<const std::int32_t, D>(nullptr, {batch}), false}; }
};
template <class D, class T>
struct plan_condition<guidance_scale<D, T>> {
  static guidance_scale<D, T> of(std::int64_t batch) { return {view<const T, D>(nullptr, {batch})}; }
};
template <class... C>
struct plan_condition<conditions<C...>> {
  static conditions<C...> of(std::int64_t batch) {
    conditions<C...> c;
    c.parts = std::tuple<C...>(plan_condition<C>::of(batch)...);
    return c;
  }
};
}  // namespace detail

/// "1.5 MiB", "37 bytes".
[[nodiscard]] inline std::string bytes_text(std::int64_t bytes) {
  static constexpr const char* units[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double v = static_cast<double>(bytes) / 1024;
  int unit = 0;
  for (; v >= 1024 && unit < 3; ++unit) v /= 1024;
  return fmt::format("{:.1f} {}", v, units[unit]);
}

/// A readable table, one line per figure.
[[nodiscard]] inline std::string to_string(const training_plan& p) {
  std::string text;
  const auto row = [&](const char* name, const std::string& value) { text += fmt::format("{:<26}{}\n", name, value); };
  row("parameters", p.trainable == p.parameters ? fmt::format("{}", p.parameters)
                                                : fmt::format("{}, {} trained", p.parameters, p.trainable));
  row("steps x batch", p.accumulation > 1 ? fmt::format("{} x {} in {} parts", p.steps, p.batch, p.accumulation)
                                          : fmt::format("{} x {}", p.steps, p.batch));
  row("weights", bytes_text(p.weight_bytes));
  row("gradient", bytes_text(p.gradient_bytes));
  row("moments", bytes_text(p.moment_bytes));
  row("averages", bytes_text(p.average_bytes));
  row("activations", p.activation_bytes < 0 ? "not known" : bytes_text(p.activation_bytes) + ", recorded call");
  row("objective, working", bytes_text(p.working_bytes) + ", activations included");
  row("in use now", bytes_text(p.live_bytes));
  if (p.run_bytes > p.live_bytes) row("in use by run()", bytes_text(p.run_bytes));
  if (p.calls_known) {
    row("teacher samples per step", fmt::format("{:.6g}", p.calls.teacher_samples));
    row("student samples per step",
        fmt::format("{:.6g} recorded, {:.6g} not", p.calls.student_recorded_samples, p.calls.student_samples));
  } else {
    row("calls per step", "not known: the objective has no describe(batch)");
  }
  row("seconds per step", fmt::format("{:.3g}, without the optimiser's pass", p.seconds_per_step));
  row("samples per second", fmt::format("{:.4g}", p.samples_per_second));
  row("whole run", duration_text(p.seconds_per_step * static_cast<double>(p.steps)));
  for (const std::string& warning : p.warnings) text += warning + "\n";
  return text;
}

}  // namespace boot::inline v0
