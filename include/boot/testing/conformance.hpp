// SPDX-License-Identifier: MIT
/// Conformance checks for a user's own Teacher or Student: what the contracts promise and no type can.
#pragma once

#include <boot/core/math.hpp>
#include <boot/core/random.hpp>
#include <boot/model/student.hpp>
#include <boot/model/teacher.hpp>
#include <boot/schedule/noise_schedule.hpp>
#include <boot/tensor/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace boot::inline v0::testing {

/// Options of the conformance checks.
struct conformance_options {
  std::uint64_t seed = 1;   ///< of inputs, times and gradients
  double tolerance = 1e-4;  ///< relative, where two ways of computing the same may round differently
  bool threads = true;      ///< also that 1, 2 and 3 threads give the same bits, on devices that have threads
};

/// What a conformance check found: one sentence per broken promise.
struct conformance_report {
  std::vector<std::string> failures;  ///< empty: all holds
  int checks = 0;                     ///< promises that were checked

  /// Whether every promise held.
  [[nodiscard]] bool passed() const noexcept { return failures.empty(); }
  /// The failures, one a line.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& f : failures) all += f + "\n";
    return all;
  }
  /// Counts a check and keeps `message` when it failed.
  void expect(bool holds, std::string message) {
    ++checks;
    if (!holds) failures.push_back(std::move(message));
  }
};

namespace detail {

template <class T>
[[nodiscard]] bool conformance_same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class T>
[[nodiscard]] bool conformance_all_finite(const std::vector<T>& a) {
  return std::all_of(a.begin(), a.end(), [](T v) { return math::is_finite(v); });
}
// Largest difference, relative to the largest number.
template <class T>
[[nodiscard]] double conformance_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return 1;
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = d <= most ? most : d;  // keeps a NaN
    scale = std::max({scale, std::abs(static_cast<double>(a[i])), std::abs(static_cast<double>(b[i]))});
  }
  return most == 0 ? 0 : most / scale;
}
// Normal numbers, another set for every `what`.
template <class T>
[[nodiscard]] std::vector<T> conformance_numbers(std::int64_t n, std::uint64_t seed, std::uint64_t what) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(normal(counter_key{seed, stream::test, what}, 0, i));
  return v;
}
// A tensor that reads as NaN until it is written.
template <class T, class D>
[[nodiscard]] tensor<T, D> conformance_poisoned(const D& dev, const shape& s) {
  tensor<T, D> t(dev, s);
  if (t.size() > 0) poison(dev, t.data(), static_cast<std::size_t>(t.size()) * sizeof(T));
  return t;
}
// Times across the range; the ends themselves are left to the tests of a model, not every kind is defined there.
template <class S>
[[nodiscard]] std::vector<double> conformance_times(const S& schedule, std::int64_t n, double offset) {
  std::vector<double> t;
  for (std::int64_t i = 0; i < n; ++i) {
    const double u = std::fmod(offset + 0.37 * static_cast<double>(i), 0.9) + 0.05;
    t.push_back(schedule.t_min() + u * (schedule.t_max() - schedule.t_min()));
  }
  return t;
}

}  // namespace detail

/// Checks the promises of a Teacher on `batch` random samples: all of `out` is written, x is kept, the same input gives
/// the same bits, a sample does not depend on the others of its batch, and threads do not change bits. `condition` must
/// have `batch` rows; T is the scalar type.
template <ComputeScalar T, Device D, class Teacher, NoiseSchedule S, class C>
[[nodiscard]] conformance_report check_teacher_conformance(const D& dev, const Teacher& teacher, const S& schedule,
                                                           const C& condition, std::int64_t batch,
                                                           const conformance_options& options = {}) {
  check_teacher<Teacher, D, C, T>();
  require(batch > 1, "boot: a conformance check with {} samples; needs at least 2", batch);
  conformance_report report;
  const shape extents = teacher.sample_shape().batched(batch);
  report.expect(extents.sample_size() > 0, "sample_shape() has no elements");
  if (!report.passed()) return report;
  const std::vector<T> numbers = detail::conformance_numbers<T>(extents.size(), options.seed, 0);
  const tensor<T, D> x = tensor_of<T>(dev, std::span<const T>(numbers), extents);
  const std::vector<double> t = detail::conformance_times(schedule, batch, 0.1);
  times_buffer<D, T> buffer;
  const auto call = [&](const D& where) {
    tensor<T, D> out = detail::conformance_poisoned<T>(where, extents);
    teacher.predict(where, x.get(), buffer.set(where, teacher, t), condition, out.get());
    return to_host(where, out.get());
  };
  const std::vector<T> first = call(dev);
  report.expect(detail::conformance_all_finite(first), "predict() leaves elements of out unwritten, or writes NaN");
  report.expect(detail::conformance_same_bits(to_host(dev, x.get()), numbers), "predict() writes to its input x");
  report.expect(detail::conformance_same_bits(call(dev), first),
                "predict() gives different bits for the same input: freeze noise, dropout and running averages");
  {
    const std::int64_t part = batch / 2;
    tensor<T, D> out = detail::conformance_poisoned<T>(dev, extents);
    const auto rows = buffer.set(dev, teacher, t);
    teacher.predict(dev, x.get().rows(0, part), rows.rows(0, part), condition.rows(0, part), out.get().rows(0, part));
    teacher.predict(dev, x.get().rows(part, batch - part), rows.rows(part, batch - part),
                    condition.rows(part, batch - part), out.get().rows(part, batch - part));
    report.expect(detail::conformance_difference(to_host(dev, out.get()), first) <= options.tolerance,
                  "predict() lets a sample depend on the others of its batch");
  }
  if constexpr (requires(D d) { d.threads = 1; }) {
    for (int threads = 1; options.threads && threads <= 3; ++threads) {
      D other = dev;
      other.threads = threads;
      report.expect(detail::conformance_same_bits(call(other), first),
                    "predict() gives other bits on " + std::to_string(threads) + " thread(s)");
    }
  }
  return report;
}

/// Checks the promises of a Student on `batch` random samples: those of predict() as for a Teacher, record() computes
/// what predict() does, several tapes may be alive, backward() adds to the gradient and leaves the weights alone, and
/// threads change no bit of output or gradient. The student's gradient is cleared; `condition` must have `batch` rows.
template <Device D, class Student, NoiseSchedule S, class C>
[[nodiscard]] conformance_report check_student_conformance(const D& dev, Student& student, const S& schedule,
                                                           const C& condition, std::int64_t batch,
                                                           const conformance_options& options = {}) {
  using T = typename scalar_of<Student>::type;
  check_student<Student, D, C, T>();
  require(batch > 1, "boot: a conformance check with {} samples; needs at least 2", batch);
  conformance_report report;
  const shape extents = student.sample_shape().batched(batch);
  report.expect(extents.sample_size() > 0, "sample_shape() has no elements");
  if (!report.passed()) return report;
  const std::vector<T> numbers = detail::conformance_numbers<T>(extents.size(), options.seed, 0);
  const std::vector<T> slopes = detail::conformance_numbers<T>(extents.size(), options.seed, 1);
  const tensor<T, D> x = tensor_of<T>(dev, std::span<const T>(numbers), extents);
  const tensor<T, D> slope = tensor_of<T>(dev, std::span<const T>(slopes), extents);
  const std::vector<double> t = detail::conformance_times(schedule, batch, 0.1);
  const std::vector<double> other_t = detail::conformance_times(schedule, batch, 0.6);
  times_buffer<D, T> source, target, other_target;
  const auto from = [&](const D& where) { return source.set(where, student, schedule.t_max(), batch); };
  const auto to = [&](const D& where) { return target.set(where, student, t); };
  const auto call = [&](const D& where) {
    tensor<T, D> out = detail::conformance_poisoned<T>(where, extents);
    student.predict(where, x.get(), from(where), to(where), condition, out.get());
    return to_host(where, out.get());
  };
  const std::vector<T> first = call(dev);
  report.expect(detail::conformance_all_finite(first), "predict() leaves elements of out unwritten, or writes NaN");
  report.expect(detail::conformance_same_bits(to_host(dev, x.get()), numbers), "predict() writes to its input x");
  report.expect(detail::conformance_same_bits(call(dev), first),
                "predict() gives different bits for the same input: a student must be a function of its weights");

  auto& arena = student.parameters();
  const std::vector<T> weights = to_host(dev, view<const T, D>(arena.values()));
  const auto gradient = [&] { return to_host(dev, view<const T, D>(arena.gradient())); };
  const auto once = [&](const D& where, const times<D, T>& to_times) {
    fill_zero(dev, arena.gradient());
    auto tape = student.record(where, x.get(), from(where), to_times, condition);
    tape.backward(where, slope.get());
    return gradient();
  };
  {
    auto tape = student.record(dev, x.get(), from(dev), to(dev), condition);
    const view<const T, D> output = tape.output();
    report.expect(output.extents() == extents, "record() gives an output of shape " + to_string(output.extents()) +
                                                   " for x of shape " + to_string(extents));
    report.expect(output.size() == extents.size() &&
                      detail::conformance_difference(to_host(dev, output), first) <= options.tolerance,
                  "record() gives another output than predict()");
    if (!report.passed()) return report;
  }
  const std::vector<T> one = once(dev, to(dev)), two = once(dev, other_target.set(dev, student, other_t));
  report.expect(detail::conformance_all_finite(one), "backward() gives a gradient that is not finite");
  report.expect(detail::conformance_same_bits(to_host(dev, view<const T, D>(arena.values())), weights),
                "record() or backward() changes the weights");
  report.expect(detail::conformance_same_bits(to_host(dev, slope.get()), slopes), "backward() writes to its gradient");
  std::vector<T> both(one.size());
  for (std::size_t i = 0; i < one.size(); ++i) both[i] = one[i] + two[i];
  {
    fill_zero(dev, arena.gradient());
    auto tape_1 = student.record(dev, x.get(), from(dev), to(dev), condition);
    const std::vector<T> before = to_host(dev, view<const T, D>(tape_1.output()));
    auto tape_2 = student.record(dev, x.get(), from(dev), other_target.set(dev, student, other_t), condition);
    static_cast<void>(call(dev));
    report.expect(detail::conformance_same_bits(to_host(dev, view<const T, D>(tape_1.output())), before),
                  "a tape's output changes when another call is made while it is alive");
    tape_1.backward(dev, slope.get());
    tape_2.backward(dev, slope.get());
    report.expect(detail::conformance_difference(gradient(), both) <= options.tolerance,
                  "with two tapes alive, or on a gradient that is not zero, backward() does not add its own gradient");
  }
  if constexpr (requires(D d) { d.threads = 1; }) {
    for (int threads = 1; options.threads && threads <= 3; ++threads) {
      D other = dev;
      other.threads = threads;
      const std::string where = " gives other bits on " + std::to_string(threads) + " thread(s)";
      report.expect(detail::conformance_same_bits(call(other), first), "predict()" + where);
      report.expect(detail::conformance_same_bits(once(other, to(other)), one), "backward()" + where);
    }
  }
  fill_zero(dev, arena.gradient());
  return report;
}

/// How far an untrained student is from its boundary: the largest difference of its clean signal, over `target_times`
/// and `batch` random starts sigma_T eps, from the teacher's f(sigma_T eps, t_max), relative to the largest value. 0 for
/// a student made by student_of(); see docs/method.md.
template <Device D, class Teacher, class Student, NoiseSchedule S, class C>
[[nodiscard]] double distance_from_boundary(const D& dev, const Teacher& teacher, const Student& student,
                                            const S& schedule, const C& condition, std::int64_t batch,
                                            std::span<const double> target_times, std::uint64_t seed = 1) {
  using T = typename scalar_of<Student>::type;
  const shape extents = student.sample_shape().batched(batch);
  const double t_max = schedule.t_max();
  std::vector<T> start = detail::conformance_numbers<T>(extents.size(), seed, 0);
  for (T& v : start) v *= static_cast<T>(schedule.sigma(t_max));
  const tensor<T, D> x = tensor_of<T>(dev, std::span<const T>(start), extents);
  times_buffer<D, T> teacher_times, source, target;
  const auto signal = [&](const prediction& p, std::vector<T> out) {
    const affine_coefficients k = clean_signal_at(p, schedule, t_max);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(k.a) * start[i] + static_cast<T>(k.b) * out[i];
    return out;
  };
  tensor<T, D> out = detail::conformance_poisoned<T>(dev, extents);
  teacher.predict(dev, x.get(), teacher_times.set(dev, teacher, t_max, batch), condition, out.get());
  const std::vector<T> wanted = signal(teacher.prediction(), to_host(dev, out.get()));
  double worst = 0;
  for (const double t : target_times) {
    out = detail::conformance_poisoned<T>(dev, extents);
    student.predict(dev, x.get(), source.set(dev, student, t_max, batch), target.set(dev, student, t, batch), condition,
                    out.get());
    const double off = detail::conformance_difference(signal(student.prediction(), to_host(dev, out.get())), wanted);
    worst = off <= worst ? worst : off;
  }
  return worst;
}

}  // namespace boot::inline v0::testing
