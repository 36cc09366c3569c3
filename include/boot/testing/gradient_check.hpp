// SPDX-License-Identifier: MIT
/// Gradient check: the tape's gradient of a network, layer or objective against finite differences in float64.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/model/student.hpp>
#include <boot/nn/graph.hpp>
#include <boot/tensor/parameter.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace boot::inline v0::testing {

/// Options of the gradient checks.
struct gradient_check_options {
  std::uint64_t seed = 1;               ///< of the random loss and the random directions
  int directions = 8;                   ///< random directions over all parameters at once
  double step = 4e-3;                   ///< largest finite difference step; a parameter p starts at step max(1, |p|)
  std::int64_t most_per_parameter = 0;  ///< elements checked of one parameter, spread evenly; 0: all
};

/// What a gradient check found. All errors are relative.
struct gradient_report {
  double worst = 0;            ///< largest of `worst_tensor` and `worst_direction`; infinite for a NaN
  double worst_tensor = 0;     ///< norm of a parameter's difference / max(its norm, 1e-3 of the whole gradient's)
  double worst_direction = 0;  ///< difference of a directional derivative / max(its size, 1e-3 of the whole norm)
  std::string worst_name;      ///< the parameter behind `worst_tensor`
  double gradient_norm = 0;    ///< of the whole gradient, by finite differences
  std::int64_t elements = 0;   ///< numbers checked one by one
};

/// Compares the gradient that `arena` holds with finite differences of `loss() -> double`, which must read the arena's
/// values and have no other state. Central differences, extrapolated by Ridders' scheme (eight losses per number), so the
/// step suits each parameter. The values are as before afterwards. Parameters of frozen groups must have the gradient 0.
template <Device D, class Loss>
[[nodiscard]] gradient_report compare_gradient(const D& dev, parameter_arena<double, D>& arena, const Loss& loss,
                                               const gradient_check_options& options = {}) {
  require(options.step > 0 && options.directions >= 0 && options.most_per_parameter >= 0,
          "boot: a gradient check with step {}, {} directions and {} elements per parameter; needs a positive step, "
          "4e-3 is a good one, and counts that are not negative",
          options.step, options.directions, options.most_per_parameter);
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const auto& layout = arena.layout();
  std::vector<double> values = to_host(dev, arena.values());
  const std::vector<double> claimed = to_host(dev, arena.gradient());
  const auto size = values.size();
  const auto put = [&](const std::vector<double>& v) {
    if (!v.empty()) copy_from_host(dev, v.data(), arena.values().data(), v.size() * sizeof(double));
  };
  // Ridders' scheme: central differences at h, h/2, h/4 and h/8, extrapolated to h = 0; of all extrapolations the one
  // that agrees best with its neighbours, so that neither the curvature nor the rounding of a loss decides the step.
  const auto richardson = [](double h, const auto& at) {
    std::array<double, 4> row{}, last{};
    double best = 0, error = infinite;
    for (std::size_t i = 0; i < row.size(); ++i, h /= 2) {
      row[0] = (at(h) - at(-h)) / (2 * h);
      double factor = 1;
      for (std::size_t j = 1; j <= i; ++j) {
        factor *= 4;
        row[j] = row[j - 1] + (row[j - 1] - last[j - 1]) / (factor - 1);
        const double off = std::max(std::abs(row[j] - row[j - 1]), std::abs(row[j] - last[j - 1]));
        if (off <= error) error = off, best = row[j];
      }
      last = row;
    }
    return error < infinite ? best : std::numeric_limits<double>::quiet_NaN();
  };

  struct part {
    std::string name;
    double difference = 0, square = 0;
  };
  std::vector<part> parts;
  gradient_report report;
  double whole = 0;
  for (std::size_t p = 0; p < layout.entries().size(); ++p) {
    const auto& e = layout.entries()[p];
    const std::int64_t n = e.extents.size();
    if (!layout.group_of(static_cast<int>(p)).trainable) {
      for (std::int64_t i = 0; i < n; ++i)
        if (claimed[static_cast<std::size_t>(e.offset + i)] != 0)
          report.worst_tensor = infinite, report.worst_name = e.name;
      continue;
    }
    const std::int64_t count = options.most_per_parameter > 0 ? std::min(n, options.most_per_parameter) : n;
    part sum{e.name};
    for (std::int64_t k = 0; k < count; ++k) {
      const auto at = static_cast<std::size_t>(e.offset + k * n / count);
      const double value = values[at], h = options.step * std::max(1.0, std::abs(value));
      double* const target = arena.values().data() + at;
      const double slope = richardson(h, [&](double move) {
        const double moved = value + move;
        copy_from_host(dev, &moved, target, sizeof moved);
        return loss();
      });
      copy_from_host(dev, &value, target, sizeof value);
      sum.difference += (slope - claimed[at]) * (slope - claimed[at]);
      sum.square += slope * slope;
      ++report.elements;
    }
    whole += sum.square;
    parts.push_back(std::move(sum));
  }
  whole = std::sqrt(whole);
  report.gradient_norm = whole;
  for (const part& p : parts) {
    const double scale = std::max(std::sqrt(p.square), 1e-3 * whole), difference = std::sqrt(p.difference);
    double off = difference == 0 ? 0 : difference / scale;
    if (!(off <= std::numeric_limits<double>::max())) off = infinite;
    if (off > report.worst_tensor || report.worst_name.empty()) report.worst_tensor = off, report.worst_name = p.name;
  }

  std::vector<double> direction(size), moved(size);
  for (int k = 0; k < options.directions; ++k) {
    double square = 0, along = 0;
    std::fill(direction.begin(), direction.end(), 0.0);
    for (std::size_t p = 0; p < layout.entries().size(); ++p) {
      const auto& e = layout.entries()[p];
      if (!layout.group_of(static_cast<int>(p)).trainable) continue;
      const counter_key key{options.seed, stream::test, static_cast<std::uint64_t>(k)};
      for (std::int64_t i = 0; i < e.extents.size(); ++i) {
        const double z = static_cast<double>(normal(key, p, static_cast<std::uint64_t>(i)));
        direction[static_cast<std::size_t>(e.offset + i)] = z;
        square += z * z;
      }
    }
    if (square == 0) break;
    for (std::size_t i = 0; i < size; ++i) {
      direction[i] /= std::sqrt(square);
      along += direction[i] * claimed[i];
    }
    const double slope = richardson(options.step, [&](double move) {
      for (std::size_t i = 0; i < size; ++i) moved[i] = values[i] + move * direction[i];
      put(moved);
      return loss();
    });
    put(values);
    const double difference = std::abs(slope - along);
    double off = difference == 0 ? 0 : difference / std::max(std::abs(slope), 1e-3 * whole);
    if (!(off <= std::numeric_limits<double>::max())) off = infinite;
    report.worst_direction = std::max(report.worst_direction, off);
  }
  report.worst = std::max(report.worst_tensor, report.worst_direction);
  return report;
}

/// The scalar that the checks below differentiate: sum_i c_i y_i + y_i^2 / 2 with fixed random c. Its gradient is c + y.
[[nodiscard]] inline double random_loss(std::span<const double> y, std::uint64_t seed, std::vector<double>* gradient) {
  double sum = 0;
  if (gradient != nullptr) gradient->resize(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double c = static_cast<double>(normal(counter_key{seed, stream::test, max_random_step}, 0, i));
    sum += c * y[i] + 0.5 * y[i] * y[i];
    if (gradient != nullptr) (*gradient)[i] = c + y[i];
  }
  return sum;
}

/// Checks code that runs on a graph, such as one layer. `network` is a struct with visit(v); its parameters are laid out
/// anew and `initialize(arena)` may then fill them; `code(g) -> value` uses them. An input's gradient is checked by
/// making the input a parameter.
template <Device D, class Network, class Code>
[[nodiscard]] gradient_report check_graph_gradient(const D& dev, Network& network, const Code& code,
                                                   const gradient_check_options& options = {}) {
  using graph_type = graph<double, D>;
  parameter_arena<double, D> arena(dev, parameter_layout(network));
  // Not the network's own initial values: a layer that starts at zero would hide its own mistakes.
  for (std::size_t p = 0; p < arena.layout().entries().size(); ++p) {
    const auto n = static_cast<std::size_t>(arena.layout().entries()[p].extents.size());
    std::vector<double> values(n);
    for (std::size_t i = 0; i < n; ++i)
      values[i] = 0.5 * static_cast<double>(normal(counter_key{options.seed, stream::initial, 0}, p, i));
    if (n > 0) copy_from_host(dev, values.data(), arena.value(static_cast<int>(p)).data(), n * sizeof(double));
  }
  graph_type recorded, inference;
  const graph_plan to_record = graph_type().plan(dev, true, arena.layout(), code);
  const graph_plan to_infer = graph_type().plan(dev, false, arena.layout(), code);
  fill_zero(dev, arena.gradient());
  recorded.begin(dev, to_record, arena.layout(), arena.values(), arena.gradient());
  {
    const auto root = code(recorded);
    std::vector<double> slope;
    static_cast<void>(random_loss(to_host(dev, recorded.data(root)), options.seed, &slope));
    const tensor<double, D> gradient = tensor_of<double>(dev, std::span<const double>(slope), root.extents());
    recorded.backward(root, gradient.get());
  }
  return compare_gradient(
      dev, arena,
      [&] {
        inference.begin(dev, to_infer, arena.layout(), arena.values(), {});
        const auto root = code(inference);
        return random_loss(to_host(dev, inference.data(root)), options.seed, nullptr);
      },
      options);
}

/// Checks a student in float64: the loss of record() and backward() against finite differences through predict(), with
/// the parameters it has now. Clears the student's gradient first.
template <Device D, class Student, class C>
[[nodiscard]] gradient_report check_student_gradient(const D& dev, Student& student, view<const double, D> x,
                                                     const times<D, double>& t_source, const times<D, double>& t_target,
                                                     const C& condition, const gradient_check_options& options = {}) {
  check_student<Student, D, C, double>();
  auto& arena = student.parameters();
  fill_zero(dev, arena.gradient());
  {
    auto tape = student.record(dev, x, t_source, t_target, condition);
    std::vector<double> slope;
    static_cast<void>(random_loss(to_host(dev, view<const double, D>(tape.output())), options.seed, &slope));
    const tensor<double, D> gradient = tensor_of<double>(dev, std::span<const double>(slope), x.extents());
    tape.backward(dev, gradient.get());
  }
  tensor<double, D> out(dev, x.extents());
  return compare_gradient(
      dev, arena,
      [&] {
        student.predict(dev, x, t_source, t_target, condition, out.get());
        return random_loss(to_host(dev, out.get()), options.seed, nullptr);
      },
      options);
}

}  // namespace boot::inline v0::testing
