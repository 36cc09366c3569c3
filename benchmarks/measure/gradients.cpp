// SPDX-License-Identifier: MIT
// Every layer, model and objective in float64 against finite differences. A layer or model: dL/d parameters of a random
// loss through its tape (an input counts as a parameter). An objective: its reported loss and its gradient against this
// file's own float64 loss, whose targets are computed once and then held, as the stop-gradients say.
#include "measure/measure.hpp"

#include <boot/kernel/cpu/noise.hpp>
#include <boot/model/dit.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/mlp.hpp>
#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/objective/progressive_distillation.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using boot::testing::gradient_report;
using device = boot::cpu;
using graph = boot::graph<double, device>;
using value = graph::value;
using model = boot::network_model<boot::mlp, device, double>;
using matrix_view = boot::view<const double, device>;
using times_type = boot::times<device, double>;

struct collector {
  boot::measure::measure_report& report;
  double worst = 0;
  std::string worst_case;
  int cases = 0;
  std::int64_t elements = 0;

  void add(const std::string& name, const gradient_report& r) {
    report.beside(name, fmt::format("{:.2e} (tensor {} {:.1e}, directions {:.1e}, {} elements)", r.worst, r.worst_name,
                                    r.worst_tensor, r.worst_direction, r.elements));
    take(name, r.worst);
    elements += r.elements;
  }
  void take(const std::string& name, double off) {
    ++cases;
    if (!(off <= worst)) worst = off, worst_case = name;
  }
};

std::vector<double> numbers(std::int64_t n, std::uint64_t what, double factor = 1) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = factor * static_cast<double>(boot::normal(boot::counter_key{99, boot::stream::test, what}, 1, i));
  return v;
}

// A layer with the input as one more parameter, so that the gradient of the input is checked as well.
template <class Layer>
struct with_input {
  boot::parameter x, z;
  Layer layer;
  template <class V>
  void visit(V& v) {
    v("x", x);
    if (z.extents.rank() > 0) v("z", z);
    if constexpr (requires { layer.visit(v); }) v("layer", layer);
  }
};
struct nothing {};

void layers(collector& all, const boot::testing::gradient_check_options& options) {
  const device dev;
  const auto check = [&]<class Layer>(const std::string& name, Layer layer, boot::shape x, boot::shape z,
                                      const auto& code) {
    with_input<Layer> net{{x, {}}, {z, {}}, std::move(layer)};
    all.add(name, boot::testing::check_graph_gradient(
                      dev, net, [&](graph& g) { return code(g, net); }, options));
  };
  for (const std::int64_t batch : {1, 5})
    for (const std::int64_t in : {1, 7}) {
      const std::string size = fmt::format(" {}x{}", batch, in);
      check("linear" + size, boot::linear(in, 3), {batch, in}, {},
            [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
      check("silu" + size, nothing{}, {batch, in}, {}, [](graph& g, auto& n) { return boot::silu(g, g(n.x)); });
      check("concat" + size, nothing{}, {batch, in}, {batch, 4},
            [](graph& g, auto& n) { return boot::concat(g, g(n.x), g(n.z)); });
      check("add" + size, nothing{}, {batch, in}, {batch, in},
            [](graph& g, auto& n) { return boot::add(g, g(n.x), g(n.z)); });
      check("add broadcast" + size, nothing{}, {batch, in}, {1, in},
            [](graph& g, auto& n) { return boot::silu(g, boot::add(g, g(n.x), g(n.z))); });
    }
  for (const std::int64_t width : {2, 9})
    check(fmt::format("layer norm {}", width), boot::layer_norm(width), {4, width}, {},
          [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
  check("linear of rank 3", boot::linear(5, 2), {2, 3, 5}, {}, [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
  check("residual", boot::linear(6, 6), {3, 6}, {}, [](graph& g, auto& n) {
    return boot::residual(g, g(n.x), [&n](graph& q, const value& h) { return boot::silu(q, n.layer(q, h)); });
  });
  check("a value used three times", boot::linear(4, 4), {3, 4}, {}, [](graph& g, auto& n) {
    const value h = n.layer(g, g(n.x));
    return boot::concat(g, boot::add(g, h, h), boot::silu(g, h));
  });
  const std::vector<double> factors = numbers(3, 7);
  check("scale rows", nothing{}, {3, 4}, {}, [&factors](graph& g, auto& n) {
    return g.apply(boot::scale_rows_op<device, double>{factors.data()}, boot::silu(g, g(n.x)));
  });
  const std::array<std::int32_t, 5> ids{2, 0, -1, 2, 1};
  const boot::class_labels<device> labels{{ids.data(), {5}}};
  check("class embedding", boot::class_embedding(3, 4), {5, 4}, {},
        [&labels](graph& g, auto& n) { return boot::add(g, g(n.x), n.layer(g, labels)); });
  const std::vector<double> t{0.3, 2.5, 0.3, 1.0};
  const std::vector<double> one{2.5, 2.5, 2.5, 2.5};
  for (const bool uniform : {false, true})
    for (const bool flip : {false, true}) {
      const std::vector<double>& at = uniform ? one : t;
      const times_type when{{at.data(), {4}}, {at.data(), {4}}, {}, uniform};
      check(fmt::format("time embedding{}{}", uniform ? " uniform" : "", flip ? " cosines first" : ""),
            boot::time_embedding(
                {.features = 7, .flip_sin_to_cos = flip, .freq_shift = flip ? 0.0 : 1.0, .max_period = 50}, 6),
            {4, 6}, {}, [&when](graph& g, auto& n) { return boot::add(g, g(n.x), n.layer(g, when)); });
    }
}

// Layers on images [batch, height, width, channels] and tokens: odd sizes, one sample, one channel.
void image_layers(collector& all, const boot::testing::gradient_check_options& options) {
  const device dev;
  const auto check = [&]<class Layer>(const std::string& name, Layer layer, boot::shape x, boot::shape z,
                                      std::type_identity_t<std::function<value(graph&, with_input<Layer>&)>> code) {
    with_input<Layer> net{{x, {}}, {z, {}}, std::move(layer)};
    const std::function<value(graph&)> run = [&](graph& g) { return code(g, net); };  // one type: compiled once a layer
    all.add(name, boot::testing::check_graph_gradient(dev, net, run, options));
  };
  for (const std::int64_t kernel : {1, 3})
    for (const std::int64_t stride : {1, 2})
      for (const boot::conv_padding padding : {boot::conv_padding::same, boot::conv_padding::end})
        for (const std::int64_t channels : {1, 3})
          check(fmt::format("convolution {}x{} stride {}{}, {} channels", kernel, kernel, stride,
                            padding == boot::conv_padding::end ? " padded at the end" : "", channels),
                boot::conv2d({.in = channels, .out = 4, .kernel = kernel, .stride = stride, .padding = padding}),
                {channels, 5, 4, channels}, {}, [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
  for (const std::int64_t batch : {1, 3}) {
    const std::string of = fmt::format(", batch {}", batch);
    check("group norm" + of, boot::group_norm(2, 6), {batch, 3, 2, 6}, {},
          [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
    check("group norm, SiLU" + of, boot::group_norm(3, 6), {batch, 5, 6}, {},
          [](graph& g, auto& n) { return n.layer.silu(g, g(n.x)); });
    for (const std::int64_t rows : {std::int64_t{1}, batch})
      check(fmt::format("group norm, SiLU, scale and shift of {}{}", rows, of), boot::group_norm(1, 4),
            {batch, 3, 3, 4}, {rows, 8}, [](graph& g, auto& n) { return n.layer.silu(g, g(n.x), g(n.z)); });
    check("attention over itself" + of, boot::attention_layer({.width = 6, .heads = 2}), {batch, 3, 3, 6}, {},
          [](graph& g, auto& n) { return n.layer(g, g(n.x)); });
    const std::vector<std::uint8_t> mask{1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0};
    check("attention to masked tokens" + of,
          boot::attention_layer({.width = 6, .heads = 3, .context = 5, .bias = false}), {batch, 7, 6}, {batch, 4, 5},
          [&mask, batch](graph& g, auto& n) {
            return n.layer(g, g(n.x), g(n.z), boot::view<const std::uint8_t, device>(mask.data(), {batch, 4}));
          });
    check("add to channels" + of, nothing{}, {batch, 2, 3, 4}, {batch, 4},
          [](graph& g, auto& n) { return boot::add_channels(g, g(n.x), g(n.z)); });
    check("modulation" + of, nothing{}, {batch, 5, 4}, {batch, 4}, [](graph& g, auto& n) {
      const value z = g(n.z), x = boot::normalise(g, g(n.x));
      return boot::gate_add(g, g(n.x), boot::modulate(g, x, z, boot::silu(g, z)), boot::gelu(g, z));
    });
    check("part of the channels" + of, nothing{}, {batch, 6}, {},
          [](graph& g, auto& n) { return boot::take_channels(g, g(n.x), 1, 3); });
    check("patches and positions" + of, nothing{}, {batch, 4, 6, 3}, {}, [](graph& g, auto& n) {
      return boot::from_patches(g, boot::add_positions(g, boot::to_patches(g, g(n.x), 2), 3), 2);
    });
    check("GELU" + of, nothing{}, {batch, 7}, {}, [](graph& g, auto& n) { return boot::gelu(g, g(n.x)); });
    check("GELU by tanh" + of, nothing{}, {batch, 7}, {}, [](graph& g, auto& n) { return boot::gelu_tanh(g, g(n.x)); });
    check("GEGLU" + of, nothing{}, {batch, 3, 10}, {}, [](graph& g, auto& n) { return boot::geglu(g, g(n.x)); });
    check("upsampling" + of, nothing{}, {batch, 3, 2, 3}, {},
          [](graph& g, auto& n) { return boot::upsample_nearest(g, g(n.x)); });
    check("average pooling" + of, nothing{}, {batch, 4, 6, 3}, {},
          [](graph& g, auto& n) { return boot::average_pool(g, g(n.x)); });
    check("recomputed block" + of, boot::linear(4, 4), {batch, 4}, {}, [](graph& g, auto& n) {
      const value h = boot::recompute(g, std::cref(n.layer), g(n.x));
      return boot::add(g, h, boot::recompute(g, std::cref(n.layer), boot::silu(g, h)));
    });
  }
}

boot::mlp_options network_options(bool target) {
  boot::mlp_options o;
  o.features = 3;
  o.width = 10;
  o.hidden_layers = 3;
  o.time = {.features = 8, .max_period = 100};
  o.time_scale = 5;
  o.target_time = target;
  return o;
}

// Fresh parameters everywhere: what starts at zero would hide its mistakes.
template <class Network>
void fill(boot::network_model<Network, device, double>& m, std::uint64_t what) {
  for (std::size_t p = 0; p < m.parameters().layout().entries().size(); ++p) {
    const auto to = m.parameters().value(static_cast<int>(p));
    const std::vector<double> v = numbers(to.size(), what + p, 0.35);
    for (std::int64_t i = 0; i < to.size(); ++i) to[i] = v[static_cast<std::size_t>(i)];
  }
}

void models(collector& all, const boot::testing::gradient_check_options& options) {
  const device dev;
  const std::int64_t batch = 4;
  const std::vector<double> x = numbers(batch * 3, 1);
  const matrix_view samples{x.data(), {batch, 3}};
  const std::vector<double> targets{0.1, 0.5, 0.5, 0.93}, scales{1, 2.5, 3, 1.5};
  const std::array<std::int32_t, 4> ids{1, -1, 0, 1};
  const boot::class_labels<device> labels{{ids.data(), {batch}}};
  const boot::guidance_scale<device, double> guidance{{scales.data(), {batch}}};
  const auto check = [&](const std::string& name, const boot::mlp_options& o, const auto& condition) {
    model m(dev, boot::mlp(o), {boot::prediction_kind::v}, 3);
    fill(m, 100);
    boot::times_buffer<device, double> from, to;
    all.add(name, boot::testing::check_student_gradient(dev, m, samples, from.set(dev, m, 1.0, batch),
                                                        to.set(dev, m, targets), condition, options));
  };
  check("mlp", network_options(false), boot::no_condition{});
  check("mlp student", network_options(true), boot::no_condition{});
  boot::mlp_options o = network_options(true);
  o.classes = 2;
  check("mlp with classes", o, labels);
  o.normalise = true;
  o.hidden_layers = 2;
  check("mlp with classes and layer norm", o, labels);
  o.guidance_scale_input = 0.7;
  check("mlp with classes and guidance scale", o, boot::conditions(labels, guidance));
  o = network_options(true);
  o.hidden_layers = 1;
  check("mlp of one layer", o, boot::no_condition{});
}

// The networks of published models, small, as students with every embedding they may have.
void image_models(collector& all, const boot::testing::gradient_check_options& given) {
  const device dev;
  boot::testing::gradient_check_options options = given;
  constexpr std::int64_t most = 6;  // of a parameter: hundreds of them, and each element is two runs of the network
  options.most_per_parameter = given.most_per_parameter > 0 ? std::min(given.most_per_parameter, most) : most;
  const std::array<std::int32_t, 2> ids{1, -1};
  const std::vector<double> scales{1, 2.5}, targets{0.1, 0.93};
  const boot::class_labels<device> labels{{ids.data(), {2}}};
  const boot::conditions condition(labels, boot::guidance_scale<device, double>{{scales.data(), {2}}});
  const auto check = [&](const std::string& name, auto network) {
    boot::network_model<decltype(network), device, double> m(dev, std::move(network), {boot::prediction_kind::v}, 3);
    fill(m, 500);
    const boot::shape all_samples = m.sample_shape().batched(2);
    const std::vector<double> x = numbers(all_samples.size(), 9);
    boot::times_buffer<device, double> from, to;
    all.add(name,
            boot::testing::check_student_gradient(dev, m, matrix_view{x.data(), all_samples}, from.set(dev, m, 1.0, 2),
                                                  to.set(dev, m, targets), condition, options));
  };
  using level = boot::unet2d_level;
  boot::unet2d_options o;
  o.height = 4;
  o.width = 6;
  o.in_channels = o.out_channels = 2;
  o.block_channels = {4, 8};
  o.down = {level::plain, level::attention};
  o.up = {level::attention, level::plain};
  o.layers_per_block = 1;
  o.norm_num_groups = 2;
  o.attention_head_dim = 4;
  o.time_scale = 5;
  o.target_time = true;
  o.classes = 3;
  o.guidance_scale_input = 0.7;
  check("unet2d", boot::unet2d(o));
  o.recompute = true;
  check("unet2d, recomputed blocks", boot::unet2d(o));
  o.recompute = false;
  o.time_scale_shift = true;
  o.downsample_padding = false;
  o.down = {level::resnet, level::attention};
  o.up = {level::attention, level::resnet};
  check("unet2d, scale and shift, resampling blocks", boot::unet2d(o));
  boot::dit_options d;
  d.height = d.width = 4;
  d.in_channels = 2;
  d.heads = 2;
  d.head_dim = 6;
  d.layers = 2;
  d.classes = 3;
  d.time_scale = 5;
  d.target_time = true;
  d.guidance_scale_input = 0.7;
  check("dit", boot::dit(d));
}

// f = a x + b out, this file's own.
struct affine {
  double a, b;
};
affine clean_map(boot::prediction_kind kind, double alpha, double sigma) {
  switch (kind) {
    case boot::prediction_kind::sample:
      return {0, 1};
    case boot::prediction_kind::epsilon:
      return {1 / alpha, -sigma / alpha};
    case boot::prediction_kind::v:
      return {alpha / (alpha * alpha + sigma * sigma), -sigma / (alpha * alpha + sigma * sigma)};
    case boot::prediction_kind::flow:
      return {1 / (alpha + sigma), -sigma / (alpha + sigma)};
    case boot::prediction_kind::edm: {
      const double s = 0.5;
      return {s * s / (s * s + sigma * sigma), sigma * s / std::sqrt(s * s + sigma * sigma)};
    }
  }
  return {0, 0};
}

// What an objective's reference needs: the teacher's clean signal and the student's, one sample at a time, in float64.
template <class Schedule>
struct bench {
  device dev;
  const model& teacher;
  model& student;
  const Schedule& schedule;

  std::vector<double> raw(const model& m, const std::vector<double>& x, double t, double target) const {
    std::vector<double> out(x.size());
    const auto n = static_cast<std::int64_t>(x.size());
    boot::times_buffer<device, double> from, to;
    m.predict(dev, matrix_view{x.data(), {1, n}}, from.set(dev, m, t, 1), to.set(dev, m, target, 1),
              boot::no_condition{}, boot::view<double, device>{out.data(), {1, n}});
    return out;
  }
  std::vector<double> signal(const model& m, const std::vector<double>& x, double t, double target) const {
    const affine k = clean_map(m.prediction().kind, schedule.alpha(t), schedule.sigma(t));
    std::vector<double> f = raw(m, x, t, target);
    for (std::size_t j = 0; j < f.size(); ++j) f[j] = k.a * x[j] + k.b * f[j];
    return f;
  }
  std::vector<double> f(const std::vector<double>& x, double t) const { return signal(teacher, x, t, t); }
  std::vector<double> start(const std::vector<double>& eps) const {
    std::vector<double> x = eps;
    for (double& v : x) v *= schedule.sigma(schedule.t_max());
    return x;
  }
  std::vector<double> y(const std::vector<double>& eps, double t) const {
    return signal(student, start(eps), schedule.t_max(), t);
  }
  std::vector<double> noised(const std::vector<double>& clean, const std::vector<double>& eps, double t) const {
    std::vector<double> x = eps;
    for (std::size_t j = 0; j < x.size(); ++j) x[j] = schedule.alpha(t) * clean[j] + schedule.sigma(t) * eps[j];
    return x;
  }
};

// One term of a frozen-target loss: weight * mean over elements of rho(y(eps, t) - target).
struct term {
  std::vector<double> eps, target;
  double t, weight;
};

double huber(double r, double c) { return c > 0 ? 2 * c * (std::sqrt(r * r + c * c) - c) : r * r; }

template <class Schedule>
double frozen_loss(const bench<Schedule>& b, const std::vector<term>& terms, double c) {
  double sum = 0;
  for (const term& one : terms) {
    const std::vector<double> y = b.y(one.eps, one.t);
    double mean = 0;
    for (std::size_t j = 0; j < y.size(); ++j) mean += huber(y[j] - one.target[j], c) / static_cast<double>(y.size());
    sum += one.weight * mean;
  }
  return sum;
}

struct setting {
  std::string name;
  boot::bootstrap_options options;
  double huber = 0;
  boot::prediction_kind teacher = boot::prediction_kind::v, student = boot::prediction_kind::v;
};

// The terms of BOOT's loss with its targets as they are now.
template <class Schedule>
std::vector<term> bootstrap_terms(const bench<Schedule>& b, const setting& s, const boot::batch_request& r) {
  std::vector<term> terms;
  const double t_max = b.schedule.t_max(), t_min = b.schedule.t_min(), delta = s.options.delta * (t_max - t_min);
  const double share = s.options.boundary_weight > 0 ? s.options.boundary_fraction : 0;
  std::int64_t edge = 0;
  std::vector<bool> boundary;
  for (std::int64_t i = 0; i < r.count; ++i) {
    const bool is = std::floor(static_cast<double>(i + 1) * share) > std::floor(static_cast<double>(i) * share);
    boundary.push_back(is);
    edge += is ? 1 : 0;
  }
  const auto clipped = [&](std::vector<double> f) {
    for (double& v : f) v = std::min(std::max(v, s.options.limits.low), s.options.limits.high);
    return f;
  };
  for (std::int64_t i = 0; i < r.count; ++i) {
    const auto sample = static_cast<std::uint64_t>(i);
    std::vector<double> eps(3);
    for (std::size_t j = 0; j < 3; ++j)
      eps[j] = static_cast<double>(
          boot::normal(boot::counter_key{r.seed, boot::stream::noise, static_cast<std::uint64_t>(r.step)}, sample, j));
    if (boundary[static_cast<std::size_t>(i)]) {
      terms.push_back(
          {eps, clipped(b.f(b.start(eps), t_max)), t_max, s.options.boundary_weight / static_cast<double>(edge)});
      continue;
    }
    const double u = boot::uniform_double(
        boot::counter_key{r.seed, boot::stream::time, static_cast<std::uint64_t>(r.step)}, sample, 0);
    double position = u;
    if (s.options.time.own) position = s.options.time.own(u, r.progress);
    if (s.options.time.kind == boot::time_distribution::progressive) {
      const double low = std::max(0.0, 1 - r.progress / s.options.time.progressive_until);
      position = low + (1 - low) * u;
    }
    double t = t_min + position * (t_max - t_min), to = t - delta;
    if (to < t_min) to = t_min, t = t_min + delta;
    const double at = b.schedule.alpha(t), st = b.schedule.sigma(t), as = b.schedule.alpha(to),
                 ss = b.schedule.sigma(to);
    const double d = 1 - at * ss / (st * as);
    const std::vector<double> now = b.y(eps, t), f1 = clipped(b.f(b.noised(now, eps, t), t));
    std::vector<double> target = now;
    for (std::size_t j = 0; j < 3; ++j) target[j] += d * (f1[j] - now[j]);
    if (s.options.target == boot::target_solver::heun) {
      const std::vector<double> f2 = clipped(b.f(b.noised(target, eps, to), to));
      for (std::size_t j = 0; j < 3; ++j) target[j] += (1 + d / std::log1p(-d)) * (f2[j] - f1[j]);
    }
    double weight = 1 / std::abs(d);
    if (s.options.weight == boot::weighting::exact) weight = 1 / (d * d);
    if (s.options.weight == boot::weighting::paper) {
      constexpr double h = 1e-5;
      const auto lambda = [&](double q) { return std::log(b.schedule.sigma(q) / b.schedule.alpha(q)); };
      const double slope = (8 * (lambda(t + h) - lambda(t - h)) - (lambda(t + 2 * h) - lambda(t - 2 * h))) / (12 * h);
      weight = 1 / (slope * slope * delta * delta);
    }
    if (s.options.own_weight) weight = s.options.own_weight({t, to, d, 0, t - to, r.progress});
    terms.push_back({eps, target, to, weight / static_cast<double>(r.count - edge)});
  }
  return terms;
}

template <class Schedule, class Distance>
void bootstrap_case(collector& all, const Schedule& schedule, const setting& s, Distance distance,
                    const boot::testing::gradient_check_options& options) {
  const device dev;
  model teacher(dev, boot::mlp(network_options(false)), {s.teacher}, 1);
  model student(dev, boot::mlp(network_options(true)), {s.student}, 2);
  fill(teacher, 1000);
  fill(student, 2000);
  boot::bootstrap<model, model, Schedule, boot::no_condition_source, Distance> objective(teacher, student, schedule,
                                                                                         s.options, {}, distance);
  const boot::batch_request request{.seed = 17, .step = 3, .first = 0, .count = 12, .total = 12, .progress = 0.4};
  boot::fill_zero(dev, student.parameters().gradient());
  // In two parts: what a batch that is cut adds up to must be the gradient of the whole.
  boot::batch_request part = request;
  part.count = 7;
  boot::loss_report loss = objective(dev, part);
  part.first = 7;
  part.count = 5;
  loss += objective(dev, part);

  const bench<Schedule> b{dev, teacher, student, schedule};
  const std::vector<term> terms = bootstrap_terms(b, s, request);
  const double expected = frozen_loss(b, terms, s.huber);
  all.take(s.name + ", loss", std::abs(loss.total - expected) / std::abs(expected));
  all.add(s.name, boot::testing::compare_gradient(
                      dev, student.parameters(), [&] { return frozen_loss(b, terms, s.huber); }, options));
}

std::vector<double> noise_of(const boot::batch_request& r, std::int64_t sample) {
  std::vector<double> eps(3);
  for (std::size_t j = 0; j < 3; ++j)
    eps[j] = static_cast<double>(
        boot::normal(boot::counter_key{r.seed, boot::stream::noise, static_cast<std::uint64_t>(r.step)},
                     static_cast<std::uint64_t>(sample), j));
  return eps;
}

// A teacher and a student of the same kind, and the comparison with terms computed before anything moves.
template <class Schedule>
struct pair_of_models {
  model teacher{device{}, boot::mlp(network_options(false)), {boot::prediction_kind::v}, 1};
  model student{device{}, boot::mlp(network_options(true)), {boot::prediction_kind::v}, 2};
  Schedule schedule{};
  pair_of_models() {
    fill(teacher, 1000);
    fill(student, 2000);
    boot::fill_zero(device{}, student.parameters().gradient());
  }
  [[nodiscard]] bench<Schedule> reference() { return {device{}, teacher, student, schedule}; }
  void compare(collector& all, const std::string& name, double loss, const std::vector<term>& terms,
               const boot::testing::gradient_check_options& options) {
    const auto b = reference();
    const double expected = frozen_loss(b, terms, 0);
    all.take(name + ", loss", std::abs(loss - expected) / std::abs(expected));
    all.add(name, boot::testing::compare_gradient(
                      device{}, student.parameters(), [&] { return frozen_loss(b, terms, 0); }, options));
  }
};

const boot::batch_request whole{.seed = 17, .step = 3, .first = 0, .count = 12, .total = 12, .progress = 0.4};

// Upwind fixed point: y(t) -> f(x^_t, t) + (y(t + h) - y(t)) / (h lambda'), and the boundary where it is not contained.
template <class Schedule>
void fixed_point_case(collector& all, const std::string& name, double dlambda(double), double beta,
                      const boot::testing::gradient_check_options& options) {
  pair_of_models<Schedule> m;
  boot::fixed_point_options o;
  if (beta > 0) o.boundary_weight = beta;
  boot::fixed_point objective(m.teacher, m.student, m.schedule, o);
  const double loss = objective(device{}, whole).total;
  const auto b = m.reference();
  const double t_min = m.schedule.t_min(), t_max = m.schedule.t_max(), h = o.delta * (t_max - t_min);
  std::vector<term> terms;
  for (std::int64_t i = 0; i < whole.count; ++i) {
    const std::vector<double> eps = noise_of(whole, i);
    if (beta > 0 && i % 4 == 3) {
      terms.push_back({eps, b.f(b.start(eps), t_max), t_max, beta / 3});
      continue;
    }
    const double u =
        boot::uniform_double(boot::counter_key{whole.seed, boot::stream::time, 3}, static_cast<std::uint64_t>(i), 0);
    const double t = std::min(t_min + u * (t_max - t_min), t_max - h / 64), next = std::min(t + h, t_max);
    const std::vector<double> y = b.y(eps, t), later = b.y(eps, next);
    std::vector<double> target = b.f(b.noised(y, eps, t), t);
    for (std::size_t j = 0; j < 3; ++j) target[j] += (later[j] - y[j]) / (next - t) / dlambda(t);
    terms.push_back({eps, target, t, 1.0 / (beta > 0 ? 9 : 12)});
  }
  m.compare(all, name, loss, terms, options);
}

// Regression on the endpoint of the teacher's own chain.
void knowledge_case(collector& all, bool heun, const boot::testing::gradient_check_options& options) {
  pair_of_models<boot::cosine_schedule> m;
  boot::knowledge_distillation_options o;
  o.steps = 5;
  o.target = heun ? boot::target_solver::heun : boot::target_solver::euler;
  boot::knowledge_distillation objective(m.teacher, m.student, m.schedule, o);
  const double loss = objective(device{}, whole).total;
  const auto b = m.reference();
  const double t_min = m.schedule.t_min(), t_max = m.schedule.t_max();
  std::vector<term> terms;
  for (std::int64_t i = 0; i < whole.count; ++i) {
    const std::vector<double> eps = noise_of(whole, i);
    std::vector<double> y = b.f(b.start(eps), t_max);
    for (int k = 0; k < 5; ++k) {
      const double t = t_max - (t_max - t_min) * k / 5, s = k == 4 ? t_min : t_max - (t_max - t_min) * (k + 1) / 5;
      const double at = m.schedule.alpha(t), st = m.schedule.sigma(t), as = m.schedule.alpha(s),
                   ss = m.schedule.sigma(s);
      const double d = 1 - at * ss / (st * as);
      const std::vector<double> f1 = b.f(b.noised(y, eps, t), t);
      for (std::size_t j = 0; j < 3; ++j) y[j] += d * (f1[j] - y[j]);
      if (!heun) continue;
      const std::vector<double> f2 = b.f(b.noised(y, eps, s), s);
      for (std::size_t j = 0; j < 3; ++j) y[j] += (d >= 1 ? 1 : 1 + d / std::log1p(-d)) * (f2[j] - f1[j]);
    }
    terms.push_back({eps, y, t_min, 1.0 / 12});
  }
  m.compare(all, heun ? "knowledge distillation, Heun" : "knowledge distillation, Euler", loss, terms, options);
}

// Targets that do not depend on the student (data, a frozen teacher's steps): the reported loss is differentiated as it is.
template <class Objective>
void own_loss_case(collector& all, const std::string& name, Objective& objective, model& student,
                   const boot::testing::gradient_check_options& options) {
  const device dev;
  boot::fill_zero(dev, student.parameters().gradient());
  const boot::batch_request request{.seed = 17, .step = 0, .first = 0, .count = 12, .total = 12, .progress = 0.4};
  static_cast<void>(objective(dev, request));
  all.add(name, boot::testing::compare_gradient(
                    dev, student.parameters(), [&] { return objective(dev, request).total; }, options));
}

void other_objectives(collector& all, const boot::testing::gradient_check_options& options) {
  constexpr double pi = std::numbers::pi;
  fixed_point_case<boot::cosine_schedule>(
      all, "fixed point cosine", [](double t) { return pi / std::sin(pi * t); }, 0, options);
  fixed_point_case<boot::flow_schedule>(
      all, "fixed point flow, boundary", [](double t) { return 1 / (t * (1 - t)); }, 0.7, options);
  fixed_point_case<boot::linear_schedule>(
      all, "fixed point linear, boundary",
      [](double t) {
        const double b = 0.1 * t + 0.5 * 19.9 * t * t, alpha2 = std::exp(-b);
        return 0.5 * (0.1 + 19.9 * t) * (1 + alpha2 / (1 - alpha2));
      },
      0.5, options);
  knowledge_case(all, false, options);
  knowledge_case(all, true, options);
  pair_of_models<boot::cosine_schedule> m;
  boot::progressive_distillation_options o;
  o.first_steps = 4;
  boot::progressive_distillation progressive(m.teacher, m.student, m.schedule, o);
  own_loss_case(all, "progressive distillation", progressive, m.student, options);
  const std::vector<double> data = numbers(9 * 3, 31);
  for (const auto kind : {boot::prediction_kind::v, boot::prediction_kind::sample}) {
    model denoiser(device{}, boot::mlp(network_options(false)), {kind}, 2);
    fill(denoiser, 3000);
    boot::denoising denoising(denoiser, m.schedule, matrix_view{data.data(), {9, 3}});
    own_loss_case(all, fmt::format("denoising, {}", boot::to_string(kind)), denoising, denoiser, options);
  }
}

void objectives(collector& all, const boot::testing::gradient_check_options& options) {
  const boot::cosine_schedule cosine;
  const boot::flow_schedule flow;
  const boot::linear_schedule linear;
  const auto base = [](std::string name) {
    setting s;
    s.name = std::move(name);
    return s;
  };
  const boot::l2_distance l2;
  setting s = base("bootstrap cosine, Euler, upwind");
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap cosine, Heun, exact");
  s.options.target = boot::target_solver::heun;
  s.options.weight = boot::weighting::exact;
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap cosine, Euler, paper, progressive");
  s.options.weight = boot::weighting::paper;
  s.options.time.kind = boot::time_distribution::progressive;
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap cosine, Euler, own weight and time");
  s.options.own_weight = [](const boot::weight_arguments& w) { return 1 + w.t * w.progress / w.step; };
  s.options.time.own = [](double u, double progress) { return u * u * (1 - 0.1 * progress); };
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap cosine, Euler, pseudo-Huber");
  s.huber = 0.4;
  bootstrap_case(all, cosine, s, boot::pseudo_huber_distance{0.4}, options);
  s = base("bootstrap cosine, Heun, pseudo-Huber, clipped");
  s.huber = 0.7;
  s.options.target = boot::target_solver::heun;
  s.options.limits = {-0.4, 0.6};
  bootstrap_case(all, cosine, s, boot::pseudo_huber_distance{0.7}, options);
  s = base("bootstrap cosine, no boundary, sample");
  s.options.boundary_weight = 0;
  s.teacher = s.student = boot::prediction_kind::sample;
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap cosine, boundary alone");
  s.options.boundary_fraction = 1;
  bootstrap_case(all, cosine, s, l2, options);
  s = base("bootstrap flow, Euler, flow");
  s.teacher = s.student = boot::prediction_kind::flow;
  bootstrap_case(all, flow, s, l2, options);
  s = base("bootstrap flow, Heun, sample student");
  s.teacher = boot::prediction_kind::flow;
  s.student = boot::prediction_kind::sample;
  s.options.target = boot::target_solver::heun;
  bootstrap_case(all, flow, s, l2, options);
  s = base("bootstrap linear, Euler, epsilon teacher");
  s.teacher = boot::prediction_kind::epsilon;
  bootstrap_case(all, linear, s, l2, options);
  s = base("bootstrap linear, Heun, exact");
  s.options.target = boot::target_solver::heun;
  s.options.weight = boot::weighting::exact;
  bootstrap_case(all, linear, s, l2, options);
  s = base("bootstrap EDM, Euler, edm");
  s.teacher = s.student = boot::prediction_kind::edm;
  bootstrap_case(all, boot::edm_schedule(boot::edm_options{}), s, l2, options);
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "gradients",
      {{"worst", "<= 1e-6", "relative error of a gradient in float64, over tensors and 8 random directions"}}, {1});
  if (const auto status = report.parse(argc, argv)) return *status;
  collector all{report, 0, {}};
  for (const std::uint64_t seed : report.seeds()) {
    boot::testing::gradient_check_options options;
    options.seed = seed;
    if (report.quick()) options.most_per_parameter = 4;
    layers(all, options);
    image_layers(all, options);
    models(all, options);
    image_models(all, options);
    objectives(all, options);
    other_objectives(all, options);
  }
  report.config("cases", all.cases);
  report.config("elements", all.elements);
  report.row("worst", all.worst, fmt::format("{}; {} cases, {} elements", all.worst_case, all.cases, all.elements));
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
