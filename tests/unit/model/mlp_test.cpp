// SPDX-License-Identifier: MIT
// mlp: the parameters of its PyTorch peer, a plain float64 forward pass, conditions, and students that start as teachers.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/conformance.hpp>
#include <boot/testing/gradient_check.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
template <class T>
using model = boot::network_model<boot::mlp, boot::cpu, T>;
using vector = std::vector<double>;
const boot::cpu dev;

boot::mlp_options small_options() {
  boot::mlp_options o;
  o.features = 5;
  o.width = 12;
  o.hidden_layers = 3;
  o.time.features = 8;
  o.time_scale = 20;
  return o;
}

template <class T>
void fill(model<T>& m, std::uint64_t seed) {
  const auto& entries = m.parameters().layout().entries();
  for (std::size_t p = 0; p < entries.size(); ++p)
    for (std::int64_t i = 0; i < entries[p].extents.size(); ++i)
      m.parameters().value(static_cast<int>(p))[i] =
          static_cast<T>(0.4 * static_cast<double>(boot::normal(boot::counter_key{seed, boot::stream::test, 0}, p,
                                                                static_cast<std::uint64_t>(i))));
}

double silu(double x) { return x / (1 + std::exp(-x)); }

// The network written out, reading parameters by name.
class reference {
 public:
  explicit reference(const model<double>& m) : m_(m) {}

  [[nodiscard]] vector operator()(vector h, double t, const double* target, int label, const double* w) const {
    const auto& o = m_.network().options();
    h = linear("layer_in", h);
    add(h, embed("time_embedding", o.time_scale * t));
    if (target != nullptr) add(h, embed("target_embedding", o.time_scale * *target));
    if (o.classes > 0) {
      const vector table = values("class_embedding.weight");
      const std::size_t row = static_cast<std::size_t>(label < 0 ? o.classes : label), n = h.size();
      for (std::size_t i = 0; i < n; ++i) h[i] += table[row * n + i];
    }
    if (w != nullptr) add(h, embed("guidance_embedding", *w));
    for (std::int64_t i = 0; i + 1 < o.hidden_layers; ++i) h = linear("layers." + std::to_string(i), activate(h, i));
    return linear("layer_out", activate(h, o.hidden_layers - 1));
  }

 private:
  [[nodiscard]] vector values(const std::string& name) const {
    const auto& layout = m_.parameters().layout();
    const int i = layout.find(name);
    REQUIRE(i >= 0);
    const auto& e = layout.entries()[static_cast<std::size_t>(i)];
    const double* p = m_.parameters().values().data() + e.offset;
    return {p, p + e.extents.size()};
  }
  [[nodiscard]] vector linear(const std::string& name, const vector& x) const {
    const vector w = values(name + ".weight");
    vector y = values(name + ".bias");
    for (std::size_t r = 0; r < y.size(); ++r)
      for (std::size_t i = 0; i < x.size(); ++i) y[r] += w[r * x.size() + i] * x[i];
    return y;
  }
  [[nodiscard]] vector embed(const std::string& name, double t) const {
    const auto& s = m_.network().options().time;
    const std::size_t half = static_cast<std::size_t>(s.features) / 2;
    vector e(2 * half);
    for (std::size_t i = 0; i < half; ++i) {
      const double angle =
          t * std::pow(s.max_period, -static_cast<double>(i) / (static_cast<double>(half) - s.freq_shift));
      e[s.flip_sin_to_cos ? i : i + half] = std::cos(angle);
      e[s.flip_sin_to_cos ? i + half : i] = std::sin(angle);
    }
    vector h = linear(name + ".linear_1", e);
    for (double& v : h) v = silu(v);
    return linear(name + ".linear_2", h);
  }
  static void add(vector& h, const vector& x) {
    for (std::size_t i = 0; i < h.size(); ++i) h[i] += x[i];
  }
  [[nodiscard]] vector activate(vector h, std::int64_t layer) const {
    if (m_.network().options().normalise) {
      const vector w = values("norms." + std::to_string(layer) + ".weight"),
                   b = values("norms." + std::to_string(layer) + ".bias");
      double mean = 0, square = 0;
      const double n = static_cast<double>(h.size());
      for (const double v : h) mean += v / n;
      for (const double v : h) square += (v - mean) * (v - mean) / n;
      for (std::size_t i = 0; i < h.size(); ++i) h[i] = (h[i] - mean) / std::sqrt(square + 1e-5) * w[i] + b[i];
    }
    for (double& v : h) v = silu(v);
    return h;
  }
  const model<double>& m_;
};

const std::vector<double> source{0.9, 0.2, 0.2, 0.5}, target{0.1, 0.8, 0.3, 0.3}, scales{1, 4, 2.5, 0};
const std::array<std::int32_t, 4> ids{1, -1, 0, 2};
vector samples() {
  vector x;
  for (int i = 0; i < 20; ++i) x.push_back(std::sin(1.3 * i));
  return x;
}

template <class C>
void compare(const boot::mlp_options& o, const C& condition) {
  model<double> m(dev, boot::mlp(o), {boot::prediction_kind::v});
  fill(m, 4);
  const vector x = samples();
  boot::times_buffer<boot::cpu, double> from, to;
  boot::tensor<double, boot::cpu> out(dev, {4, 5});
  m.predict(dev, {x.data(), {4, 5}}, from.set(dev, m, source), to.set(dev, m, target), condition, out.get());
  const reference expected(m);
  for (std::size_t i = 0; i < 4; ++i) {
    const double w = o.guidance_scale_input * scales[i];  // read as this times w
    const vector y =
        expected({x.begin() + static_cast<std::ptrdiff_t>(5 * i), x.begin() + static_cast<std::ptrdiff_t>(5 * i + 5)},
                 source[i], o.target_time ? &target[i] : nullptr, ids[i], o.guidance_scale_input > 0 ? &w : nullptr);
    for (std::size_t j = 0; j < 5; ++j)
      CHECK(out.get()[static_cast<std::int64_t>(5 * i + j)] == Catch::Approx(y[j]).epsilon(1e-11));
  }
}

}  // namespace

TEST_CASE("the parameters of the PyTorch network: names, shapes and number", "[model][mlp]") {
  boot::mlp_options o;
  o.features = 64;
  boot::mlp network(o);
  const boot::parameter_layout teacher(network);
  const std::map<std::string, boot::shape> expected{{"time_embedding.linear_1.weight", {512, 128}},
                                                    {"time_embedding.linear_1.bias", {512}},
                                                    {"time_embedding.linear_2.weight", {512, 512}},
                                                    {"time_embedding.linear_2.bias", {512}},
                                                    {"layer_in.weight", {512, 64}},
                                                    {"layer_in.bias", {512}},
                                                    {"layers.0.weight", {512, 512}},
                                                    {"layers.0.bias", {512}},
                                                    {"layers.1.weight", {512, 512}},
                                                    {"layers.1.bias", {512}},
                                                    {"layers.2.weight", {512, 512}},
                                                    {"layers.2.bias", {512}},
                                                    {"layer_out.weight", {64, 512}},
                                                    {"layer_out.bias", {64}}};
  CHECK(teacher.entries().size() == expected.size());
  for (const auto& [name, extents] : expected) {
    INFO(name);
    const int i = teacher.find(name);
    REQUIRE(i >= 0);
    CHECK(teacher.entries()[static_cast<std::size_t>(i)].extents == extents);
  }
  CHECK(teacher.count() == 512 * 128 + 512 + 4 * (512 * 512 + 512) + 512 * 64 + 512 + 64 * 512 + 64);
  o.target_time = true;
  boot::mlp student(o);
  const boot::parameter_layout layout(student);
  CHECK(layout.entries().size() == expected.size() + 4);
  CHECK(layout.find("target_embedding.linear_2.weight") >= 0);
}

TEST_CASE("the forward pass equals the network written out", "[model][mlp]") {
  const boot::class_labels<boot::cpu> labels{{ids.data(), {4}}};
  boot::mlp_options o = small_options();
  compare(o, boot::no_condition{});
  o.target_time = true;
  compare(o, boot::no_condition{});
  o.classes = 3;
  compare(o, labels);
  o.normalise = true;
  o.time.flip_sin_to_cos = false;
  o.time.freq_shift = 1;
  compare(o, labels);
  o.hidden_layers = 1;
  compare(o, labels);
  o.guidance_scale_input = 0.5;
  std::vector<double> read = scales;  // the condition holds w; the network reads 0.5 w
  compare(o, boot::conditions(labels, boot::guidance_scale<boot::cpu, double>{{read.data(), {4}}}));
}

TEST_CASE("gradients of every part", "[model][mlp]") {
  const bool normalise = GENERATE(false, true);
  boot::mlp_options o = small_options();
  o.width = 6;
  o.hidden_layers = 2;
  o.time_scale = 3;
  o.target_time = true;
  o.classes = 3;
  o.normalise = normalise;
  model<double> m(dev, boot::mlp(o), {});
  fill(m, 9);
  const vector x = samples();
  boot::times_buffer<boot::cpu, double> from, to;
  const auto report = boot::testing::check_student_gradient(
      dev, m, boot::view<const double, boot::cpu>{x.data(), {4, 5}}, from.set(dev, m, 1.0, 4), to.set(dev, m, target),
      boot::class_labels<boot::cpu>{{ids.data(), {4}}});
  INFO(report.worst_name);
  CHECK(report.worst < 1e-7);
}

TEST_CASE("a student from scratch tells target times apart at once, one that begins as its teacher does not",
          "[model][mlp]") {
  boot::mlp_options o = small_options();
  o.target_time = true;
  o.guidance_scale_input = 1;
  for (const bool begins : {false, true}) {
    o.begins_as_teacher = begins;
    const model<float> m(dev, boot::mlp(o), {}, 5);
    for (const char* const name : {"target_embedding.linear_2.weight", "guidance_embedding.linear_2.weight"}) {
      const auto& e = m.parameters().layout().entries()[static_cast<std::size_t>(m.parameters().layout().find(name))];
      bool zero = true;
      for (std::int64_t i = 0; i < e.extents.size(); ++i) zero = zero && m.parameters().values()[e.offset + i] == 0;
      CHECK(zero == begins);
    }
  }
}

TEST_CASE("a student made from a teacher equals its boundary, bit by bit, at every target time", "[model][mlp]") {
  const auto kind = GENERATE(boot::prediction_kind::v, boot::prediction_kind::sample);
  boot::mlp_options o = small_options();
  const boot::cosine_schedule schedule;
  const std::vector<double> targets{schedule.t_min(), 0.04, 0.5, 0.99, schedule.t_max()};
  {
    model<float> teacher(dev, boot::mlp(o), {kind}, 8);
    const auto student = boot::student_of(dev, teacher);
    CHECK(student.prediction().kind == kind);
    CHECK(student.network().options().target_time);
    CHECK(boot::testing::distance_from_boundary(dev, teacher, student, schedule, boot::no_condition{}, 17, targets) ==
          0);
    CHECK(student.parameters().layout().entries().size() == teacher.parameters().layout().entries().size() + 4);
  }
  o.classes = 3;
  o.normalise = true;
  model<float> teacher(dev, boot::mlp(o), {kind}, 8);
  const boot::class_labels<boot::cpu> labels{{ids.data(), {4}}};
  const auto student = boot::student_of(dev, teacher);
  CHECK(boot::testing::distance_from_boundary(dev, teacher, student, schedule, labels, 4, targets) == 0);
  // A student that reads the guidance scale starts with a zero branch as well: w does not matter yet.
  const auto guided = boot::student_of(dev, teacher, 0.5);
  const std::vector<float> w{1, 2, 3, 4};
  const boot::conditions both(labels, boot::guidance_scale<boot::cpu>{{w.data(), {4}}});
  boot::times_buffer<boot::cpu, float> from, to;
  boot::tensor<float, boot::cpu> a(dev, {4, 5}), b(dev, {4, 5});
  const vector x = samples();
  const std::vector<float> narrow(x.begin(), x.end());
  guided.predict(dev, {narrow.data(), {4, 5}}, from.set(dev, guided, 1.0, 4), to.set(dev, guided, 0.3, 4), both,
                 a.get());
  teacher.predict(dev, {narrow.data(), {4, 5}}, from.set(dev, teacher, 1.0, 4), labels, b.get());
  CHECK(boot::to_host(dev, a.get()) == boot::to_host(dev, b.get()));
}

TEST_CASE("wrong sizes, missing conditions and wrong shapes are told", "[model][mlp]") {
  CHECK_THROWS_WITH(boot::mlp({.features = 0}), ContainsSubstring("all must be positive"));
  CHECK_THROWS_AS(boot::mlp({.width = -1}), boot::error);
  CHECK_THROWS_AS(boot::mlp({.hidden_layers = 0}), boot::error);
  boot::mlp_options o = small_options();
  o.classes = 3;
  model<double> m(dev, boot::mlp(o), {});
  const vector x = samples();
  boot::times_buffer<boot::cpu, double> at;
  boot::tensor<double, boot::cpu> out(dev, {4, 5}), narrow(dev, {4, 4});
  const auto& t = at.set(dev, m, 0.5, 4);
  const boot::view<const double, boot::cpu> four{x.data(), {4, 5}};
  CHECK_THROWS_WITH(m.predict(dev, four, t, boot::no_condition{}, out.get()),
                    ContainsSubstring("pass boot::class_labels"));
  const std::array<std::int32_t, 4> beyond{0, 1, 2, 3};
  CHECK_THROWS_WITH(m.predict(dev, four, t, boot::class_labels<boot::cpu>{{beyond.data(), {4}}}, out.get()),
                    ContainsSubstring("sample 3 has class 3"));
  const boot::class_labels<boot::cpu> labels{{ids.data(), {4}}};
  CHECK_THROWS_WITH(m.predict(dev, {x.data(), {5, 4}}, t, labels, out.get()),
                    ContainsSubstring("samples of shape [5]"));
  CHECK_THROWS_WITH(m.predict(dev, four, t, labels, narrow.get()),
                    ContainsSubstring("out of shape [4, 4], needs [4, 5]"));
  CHECK_THROWS_WITH(m.predict(dev, four.rows(0, 3), t, labels, out.get().rows(0, 3)),
                    ContainsSubstring("3 samples came with 4"));
  CHECK_NOTHROW(m.predict(dev, four, t, labels, out.get()));  // an error leaves the model usable
}

namespace {

using prompt = boot::prompt_embeddings<boot::cpu, double>;

// An mlp that attends to prompts of 3 tokens of width 7, four samples, and what it needs to be called.
struct prompted {
  boot::mlp_options options = small_options();
  vector x = samples(), tokens = std::vector<double>(4 * 3 * 7);
  std::array<std::uint8_t, 12> mask{1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0};  // the last sample's prompt is empty
  boot::times_buffer<boot::cpu, double> from, to;

  prompted() {
    options.context_width = 7;
    options.context_heads = 3;
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = std::cos(0.7 * static_cast<double>(i * i));
  }
  [[nodiscard]] boot::view<const double, boot::cpu> samples_view() const { return {x.data(), {4, 5}}; }
  [[nodiscard]] prompt all() const { return {{tokens.data(), {4, 3, 7}}}; }
  [[nodiscard]] prompt masked() const { return {{tokens.data(), {4, 3, 7}}, {mask.data(), {4, 3}}}; }
  [[nodiscard]] vector predict(const model<double>& m, const prompt& p) {
    boot::tensor<double, boot::cpu> out(dev, {4, 5});
    m.predict(dev, samples_view(), from.set(dev, m, source), to.set(dev, m, target), p, out.get());
    return boot::to_host(dev, out.get());
  }
};

}  // namespace

TEST_CASE("attention to a prompt: nothing at first, then by its own numbers", "[model][mlp]") {
  prompted p;
  p.options.target_time = true;
  model<double> with(dev, boot::mlp(p.options), {}, 5);
  const auto& layout = with.parameters().layout();
  CHECK(layout.entries()[static_cast<std::size_t>(layout.find("attentions.2.to_k.weight"))].extents ==
        boot::shape{12, 7});
  CHECK(layout.find("attentions.3.to_k.weight") < 0);
  boot::mlp_options o = p.options;
  o.context_width = 0;
  model<double> without(dev, boot::mlp(o), {}, 9);
  CHECK(boot::copy_parameters(dev, layout, std::as_const(with).parameters().values(), without.parameters()) == 16);
  CHECK(p.predict(with, p.all()) == p.predict(without, p.all()));  // a network without attention ignores prompts
  fill(with, 6);
  const vector wanted = p.predict(with, p.all());

  // With one token all heads answer with its value: h + to_out(to_v(token)).
  prompt one{{p.tokens.data(), {1, 1, 7}}};
  p.options.hidden_layers = 1;
  model<double> flat(dev, boot::mlp(p.options), {});
  fill(flat, 6);
  const auto value = [&](const std::string& name) {
    const int i = flat.parameters().layout().find(name);
    REQUIRE(i >= 0);
    return flat.parameters().value(i);
  };
  vector v(12), shift(12);
  for (std::int64_t i = 0; i < 12; ++i) {
    double sum = value("attentions.0.to_v.bias")[i];
    for (std::int64_t j = 0; j < 7; ++j)
      sum += value("attentions.0.to_v.weight")[i * 7 + j] * p.tokens[static_cast<std::size_t>(j)];
    v[static_cast<std::size_t>(i)] = sum;
  }
  for (std::int64_t i = 0; i < 12; ++i) {
    double sum = value("attentions.0.to_out.0.bias")[i];
    for (std::int64_t j = 0; j < 12; ++j)
      sum += value("attentions.0.to_out.0.weight")[i * 12 + j] * v[static_cast<std::size_t>(j)];
    shift[static_cast<std::size_t>(i)] = sum;
  }
  o = p.options;
  o.context_width = 0;
  model<double> bare(dev, boot::mlp(o), {});
  boot::copy_parameters(dev, flat.parameters().layout(), std::as_const(flat).parameters().values(), bare.parameters());
  const vector plain = p.predict(bare, one), moved = p.predict(flat, one);
  for (std::size_t k = 0; k < 20; ++k) {
    double sum = plain[k];
    for (std::int64_t j = 0; j < 12; ++j)
      sum += value("layer_out.weight")[static_cast<std::int64_t>(k % 5) * 12 + j] * shift[static_cast<std::size_t>(j)];
    CHECK(moved[k] == Catch::Approx(sum).epsilon(1e-12));
  }

  // Each sample reads its own prompt, and a prompt with a batch of one is everybody's.
  p.tokens[3 * 3 * 7] += 1;
  const vector other = p.predict(with, p.all());
  for (std::size_t k = 0; k < 15; ++k) CHECK(other[k] == wanted[k]);
  CHECK(other[15] != wanted[15]);
  for (std::size_t i = 21; i < p.tokens.size(); ++i) p.tokens[i] = p.tokens[i % 21];
  const vector repeated = p.predict(with, p.all()), shared = p.predict(with, {{p.tokens.data(), {1, 3, 7}}});
  for (std::size_t k = 0; k < 20; ++k) CHECK(shared[k] == Catch::Approx(repeated[k]).epsilon(1e-13));
}

TEST_CASE("masked tokens of a prompt do not matter", "[model][mlp]") {
  prompted p;
  model<double> m(dev, boot::mlp(p.options), {});
  fill(m, 6);
  const vector wanted = p.predict(m, p.masked());
  CHECK(wanted != p.predict(m, p.all()));
  for (std::size_t i = 0; i < p.tokens.size(); ++i)
    if (p.mask[i / 7] == 0) p.tokens[i] = 100;
  CHECK(p.predict(m, p.masked()) == wanted);
}

TEST_CASE("gradients of the attention to a prompt, and students that have it", "[model][mlp]") {
  prompted p;
  p.options.width = 6;
  p.options.hidden_layers = 2;
  p.options.time_scale = 3;
  p.options.target_time = true;
  model<double> m(dev, boot::mlp(p.options), {});
  fill(m, 9);
  const auto report = boot::testing::check_student_gradient(dev, m, p.samples_view(), p.from.set(dev, m, 1.0, 4),
                                                            p.to.set(dev, m, target), p.masked(), {.directions = 3});
  INFO(report.worst_name);
  CHECK(report.worst < 1e-6);

  p.options.target_time = false;
  model<double> teacher(dev, boot::mlp(p.options), {});
  fill(teacher, 2);
  const model<double> student = boot::student_of(dev, teacher);
  CHECK(student.network().options().context_width == 7);
  CHECK(p.predict(student, p.masked()) == p.predict(teacher, p.masked()));
}

TEST_CASE("prompts that are missing or do not fit are told", "[model][mlp]") {
  prompted p;
  model<double> m(dev, boot::mlp(p.options), {});
  boot::tensor<double, boot::cpu> out(dev, {4, 5});
  CHECK_THROWS_WITH(m.predict(dev, p.samples_view(), p.from.set(dev, m, 0.5, 4), boot::no_condition{}, out.get()),
                    ContainsSubstring("pass boot::prompt_embeddings"));
  CHECK_THROWS_WITH(p.predict(m, {{p.tokens.data(), {4, 7, 3}}}), ContainsSubstring("needs [4 or 1, tokens, 7]"));
  CHECK_THROWS_WITH(p.predict(m, {{p.tokens.data(), {3, 4, 7}}}), ContainsSubstring("needs [4 or 1, tokens, 7]"));
  CHECK_THROWS_WITH(p.predict(m, {}), ContainsSubstring("at least one token"));
  CHECK_THROWS_WITH(p.predict(m, {{p.tokens.data(), {4, 3, 7}}, {p.mask.data(), {3, 4}}}),
                    ContainsSubstring("the mask must be [4, 3]"));
  CHECK_NOTHROW(p.predict(m, p.masked()));
  CHECK_THROWS_WITH(boot::mlp({.context_width = -1}), ContainsSubstring("0 for none"));
  CHECK_THROWS_WITH(boot::mlp({.context_width = 7, .context_heads = 5}), ContainsSubstring("must divide"));
}

TEST_CASE("prompts of one length after another, alone and beside labels", "[model][mlp]") {
  boot::mlp_options o = small_options();
  o.context_width = 4;
  o.classes = 3;
  const model<float> m(dev, boot::mlp(o), {}, 3);
  const std::vector<float> x(4 * 5, 0.5f), tokens(4 * 64 * 4, 0.25f);
  const boot::class_labels<boot::cpu> labels{{ids.data(), {4}}};
  boot::times_buffer<boot::cpu> at;
  const auto& t = at.set(dev, m, 0.5, 4);
  std::vector<float> first(4 * 5), out(4 * 5);
  for (const std::int64_t batch : {1, 4})
    for (const std::int64_t n : {1, 64, 3}) {
      const boot::prompt_embeddings<boot::cpu> prompt{.tokens = {tokens.data(), {batch, n, 4}}};
      m.predict(dev, {x.data(), {4, 5}}, t, t, boot::conditions(labels, prompt), {out.data(), {4, 5}});
      if (batch == 1 && n == 1) first = out;
      // Equal tokens say the same however many they are.
      for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == Catch::Approx(first[i]).epsilon(1e-5).margin(1e-6));
    }
}

namespace {

// An mlp that refines images of 6 numbers, four samples, and what it needs to be called.
struct refining {
  using low = boot::low_resolution<boot::cpu, double>;
  boot::mlp_options options = small_options();
  vector x = samples(), image, level{0.1, 0.4, 0.4, 0.75};
  boot::times_buffer<boot::cpu, double> from, to;

  refining() {
    options.width = 6;
    options.hidden_layers = 2;
    options.time_scale = 3;
    options.low_resolution_features = 6;
    for (int i = 0; i < 24; ++i) image.push_back(std::cos(0.9 * i));
  }
  [[nodiscard]] low condition() const { return {{image.data(), {4, 3, 2, 1}}, {level.data(), {4}}}; }
  template <class C>
  [[nodiscard]] vector predict(const model<double>& m, const C& c) {
    boot::tensor<double, boot::cpu> out(dev, {4, 5});
    m.predict(dev, {x.data(), {4, 5}}, from.set(dev, m, source), to.set(dev, m, target), c, out.get());
    return boot::to_host(dev, out.get());
  }
};

}  // namespace

TEST_CASE("a low-resolution image: names, its own effect and its level's", "[model][mlp]") {
  refining r;
  model<double> m(dev, boot::mlp(r.options), {});
  fill(m, 6);
  const auto& layout = m.parameters().layout();
  const auto extents = [&](const char* name) {
    return layout.entries()[static_cast<std::size_t>(layout.find(name))].extents;
  };
  CHECK(extents("layer_in.weight") == boot::shape{6, 11});
  CHECK(extents("level_embedding.linear_1.weight") == boot::shape{6, 8});
  const vector wanted = r.predict(m, r.condition());

  // Without the columns of the image and the level's embedding it is the network that reads none.
  boot::mlp_options o = r.options;
  o.low_resolution_features = 0;
  model<double> plain(dev, boot::mlp(o), {}, 9);
  for (const auto& e : plain.parameters().layout().entries()) {
    const auto in = m.parameters().value(layout.find(e.name));
    const auto out = plain.parameters().value(plain.parameters().layout().find(e.name));
    for (std::int64_t i = 0; i < e.extents.size(); ++i)
      out[i] = e.name == "layer_in.weight" ? in[i / 5 * 11 + i % 5] : in[i];
  }
  const auto weight = m.parameters().value(layout.find("layer_in.weight"));
  for (std::int64_t i = 0; i < 66; ++i)
    if (i % 11 >= 5) weight[i] = 0;
  for (const char* name : {"level_embedding.linear_2.weight", "level_embedding.linear_2.bias"})
    boot::fill_zero(dev, m.parameters().value(layout.find(name)));
  const vector ignored = r.predict(m, r.condition()), without = r.predict(plain, boot::no_condition{});
  for (std::size_t k = 0; k < 20; ++k) CHECK(ignored[k] == Catch::Approx(without[k]).epsilon(1e-12).margin(1e-13));
  CHECK(wanted != ignored);

  // Each sample reads its own image and level; a level is read as the same source time would be.
  fill(m, 6);
  r.image[3 * 6] += 1;
  const vector moved = r.predict(m, r.condition());
  r.level[0] = 0.2;
  const vector louder = r.predict(m, r.condition());
  for (std::size_t k = 0; k < 20; ++k) {
    CHECK((moved[k] == wanted[k]) == (k < 15));
    CHECK((louder[k] == moved[k]) == (k >= 5));
  }
  for (const std::string layer : {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}) {
    const auto from = m.parameters().value(layout.find("time_embedding." + layer)),
               to = m.parameters().value(layout.find("level_embedding." + layer));
    for (std::int64_t i = 0; i < from.size(); ++i) to[i] = from[i];
  }
  const vector one_way = r.predict(m, r.condition());
  boot::tensor<double, boot::cpu> out(dev, {4, 5});
  const vector swapped = r.level;
  r.level = source;
  m.predict(dev, {r.x.data(), {4, 5}}, r.from.set(dev, m, swapped), r.to.set(dev, m, target), r.condition(), out.get());
  for (std::size_t k = 0; k < 20; ++k)
    CHECK(out.get()[static_cast<std::int64_t>(k)] == Catch::Approx(one_way[k]).epsilon(1e-12).margin(1e-13));
}

TEST_CASE("gradients with a low-resolution image, and students that read it", "[model][mlp]") {
  refining r;
  r.options.target_time = true;
  model<double> m(dev, boot::mlp(r.options), {});
  fill(m, 9);
  const auto report = boot::testing::check_student_gradient(
      dev, m, boot::view<const double, boot::cpu>{r.x.data(), {4, 5}}, r.from.set(dev, m, 1.0, 4),
      r.to.set(dev, m, target), r.condition(), {.directions = 3});
  INFO(report.worst_name);
  CHECK(report.worst < 1e-6);

  r.options.target_time = false;
  model<double> teacher(dev, boot::mlp(r.options), {});
  fill(teacher, 2);
  const model<double> student = boot::student_of(dev, teacher);
  CHECK(student.network().options().low_resolution_features == 6);
  CHECK(r.predict(student, r.condition()) == r.predict(teacher, r.condition()));
}

TEST_CASE("low-resolution images that are missing or do not fit are told", "[model][mlp]") {
  refining r;
  const model<double> m(dev, boot::mlp(r.options), {});
  const auto with = [&](const boot::shape& image, const boot::shape& level) {
    return refining::low{{r.image.data(), image}, {r.level.data(), level}};
  };
  CHECK_THROWS_WITH(r.predict(m, boot::no_condition{}), ContainsSubstring("pass boot::low_resolution"));
  CHECK_THROWS_WITH(r.predict(m, with({4, 5}, {4})),
                    ContainsSubstring("images of shape [4, 5]") && ContainsSubstring("6 numbers per image"));
  CHECK_THROWS_WITH(r.predict(m, with({3, 6}, {4})), ContainsSubstring("4 samples with low-resolution images"));
  CHECK_THROWS_WITH(r.predict(m, with({4, 6}, {3})), ContainsSubstring("levels of shape [3]"));
  CHECK_THROWS_WITH(r.predict(m, refining::low{}), ContainsSubstring("bring the images to the size"));
  CHECK_NOTHROW(r.predict(m, with({4, 6}, {4})));
  CHECK_THROWS_WITH(boot::mlp({.low_resolution_features = -1}), ContainsSubstring("0 for none"));
}
