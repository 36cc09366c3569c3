// SPDX-License-Identifier: MIT
// dit: names and shapes of a published model, values and gradients of diffusers, conditions, students, bad options.
#include "support/catch.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/model/dit.hpp>
#include <boot/nn/cpu/activations.hpp>
#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/cpu/modulate.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/cpu/patches.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using model = boot::network_model<boot::dit, boot::cpu, double>;
using labels = boot::class_labels<boot::cpu>;
using guidance = boot::guidance_scale<boot::cpu, double>;
using condition =
    boot::conditions<labels, guidance>;  // one type for all cases: each costs a compilation of the network
static_assert(boot::Teacher<model, boot::cpu, boot::no_condition, double> && boot::Student<model, boot::cpu>);
const boot::cpu dev;

double wave(std::int64_t i, double phase) { return std::sin(1.7 * static_cast<double>(i + 1) + phase); }

// Calls f(k, i, at) for element i, in a file's order, of the k-th parameter by name; `at` is its place in flat arrays.
template <class F>
void for_each_element_of_file(const boot::parameter_layout& layout, const F& f) {
  std::vector<const boot::parameter_entry*> entries;
  for (const auto& e : layout.entries()) entries.push_back(&e);
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  for (std::size_t k = 0; k < entries.size(); ++k) {
    const auto& e = *entries[k];
    const bool convolution = e.order == boot::file_order::ohwi_as_oihw;
    const std::int64_t pixels = convolution ? e.extents[1] * e.extents[2] : 1, in = convolution ? e.extents[3] : 1;
    for (std::int64_t i = 0; i < e.extents.size(); ++i) {
      const std::int64_t p = i % pixels, c = i / pixels % in, o = i / pixels / in;
      f(static_cast<double>(k), i, e.offset + (o * pixels + p) * in + c);
    }
  }
}
void fill(model& m) {
  for_each_element_of_file(m.parameters().layout(), [&](double k, std::int64_t i, std::int64_t at) {
    m.parameters().values()[at] = 0.3 * wave(i, 0.61 * k);
  });
}

struct images {
  boot::shape extents;
  std::vector<double> x;
  images(const model& m, std::int64_t batch) : extents(m.sample_shape().batched(batch)) {
    for (std::int64_t i = 0; i < extents.size(); ++i) x.push_back(wave(i, 0.2));
  }
  [[nodiscard]] boot::view<const double, boot::cpu> get() const { return {x.data(), extents}; }
};

const std::array<std::int32_t, 2> ids{4, -1};
const std::vector<double> scales{1, 4};
condition some_condition() { return condition{labels{{ids.data(), {2}}}, guidance{{scales.data(), {2}}}}; }

boot::dit_options small_options() {
  boot::dit_options o;
  o.height = o.width = 6;
  o.in_channels = 2;
  o.heads = 2;
  o.head_dim = 6;
  o.layers = 2;
  o.classes = 5;
  o.time_scale = 1;
  return o;
}

}  // namespace

TEST_CASE("dit: names and shapes of DiT-XL/2", "[model][dit]") {
  boot::dit network({.out_channels = 8});
  const boot::parameter_layout layout(network);
  std::vector<std::string> lines;
  for (const auto& e : layout.entries()) {
    const auto& s = e.extents;
    const bool convolution = e.order == boot::file_order::ohwi_as_oihw;
    lines.push_back(e.name + " " + boot::to_string(convolution ? boot::shape{s[0], s[3], s[1], s[2]} : s));
  }
  std::sort(lines.begin(), lines.end(), [](const std::string& a, const std::string& b) {
    return a.substr(0, a.find(' ')) < b.substr(0, b.find(' '));
  });
  REQUIRE(lines.size() == 538);
  CHECK(lines[0] == "pos_embed.proj.bias [1152]");
  CHECK(lines[1] == "pos_embed.proj.weight [1152, 4, 2, 2]");
  CHECK(lines[18] == "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight [1001, 1152]");
  CHECK(layout.count() == 749826464);
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a of the lines
  for (const std::string& line : lines)
    for (const char c : line + "\n") hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  CHECK(hash == 0x56fd25aabac08294ULL);

  boot::dit own({.heads = 2, .head_dim = 2, .layers = 1, .classes = 0, .target_time = true});
  const boot::parameter_layout student(own);
  CHECK(student.find("target_embedding.linear_2.weight") >= 0);
  CHECK(student.find("guidance_embedding.linear_2.weight") < 0);
  CHECK(student.find("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight") < 0);
}

TEST_CASE("dit: values and gradients of diffusers in float64", "[model][dit]") {
  boot::dit_options o = small_options();
  o.out_channels = 4;
  o.drop_variance = false;
  model m(dev, boot::dit(o), {});
  fill(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> at;
  const std::vector<double> t{999, 17.25};
  const auto& times = at.set(dev, m, t);
  auto tape = m.record(dev, x.get(), times, times, some_condition());
  REQUIRE(tape.output().extents() == boot::shape{2, 6, 6, 4});
  std::array<double, 4> f{};
  std::vector<double> slope, whole;
  for (std::int64_t i = 0; i < tape.output().size(); ++i) {
    slope.push_back(wave(i, 0.4));
    whole.push_back(tape.output()[i]);
    f[0] += whole.back() * whole.back();
    f[1] += whole.back() * slope.back();
  }
  f[0] = std::sqrt(f[0] / static_cast<double>(slope.size()));
  tape.backward(dev, {slope.data(), {2, 6, 6, 4}});
  const auto gradient = m.parameters().gradient();
  for_each_element_of_file(m.parameters().layout(), [&](double k, std::int64_t i, std::int64_t place) {
    f[2] += gradient[place] * gradient[place];
    f[3] += gradient[place] * wave(i, 0.3 * k);
  });
  f[2] = std::sqrt(f[2]);
  // Printed by tests/golden/make_dit_values.py.
  const std::array<double, 4> wanted{1.3908350138605516, 6.104896722288359, 137.7464915193898, -83.32401797066451};
  for (std::size_t i = 0; i < 4; ++i) {
    INFO("figure " << i);
    CHECK(f[i] == Catch::Approx(wanted[i]).epsilon(1e-10));
  }

  // Without the variance, the first half of the channels is left.
  o.drop_variance = true;
  boot::tensor<double, boot::cpu> out(dev, x.extents);
  model n(dev, boot::dit(o), {});
  fill(n);
  n.predict(dev, x.get(), times, some_condition(), out.get());
  for (std::int64_t i = 0; i < out.size(); ++i)
    REQUIRE(out.get()[i] == whole[static_cast<std::size_t>(i / 2 * 4 + i % 2)]);
}

TEST_CASE("dit: gradients of every part by finite differences", "[model][dit]") {
  boot::dit_options o = small_options();
  o.height = 4;
  o.width = 2;
  o.out_channels = 4;
  o.heads = 1;
  o.head_dim = 4;
  o.time.features = 6;
  o.target_time = true;
  o.guidance_scale_input = 0.5;
  o.attention_bias = false;
  model m(dev, boot::dit(o), {});
  fill(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> from, to;
  const std::vector<double> target{0.3, 0.9};
  const auto report =
      boot::testing::check_student_gradient(dev, m, x.get(), from.set(dev, m, 0.7, 2), to.set(dev, m, target),
                                            some_condition(), {.directions = 2, .most_per_parameter = 3});
  INFO(report.worst_name << ": " << report.worst_tensor);
  CHECK(report.worst < 1e-6);
}

TEST_CASE("dit: a uniform time, single samples and any number of threads give the same", "[model][dit]") {
  model m(dev, boot::dit(small_options()), {}, 3);
  fill(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> at;
  boot::tensor<double, boot::cpu> out(dev, x.extents), other(dev, x.extents);
  const condition c = some_condition();
  boot::times<boot::cpu, double> t = at.set(dev, m, 12.5, 2);
  m.predict(boot::cpu{1}, x.get(), t, c, out.get());
  const auto wanted = boot::to_host(dev, out.get());
  for (const int threads : {2, 3}) {
    m.predict(boot::cpu{threads}, x.get(), t, c, other.get());
    CHECK(boot::to_host(dev, other.get()) == wanted);
  }
  const auto agree = [&] {
    for (std::int64_t i = 0; i < other.size(); ++i)
      REQUIRE(other.get()[i] == Catch::Approx(wanted[static_cast<std::size_t>(i)]).epsilon(1e-12).margin(1e-13));
  };
  t.uniform = false;
  m.predict(dev, x.get(), t, c, other.get());
  agree();
  for (std::int64_t k = 0; k < 2; ++k)
    m.predict(dev, x.get().rows(k, 1), t.rows(k, 1), c.rows(k, 1), other.get().rows(k, 1));
  agree();
}

TEST_CASE("dit: a student made from a teacher equals it at every target time", "[model][dit]") {
  boot::dit_options o = small_options();
  o.out_channels = 4;
  model teacher(dev, boot::dit(o), {boot::prediction_kind::epsilon}, 5);
  fill(teacher);
  const model student = boot::student_of(dev, teacher, 0.5);
  CHECK(student.prediction().kind == boot::prediction_kind::epsilon);
  CHECK(student.parameters().layout().entries().size() == teacher.parameters().layout().entries().size() + 8);
  const images x(teacher, 2);
  boot::times_buffer<boot::cpu, double> from, to;
  boot::tensor<double, boot::cpu> a(dev, x.extents), b(dev, x.extents);
  const auto& source = from.set(dev, teacher, 0.9, 2);
  teacher.predict(dev, x.get(), source, some_condition(), a.get());
  const std::vector<double> target{0.1, 0.8};
  student.predict(dev, x.get(), source, to.set(dev, student, target), some_condition(), b.get());
  for (std::int64_t i = 0; i < a.size(); ++i)  // the student embeds one time per sample, the teacher its one time once
    REQUIRE(b.get()[i] == Catch::Approx(a.get()[i]).epsilon(1e-12).margin(1e-13));

  // From scratch, the target time matters at once, and blocks are identities.
  o.target_time = true;
  const model scratch(dev, boot::dit(o), {}, 6);
  scratch.predict(dev, x.get(), source, to.set(dev, scratch, target), some_condition(), a.get());
  scratch.predict(dev, x.get(), source, to.set(dev, scratch, 0.5, 2), some_condition(), b.get());
  CHECK(boot::to_host(dev, a.get()) != boot::to_host(dev, b.get()));
  o.layers = 1;
  model shallow(dev, boot::dit(o), {}, 7);
  boot::copy_parameters(dev, scratch.parameters().layout(), scratch.parameters().values(), shallow.parameters());
  shallow.predict(dev, x.get(), source, to.get(), some_condition(), a.get());
  CHECK(boot::to_host(dev, a.get()) == boot::to_host(dev, b.get()));
}

TEST_CASE("dit: a network keeps the length of its training at another resolution", "[model][dit]") {
  boot::dit_options o = small_options();
  model m(dev, boot::dit(o), {});
  fill(m);
  boot::times_buffer<boot::cpu, double> at;
  const auto predict = [&](const boot::dit_options& options) {
    model n(dev, boot::dit(options), {});
    fill(n);
    const images x(n, 2);
    boot::tensor<double, boot::cpu> out(dev, x.extents);
    n.predict(dev, x.get(), at.set(dev, n, 3.5, 2), some_condition(), out.get());
    return boot::to_host(dev, out.get());
  };
  const auto wanted = predict(o);
  o.base_size = 3;  // what it is without
  CHECK(predict(o) == wanted);
  o.base_size = 4;
  CHECK(predict(o) != wanted);
}

TEST_CASE("dit: options that do not fit and missing conditions are told", "[model][dit]") {
  const auto message = [](auto change) {
    boot::dit_options o = small_options();
    change(o);
    try {
      boot::dit network(o);
    } catch (const boot::error& e) {
      return std::string(e.what());
    }
    return std::string("(no error)");
  };
  using options = boot::dit_options;
  CHECK_THAT(message([](options& o) { o.height = 0; }), ContainsSubstring("all must be positive"));
  CHECK_THAT(message([](options& o) { o.layers = 0; }), ContainsSubstring("0 layers"));
  CHECK_THAT(message([](options& o) { o.classes = -1; }), ContainsSubstring("-1 classes"));
  CHECK_THAT(message([](options& o) { o.width = 7; }), ContainsSubstring("multiples of a positive patch_size"));
  CHECK_THAT(message([](options& o) { o.patch_size = 0; }), ContainsSubstring("patches of 0 x 0"));
  CHECK_THAT(message([](options& o) { o.head_dim = 3; }), ContainsSubstring("a multiple of 4"));
  CHECK_THAT(message([](options& o) { o.heads = 0; }), ContainsSubstring("0 heads"));
  CHECK_THAT(message([](options& o) { o.norm_eps = 0; }), ContainsSubstring("norm_eps 0"));
  CHECK_THAT(message([](options& o) { o.base_size = -1; }), ContainsSubstring("base_size -1"));

  boot::dit_options o = small_options();
  model m(dev, boot::dit(o), {});
  const auto missing = [&](const model& network) {
    return network.plan(dev, 2, boot::no_condition{}, false, true, true);
  };
  CHECK_THROWS_WITH(missing(m), ContainsSubstring("pass boot::class_labels"));
  o.classes = 0;
  CHECK_NOTHROW(missing(model(dev, boot::dit(o), {})));
  o.guidance_scale_input = 1;
  CHECK_THROWS_WITH(missing(model(dev, boot::dit(o), {})), ContainsSubstring("pass boot::guidance_scale"));
  const std::array<std::int32_t, 2> beyond{0, 5};
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> at;
  boot::tensor<double, boot::cpu> out(dev, x.extents);
  CHECK_THROWS_WITH(
      m.predict(dev, x.get(), at.set(dev, m, 3.5, 2), condition{labels{{beyond.data(), {2}}}, guidance{}}, out.get()),
      ContainsSubstring("sample 1 has class 5"));
}
