// SPDX-License-Identifier: MIT
/// What the tests of the objectives share: a tiny hand-written network that logs its calls, and plain float64 formulas.
#pragma once

#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/model/student.hpp>
#include <boot/objective/common.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace objective_reference {

using vec = std::vector<double>;

// ---- one schedule type for all shipped schedules, so that an objective is compiled once ----

struct any_schedule {
  std::function<double(double)> alpha_, sigma_, lambda_, dlambda_;
  std::function<double(double, double)> step_;
  double low, high;
  double alpha(double t) const { return alpha_(t); }
  double sigma(double t) const { return sigma_(t); }
  double t_min() const { return low; }
  double t_max() const { return high; }
  double lambda(double t) const { return lambda_(t); }
  double dlambda(double t) const { return dlambda_(t); }
  double signal_step(double t, double u) const { return step_(t, u); }
};

template <class S>
any_schedule erase(const S& s) {
  return {[s](double t) { return s.alpha(t); },
          [s](double t) { return s.sigma(t); },
          [s](double t) { return s.lambda(t); },
          [s](double t) { return s.dlambda(t); },
          [s](double t, double u) { return s.signal_step(t, u); },
          s.t_min(),
          s.t_max()};
}

inline any_schedule schedule_called(const std::string& name) {
  if (name == "cosine") return erase(boot::cosine_schedule{});
  if (name == "cosine_short") return erase(boot::cosine_schedule({0.001, 0.999}));
  if (name == "flow") return erase(boot::flow_schedule{});
  if (name == "linear") return erase(boot::linear_schedule{});
  return erase(boot::edm_schedule{});
}

// ---- the network: out = V tanh(W x + u t_source + v t_target + e[label]), with its gradient by hand ----

inline constexpr int toy_features = 3, toy_width = 5, toy_labels = 3;

struct toy_call {
  bool recorded;
  vec x;  // one row
  double t_source, t_target;
  int label;
  vec output_gradient;  // of a recorded row, once backward has run
};

struct toy_network {
  boot::parameter w{{toy_width, toy_features}, {boot::initializer::rule::normal, 0.6}};
  boot::parameter u{{toy_width}, {boot::initializer::rule::normal, 0.8}};
  boot::parameter v{{toy_width}, {boot::initializer::rule::normal, 0.8}};
  boot::parameter e{{toy_labels + 1, toy_width}, {boot::initializer::rule::normal, 0.7}};
  boot::parameter out{{toy_features, toy_width}, {boot::initializer::rule::normal, 0.6}};
  template <class V>
  void visit(V& p) {
    p("w", w);
    p("u", u);
    p("v", v);
    p("e", e);
    p("out", out);
  }
};

template <class T>
class toy {
 public:
  using scalar_type = T;
  using log_type = std::vector<toy_call>;

  toy(boot::prediction p, std::uint64_t seed) : prediction_(p), arena_(boot::cpu{}, boot::parameter_layout(net_)) {
    arena_.initialize(boot::cpu{}, seed);
  }
  toy clone(const boot::cpu&) const {
    toy t(prediction_, 0);
    std::copy_n(arena_.values().data(), arena_.values().size(), t.arena_.values().data());
    return t;
  }
  /// The same weights in another precision.
  template <class U>
  toy<U> as() const {
    toy<U> t(prediction_, 0);
    for (std::int64_t i = 0; i < arena_.values().size(); ++i)
      t.parameters().values()[i] = static_cast<U>(arena_.values()[i]);
    return t;
  }

  class tape {
   public:
    tape(toy& m, std::vector<toy_call> rows, std::size_t logged)
        : model_(&m), rows_(std::move(rows)), out_(rows_.size() * toy_features), logged_(logged) {
      for (std::size_t i = 0; i < rows_.size(); ++i) model_->forward(rows_[i], &out_[i * toy_features]);
    }
    boot::view<const T, boot::cpu> output() const {
      return {out_.data(), {static_cast<std::int64_t>(rows_.size()), toy_features}};
    }
    void backward(const boot::cpu&, boot::view<const T, boot::cpu> g) {
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        model_->backward(rows_[i], g.data() + i * toy_features);
        if (model_->log != nullptr)
          (*model_->log)[logged_ + i].output_gradient.assign(g.data() + i * toy_features,
                                                             g.data() + (i + 1) * toy_features);
      }
    }

   private:
    toy* model_;
    std::vector<toy_call> rows_;
    std::vector<T> out_;
    std::size_t logged_;
  };

  template <class C>
  void predict(const boot::cpu&, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& from,
               const boot::times<boot::cpu, T>& to, const C& condition, boot::view<T, boot::cpu> out) const {
    const auto rows = calls(false, x, from, to, condition);
    for (std::size_t i = 0; i < rows.size(); ++i) forward(rows[i], out.data() + i * toy_features);
  }
  template <class C>
  void predict(const boot::cpu& dev, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& t,
               const C& condition, boot::view<T, boot::cpu> out) const {
    predict(dev, x, t, t, condition, out);
  }
  template <class C>
  tape record(const boot::cpu&, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& from,
              const boot::times<boot::cpu, T>& to, const C& condition) {
    const std::size_t logged = log == nullptr ? 0 : log->size();
    return {*this, calls(true, x, from, to, condition), logged};
  }
  boot::parameter_arena<T, boot::cpu>& parameters() { return arena_; }
  const boot::parameter_arena<T, boot::cpu>& parameters() const { return arena_; }
  boot::prediction prediction() const { return prediction_; }
  boot::shape sample_shape() const { return {toy_features}; }

  /// One row, for the reference.
  vec output(const vec& x, double from, double to, int label) const {
    std::vector<T> out(toy_features);
    forward({false, x, from, to, label, {}}, out.data());
    return {out.begin(), out.end()};
  }
  /// Adds one row's gradient, for the reference.
  void add_gradient(const vec& x, double from, double to, int label, const vec& g) {
    const std::vector<T> cast(g.begin(), g.end());
    backward({false, x, from, to, label, {}}, cast.data());
  }

  log_type* log = nullptr;

 private:
  template <class C>
  std::vector<toy_call> calls(bool recorded, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& from,
                              const boot::times<boot::cpu, T>& to, const C& condition) const {
    std::vector<toy_call> rows;
    for (std::int64_t i = 0; i < x.batch(); ++i) {
      int label = -1;
      if constexpr (boot::has_condition<boot::class_labels<boot::cpu>, C>)
        label = boot::condition_part<boot::class_labels<boot::cpu>>(condition)[i];
      const T* at = x.data() + i * toy_features;
      rows.push_back({recorded, vec(at, at + toy_features), from.time[i], to.time[i], label, {}});
    }
    if (log != nullptr) log->insert(log->end(), rows.begin(), rows.end());
    return rows;
  }
  T p(const boot::parameter& q, std::int64_t i) const { return arena_.values()[q.offset + i]; }
  T hidden(const toy_call& c, int k) const {
    T z = p(net_.u, k) * static_cast<T>(c.t_source) + p(net_.v, k) * static_cast<T>(c.t_target) +
          p(net_.e, (c.label + 1) * toy_width + k);
    for (int j = 0; j < toy_features; ++j)
      z += p(net_.w, k * toy_features + j) * static_cast<T>(c.x[static_cast<std::size_t>(j)]) * T(0.3);
    return std::tanh(z);
  }
  void forward(const toy_call& c, T* out) const {
    for (int j = 0; j < toy_features; ++j) {
      T sum = 0;
      for (int k = 0; k < toy_width; ++k) sum += p(net_.out, j * toy_width + k) * hidden(c, k);
      out[j] = sum;
    }
  }
  void backward(const toy_call& c, const T* g) {
    const auto d = arena_.gradient();
    for (int k = 0; k < toy_width; ++k) {
      const T h = hidden(c, k);
      T dh = 0;
      for (int j = 0; j < toy_features; ++j) {
        d[net_.out.offset + j * toy_width + k] += g[j] * h;
        dh += g[j] * p(net_.out, j * toy_width + k);
      }
      const T dz = dh * (1 - h * h);
      d[net_.u.offset + k] += dz * static_cast<T>(c.t_source);
      d[net_.v.offset + k] += dz * static_cast<T>(c.t_target);
      d[net_.e.offset + (c.label + 1) * toy_width + k] += dz;
      for (int j = 0; j < toy_features; ++j)
        d[net_.w.offset + k * toy_features + j] += dz * static_cast<T>(c.x[static_cast<std::size_t>(j)]) * T(0.3);
    }
  }

  toy_network net_;
  boot::prediction prediction_;
  boot::parameter_arena<T, boot::cpu> arena_;
};

// ---- conditions and guidance ----

inline int label_of(std::uint64_t seed, std::int64_t step, std::int64_t sample) {
  return static_cast<int>((static_cast<std::int64_t>(seed) + 5 * step + 2 * sample) % toy_labels);
}

struct toy_labels_source {
  std::vector<std::int32_t> ids;
  boot::class_labels<boot::cpu> operator()(const boot::cpu&, std::uint64_t seed, std::int64_t step,
                                           std::span<const std::int64_t> samples) {
    ids.clear();
    for (const auto i : samples) ids.push_back(label_of(seed, step, i));
    return {{ids.data(), {static_cast<std::int64_t>(ids.size())}}, false};
  }
};

inline double guidance_of(int label) { return 1.5 + 0.5 * label; }

/// A teacher of two outputs; its scale depends on the label.
template <class T>
struct toy_guided {
  const toy<T>* base;
  void predict(const boot::cpu& dev, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& t,
               const boot::class_labels<boot::cpu>& c, boot::view<T, boot::cpu> out) const {
    base->predict(dev, x, t, c, out);
  }
  void predict_pair(const boot::cpu& dev, boot::view<const T, boot::cpu> x, const boot::times<boot::cpu, T>& t,
                    const boot::class_labels<boot::cpu>& c, boot::view<T, boot::cpu> out_c,
                    boot::view<T, boot::cpu> out_n) const {
    base->predict(dev, x, t, c, out_c);
    base->predict(dev, x, t, c.null(), out_n);
  }
  double guidance(const boot::class_labels<boot::cpu>& c, std::int64_t i) const { return guidance_of(c[i]); }
  boot::prediction prediction() const { return base->prediction(); }
  boot::shape sample_shape() const { return base->sample_shape(); }
};

// ---- formulas, written again from the method ----

inline bool has_map(boot::prediction_kind kind, double alpha) {
  return kind != boot::prediction_kind::epsilon || alpha > 0;
}

inline vec clean(const boot::prediction& p, double alpha, double sigma, const vec& x, const vec& out) {
  vec f(x.size());
  for (std::size_t j = 0; j < x.size(); ++j) {
    const double n = alpha * alpha + sigma * sigma, d = p.sigma_data;
    switch (p.kind) {
      case boot::prediction_kind::sample:
        f[j] = out[j];
        break;
      case boot::prediction_kind::epsilon:
        f[j] = (x[j] - sigma * out[j]) / alpha;
        break;
      case boot::prediction_kind::v:
        f[j] = (alpha * x[j] - sigma * out[j]) / n;
        break;
      case boot::prediction_kind::flow:
        f[j] = (x[j] - sigma * out[j]) / (alpha + sigma);
        break;
      case boot::prediction_kind::edm:
        f[j] = d * d / (sigma * sigma + d * d) * x[j] + sigma * d / std::sqrt(sigma * sigma + d * d) * out[j];
        break;
    }
  }
  return f;
}
/// d f / d out.
inline double clean_slope(const boot::prediction& p, double alpha, double sigma) {
  return clean(p, alpha, sigma, {0.0}, {1.0})[0];
}

/// D from the coefficients, with its limit at alpha = 0.
inline double step_between(const any_schedule& s, double t, double u) {
  return s.alpha(t) == 0 ? 1 : 1 - s.alpha(t) * s.sigma(u) / (s.sigma(t) * s.alpha(u));
}
/// 1 + D/ln(1 - D) in extended precision.
inline double heun_between(const any_schedule& s, double t, double u) {
  const long double d = step_between(s, t, u);
  return d >= 1 ? 1.0 : static_cast<double>(1 + d / std::log1p(-d));
}

inline vec noise(std::uint64_t seed, std::int64_t step, std::int64_t sample) {
  vec z(toy_features);
  for (std::size_t e = 0; e < z.size(); ++e)
    z[e] = static_cast<double>(boot::normal({seed, boot::stream::noise, static_cast<std::uint64_t>(step)},
                                            static_cast<std::uint64_t>(sample), e));
  return z;
}

inline vec combine(double a, const vec& x, double b, const vec& y) {
  vec z(x.size());
  for (std::size_t j = 0; j < x.size(); ++j) z[j] = a * x[j] + b * y[j];
  return z;
}

/// The teacher's clean signal: guidance, conversion, clip.
struct teacher_signal {
  const toy<double>* model;
  any_schedule schedule;
  bool labelled = false, guided = false;
  double low = -1e300, high = 1e300;
  vec operator()(const vec& x, double t, int label) const {
    vec out = model->output(x, t, t, labelled ? label : -1);
    if (guided) {
      const vec none = model->output(x, t, t, -1);
      const double w = guidance_of(label);
      for (std::size_t j = 0; j < out.size(); ++j) out[j] = (1 - w) * none[j] + w * out[j];
    }
    vec f = clean(model->prediction(), schedule.alpha(t), schedule.sigma(t), x, out);
    for (double& v : f) v = std::min(std::max(v, low), high);
    return f;
  }
};

/// A distance and its derivative.
struct rho {
  std::function<double(double)> value, derivative;
};
inline rho square() {
  return {[](double r) { return r * r; }, [](double r) { return 2 * r; }};
}
inline rho huber(double c) {
  return {[c](double r) { return 2 * c * (std::sqrt(r * r + c * c) - c); },
          [c](double r) { return 2 * c * r / std::sqrt(r * r + c * c); }};
}

/// One term of a loss: factor times the sum over elements of rho(signal - target), the target a constant.
struct term {
  vec x;
  double t_source, t_target;
  int label;
  boot::prediction kind;
  double alpha, sigma;  ///< of the conversion to the signal
  vec target;
  double factor;
  bool raw = false;  ///< the residual is slope * (output - target) instead
  double slope = 1;
};

inline vec signal_of(const toy<double>& m, const term& q) {
  const vec out = m.output(q.x, q.t_source, q.t_target, q.label);
  return q.raw ? combine(q.slope, out, 0, out) : clean(q.kind, q.alpha, q.sigma, q.x, out);
}

inline double loss_of(const toy<double>& m, const std::vector<term>& terms, const rho& distance) {
  double sum = 0;
  for (const auto& q : terms) {
    const vec y = signal_of(m, q);
    for (std::size_t j = 0; j < y.size(); ++j)
      sum += q.factor * distance.value(y[j] - (q.raw ? q.slope : 1) * q.target[j]);
  }
  return sum;
}

/// The gradient by hand down to the network's output, then by the network's own backward.
inline vec gradient_of(const toy<double>& m, const std::vector<term>& terms, const rho& distance) {
  toy<double> copy = m.clone(boot::cpu{});
  for (const auto& q : terms) {
    vec g = signal_of(m, q);
    const double slope = q.raw ? q.slope : clean_slope(q.kind, q.alpha, q.sigma);
    for (std::size_t j = 0; j < g.size(); ++j)
      g[j] = q.factor * slope * distance.derivative(g[j] - (q.raw ? q.slope : 1) * q.target[j]);
    copy.add_gradient(q.x, q.t_source, q.t_target, q.label, g);
  }
  const auto d = copy.parameters().gradient();
  return {d.data(), d.data() + d.size()};
}

/// Slope of the loss along a direction by central differences, the targets frozen.
inline double slope_along(const toy<double>& m, const std::vector<term>& terms, const rho& distance,
                          const vec& direction) {
  const double h = 1e-5;
  const auto at = [&](double step) {
    toy<double> moved = m.clone(boot::cpu{});
    for (std::size_t i = 0; i < direction.size(); ++i)
      moved.parameters().values()[static_cast<std::int64_t>(i)] += step * direction[i];
    return loss_of(moved, terms, distance);
  };
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

inline vec random_direction(std::size_t n, std::uint64_t seed) {
  vec d(n);
  for (std::size_t i = 0; i < n; ++i) d[i] = static_cast<double>(boot::normal({seed, boot::stream::test, 0}, 0, i));
  return d;
}

inline double norm(const vec& v) {
  double s = 0;
  for (const double x : v) s += x * x;
  return std::sqrt(s);
}
inline double dot(const vec& a, const vec& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}
/// |a - b| / |b|.
inline double relative_difference(const vec& a, const vec& b) {
  return norm(combine(1, a, -1, b)) / std::max(norm(b), 1e-300);
}

/// Runs an objective on a fresh gradient filled with `before` and returns what it added.
template <class O>
vec run(O& objective, const boot::batch_request& request, boot::loss_report& report, double before = 0) {
  using T = typename O::scalar_type;
  const auto g = objective.student().parameters().gradient();
  std::fill_n(g.data(), g.size(), static_cast<T>(before));
  report = objective(boot::cpu{}, request);
  vec added(static_cast<std::size_t>(g.size()));
  for (std::size_t i = 0; i < added.size(); ++i)
    added[i] = static_cast<double>(g[static_cast<std::int64_t>(i)]) - before;
  return added;
}

/// The recorded rows of a log, sorted by what identifies a sample (its input's bits, then its times).
inline std::vector<toy_call> recorded_rows(const std::vector<toy_call>& log) {
  std::vector<toy_call> rows;
  for (const auto& c : log)
    if (c.recorded) rows.push_back(c);
  std::sort(rows.begin(), rows.end(), [](const toy_call& a, const toy_call& b) {
    return std::tie(a.x, a.t_source, a.t_target) < std::tie(b.x, b.t_source, b.t_target);
  });
  return rows;
}
inline bool same_rows(const std::vector<toy_call>& a, const std::vector<toy_call>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].x != b[i].x || a[i].t_source != b[i].t_source || a[i].t_target != b[i].t_target ||
        a[i].label != b[i].label || a[i].output_gradient != b[i].output_gradient)
      return false;
  return true;
}

/// Every prediction kind; epsilon only where it has a map at the noise end.
inline std::vector<boot::prediction_kind> kinds_for(const any_schedule& s) {
  using enum boot::prediction_kind;
  std::vector<boot::prediction_kind> kinds{sample, v, flow, edm};
  if (s.alpha(s.high) > 0) kinds.push_back(epsilon);
  return kinds;
}

/// A teacher and a student on the schedule of this name, with weights from `seed` and `seed` + 1.
template <std::uint64_t seed>
struct toy_pair {
  any_schedule schedule;
  toy<double> teacher, student;
  toy_pair(const std::string& name, boot::prediction_kind teacher_kind, boot::prediction_kind student_kind)
      : schedule(schedule_called(name)), teacher({teacher_kind}, seed), student({student_kind}, seed + 1) {}
  template <class Options>
  teacher_signal signal(const Options& o, bool labelled, bool guided = false) const {
    return {&teacher, schedule, labelled, guided, o.limits.low, o.limits.high};
  }
};

/// An objective's gradient against that by hand, and that by hand against differences of the frozen-target loss.
inline void check_gradient(const vec& gradient, const toy<double>& student, const std::vector<term>& terms,
                           const rho& distance, double tolerance) {
  CHECK(relative_difference(gradient, gradient_of(student, terms, distance)) <= tolerance);
  for (std::uint64_t k = 0; k < 2; ++k) {
    const vec direction = random_direction(gradient.size(), 40 + k);
    CHECK(std::abs(dot(gradient, direction) - slope_along(student, terms, distance, direction)) <=
          1e-7 * norm(gradient) * norm(direction));
  }
}

/// The whole request against its samples before and from `cut` on, the second part first: losses and gradients add up,
/// and inputs, times, labels and dL/d output of every sample have equal bits, so the targets had. Returns both losses.
template <class O>
std::pair<boot::loss_report, boot::loss_report> check_halves(O& objective, const boot::batch_request& whole,
                                                             std::int64_t cut) {
  auto first = whole, second = whole;
  first.count = second.first = cut;
  second.count = whole.count - cut;
  toy<double>::log_type one, two;
  boot::loss_report all, half, other;
  objective.student().log = &one;
  const vec g = run(objective, whole, all, 0.25);  // a gradient that is not empty: it is added to, not written
  objective.student().log = &two;
  vec h = run(objective, second, half);
  h = combine(1, h, 1, run(objective, first, other));
  objective.student().log = nullptr;
  half += other;
  CHECK_THAT(half.total, Catch::Matchers::WithinRel(all.total, 1e-13));
  CHECK(relative_difference(h, g) <= 1e-12);
  CHECK(recorded_rows(one).size() == static_cast<std::size_t>(whole.count));
  CHECK(same_rows(recorded_rows(one), recorded_rows(two)));
  return {all, half};
}

}  // namespace objective_reference
