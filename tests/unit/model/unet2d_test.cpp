// SPDX-License-Identifier: MIT
// unet2d: names and shapes of published models, values and gradients of diffusers, conditions, students, bad options.
#include "support/catch.hpp"

#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using enum boot::unet2d_level;
using model = boot::network_model<boot::unet2d, boot::cpu, double>;
using labels = boot::class_labels<boot::cpu>;
using guidance = boot::guidance_scale<boot::cpu, double>;
using low = boot::low_resolution<boot::cpu, double>;
using condition =
    boot::conditions<labels, guidance, low>;  // one type for all cases: each costs a compilation of the network
static_assert(boot::Teacher<model, boot::cpu, boot::no_condition, double> && boot::Student<model, boot::cpu>);
const boot::cpu dev;

// "name [extents]" of every tensor as a file has it, sorted.
std::vector<std::string> lines_of(const boot::parameter_layout& layout) {
  std::vector<std::string> lines;
  for (const auto& e : layout.entries()) {
    const auto& s = e.extents;
    const bool convolution = e.order == boot::file_order::ohwi_as_oihw;
    lines.push_back(e.name + " " + boot::to_string(convolution ? boot::shape{s[0], s[3], s[1], s[2]} : s));
  }
  std::sort(lines.begin(), lines.end(), [](const std::string& a, const std::string& b) {
    return a.substr(0, a.find(' ')) < b.substr(0, b.find(' '));
  });
  return lines;
}
// FNV-1a of the lines.
std::uint64_t hash_of(const std::vector<std::string>& lines) {
  std::uint64_t h = 14695981039346656037ULL;
  for (const std::string& line : lines)
    for (const char c : line + "\n") h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return h;
}

double wave(std::int64_t i, double phase) { return std::sin(1.7 * static_cast<double>(i + 1) + phase); }

// Calls f(k, i, at) for element i, in a file's order, of the k-th parameter by name; `at` is its place in flat arrays.
template <class F>
void for_each_element_of_file(const boot::parameter_layout& layout, const F& f) {
  std::vector<const boot::parameter_entry*> entries;
  for (const auto& e : layout.entries()) entries.push_back(&e);
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  for (std::size_t k = 0; k < entries.size(); ++k) {
    const auto& e = *entries[k];
    const std::int64_t n = e.extents.size();
    const bool convolution = e.order == boot::file_order::ohwi_as_oihw;
    const std::int64_t pixels = convolution ? e.extents[1] * e.extents[2] : 1, in = convolution ? e.extents[3] : 1;
    for (std::int64_t i = 0; i < n; ++i) {
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

const std::array<std::int32_t, 2> ids{4, 1};
const std::vector<double> scales{1, 4};
const std::vector<double> levels{0.25, 0.5};
// `image`: for networks that refine one; any other goes unread.
condition some_condition(const low& image = {{levels.data(), {2}}, {levels.data(), {2}}}) {
  return condition{labels{{ids.data(), {2}}}, guidance{{scales.data(), {2}}}, image};
}

boot::unet2d_options small_options() {
  boot::unet2d_options o;
  o.height = 6;
  o.width = 4;
  o.in_channels = o.out_channels = 2;
  o.block_channels = {8, 12};
  o.norm_num_groups = 2;
  o.down = {plain, attention};
  o.up = {attention, plain};
  o.layers_per_block = 1;
  o.downsample_padding = false;
  o.flip_sin_to_cos = false;
  o.freq_shift = 1;
  o.norm_eps = 1e-6;
  o.attention_head_dim = 0;
  o.classes = 5;
  o.null_class = false;
  o.center_input_sample = true;
  o.mid_block_scale_factor = 1.5;
  o.time_scale = 1;
  return o;
}
boot::unet2d_options resampling_options() {
  boot::unet2d_options o;
  o.height = o.width = 8;
  o.block_channels = {4, 8, 8};
  o.norm_num_groups = 2;
  o.down = {resnet, attention, plain};
  o.up = {resnet, attention, plain};
  o.downsample = o.upsample = boot::unet2d_resampling::resnet;
  o.time_scale_shift = true;
  o.attn_norm_num_groups = 4;
  o.attention_head_dim = 4;
  o.time_embedding_dim = 10;
  o.time = boot::unet2d_time::fourier;
  o.time_scale = 1;
  o.target_time = true;
  return o;
}

// Root mean square of the output, sum of the output times a wave, the gradient's norm, and its product with waves.
std::array<double, 4> figures(const boot::unet2d_options& o, const std::vector<double>& source,
                              const std::vector<double>& target) {
  model m(dev, boot::unet2d(o), {});
  fill(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> from, to;
  auto tape = m.record(dev, x.get(), from.set(dev, m, source), to.set(dev, m, target), some_condition());
  std::array<double, 4> f{};
  std::vector<double> slope;
  for (std::int64_t i = 0; i < tape.output().size(); ++i) {
    slope.push_back(wave(i, 0.4));
    f[0] += tape.output()[i] * tape.output()[i];
    f[1] += tape.output()[i] * slope.back();
  }
  f[0] = std::sqrt(f[0] / static_cast<double>(slope.size()));
  tape.backward(dev, {slope.data(), x.extents});
  const auto gradient = m.parameters().gradient();
  for_each_element_of_file(m.parameters().layout(), [&](double k, std::int64_t i, std::int64_t at) {
    f[2] += gradient[at] * gradient[at];
    f[3] += gradient[at] * wave(i, 0.3 * k);
  });
  f[2] = std::sqrt(f[2]);
  return f;
}

}  // namespace

TEST_CASE("names and shapes of published models", "[model][unet2d]") {
  boot::unet2d_options o;  // google/ddpm-cifar10-32
  o.block_channels = {128, 256, 256, 256};
  o.down = {plain, attention, plain, plain};
  o.up = {plain, plain, attention, plain};
  o.attention_head_dim = 0;
  const auto layout_of = [](const boot::unet2d_options& options) {
    boot::unet2d network(options);
    return boot::parameter_layout(network);
  };
  const auto cifar10 = layout_of(o);
  const auto lines = lines_of(cifar10);
  REQUIRE(lines.size() == 328);
  CHECK(lines.front() == "conv_in.bias [128]");
  CHECK(std::count(lines.begin(), lines.end(), "up_blocks.2.resnets.2.conv_shortcut.weight [256, 384, 1, 1]") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "mid_block.attentions.0.to_out.0.weight [256, 256]") == 1);
  CHECK(cifar10.count() == 35746307);
  CHECK(hash_of(lines) == 0x6abe9b5e66e71d93ULL);

  o.block_channels = {128, 128, 256, 256, 512, 512};  // google/ddpm-cat-256
  o.down = {plain, plain, plain, plain, attention, plain};
  o.up = {plain, attention, plain, plain, plain, plain};
  o.height = o.width = 256;
  const auto cat = layout_of(o);
  CHECK(cat.count() == 113673219);
  CHECK(hash_of(lines_of(cat)) == 0x346d875ab7c2a679ULL);

  boot::unet2d_options c;  // openai/diffusers-cd_imagenet64_l2
  c.height = c.width = 64;
  c.block_channels = {192, 384, 576, 768};
  c.down = {resnet, attention, attention, attention};
  c.up = {attention, attention, attention, resnet};
  c.downsample = c.upsample = boot::unet2d_resampling::resnet;
  c.layers_per_block = 3;
  c.attention_head_dim = 64;
  c.attn_norm_num_groups = 32;
  c.time_scale_shift = true;
  c.classes = 1000;
  c.null_class = false;
  const auto imagenet = layout_of(c);
  CHECK(imagenet.count() == 295899267);
  CHECK(hash_of(lines_of(imagenet)) == 0xeebfb260b6f5397bULL);

  c.null_class = true;
  c.target_time = true;
  const auto own = layout_of(c);
  CHECK(own.entries()[static_cast<std::size_t>(own.find("class_embedding.weight"))].extents == boot::shape{1001, 768});
  CHECK(own.find("class_embedding.linear_2.weight") >= 0);
}

TEST_CASE("values and gradients of diffusers in float64", "[model][unet2d]") {
  // Printed by tests/golden/make_unet2d_values.py.
  const auto close = [](const std::array<double, 4>& got, const std::array<double, 4>& wanted) {
    for (std::size_t i = 0; i < 4; ++i) {
      INFO("figure " << i);
      CHECK(got[i] == Catch::Approx(wanted[i]).epsilon(1e-10));
    }
  };
  close(figures(small_options(), {999, 17.25}, {0, 0}),
        {0.3527093280211844, 1.4741776967768372, 43.66271362133603, 13.400392310689382});
  close(figures(resampling_options(), {0.8, 3.5}, {0.3, 1.5}),
        {0.183127571969256, -0.7041215584683957, 8.978052546912958, 0.6581428809594514});
}

TEST_CASE("recomputed blocks change no bit and take less memory", "[model][unet2d]") {
  for (boot::unet2d_options o : {small_options(), resampling_options()}) {
    const auto bytes = [&] {
      return model(dev, boot::unet2d(o), {}).plan(dev, 2, some_condition(), true, true, false).bytes;
    };
    const auto kept = figures(o, {2.5, 0.75}, {0.5, 1});
    const auto kept_bytes = bytes();
    o.recompute = true;
    CHECK(figures(o, {2.5, 0.75}, {0.5, 1}) == kept);
    CHECK(bytes() < kept_bytes);
  }
}

TEST_CASE("gradients of every part by finite differences", "[model][unet2d]") {
  const bool resampling = GENERATE(false, true);
  boot::unet2d_options o = resampling ? resampling_options() : small_options();
  o.height = o.width = 4;
  o.block_channels = {4, 8};
  o.down = {resampling ? resnet : attention, attention};
  o.up = {attention, plain};
  o.layers_per_block = 1;
  o.target_time = true;
  o.classes = 5;
  o.guidance_scale_input = 0.5;
  model m(dev, boot::unet2d(o), {});
  fill(m);
  boot::freeze_constants(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> from, to;
  const std::vector<double> target{0.3, 0.9};
  const auto report =
      boot::testing::check_student_gradient(dev, m, x.get(), from.set(dev, m, 0.7, 2), to.set(dev, m, target),
                                            some_condition(), {.directions = 2, .most_per_parameter = 1});
  INFO(report.worst_name << ": " << report.worst_tensor);
  CHECK(report.worst < 1e-6);
}

TEST_CASE("a uniform time, single samples and any number of threads give the same", "[model][unet2d]") {
  const model m(dev, boot::unet2d(small_options()), {}, 3);
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
  t.uniform = false;
  m.predict(dev, x.get(), t, c, other.get());
  for (std::int64_t i = 0; i < other.size(); ++i)
    REQUIRE(other.get()[i] == Catch::Approx(wanted[static_cast<std::size_t>(i)]).epsilon(1e-12).margin(1e-13));
  for (std::int64_t k = 0; k < 2; ++k)
    m.predict(dev, x.get().rows(k, 1), t.rows(k, 1), c.rows(k, 1), other.get().rows(k, 1));
  for (std::int64_t i = 0; i < other.size(); ++i)
    REQUIRE(other.get()[i] == Catch::Approx(wanted[static_cast<std::size_t>(i)]).epsilon(1e-12).margin(1e-13));
}

TEST_CASE("a student made from a teacher equals it at every target time", "[model][unet2d]") {
  boot::unet2d_options o = GENERATE(0, 1) == 0 ? small_options() : resampling_options();
  o.target_time = false;
  const model teacher(dev, boot::unet2d(o), {boot::prediction_kind::epsilon}, 5);
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
  const int constants = student.parameters().layout().find("time_proj.weight");
  CHECK((constants >= 0) == (o.time == boot::unet2d_time::fourier));
  if (constants >= 0) CHECK_FALSE(student.parameters().layout().group_of(constants).trainable);
}

TEST_CASE("class labels with and without a null class", "[model][unet2d]") {
  boot::unet2d_options o = small_options();
  const images x(model(dev, boot::unet2d(o), {}), 2);
  boot::tensor<double, boot::cpu> out(dev, x.extents);
  boot::times_buffer<boot::cpu, double> at;
  const auto predict = [&](const model& m, std::array<std::int32_t, 2> id, bool all_null = false) {
    m.predict(dev, x.get(), at.set(dev, m, 3.5, 2), condition{labels{{id.data(), {2}}, all_null}, guidance{}, low{}},
              out.get());
    return boot::to_host(dev, out.get());
  };
  const model without(dev, boot::unet2d(o), {}, 1);
  CHECK_NOTHROW(predict(without, {4, 0}));
  CHECK_THROWS_WITH(predict(without, {0, 5}), ContainsSubstring("sample 1 has class 5"));
  CHECK_THROWS_WITH(predict(without, {-1, 0}), ContainsSubstring("no null class"));
  CHECK_THROWS_WITH(predict(without, {0, 0}, true), ContainsSubstring("null_class"));
  o.classes = 4;
  o.null_class = true;  // the same table of five rows, read otherwise
  const model with(dev, boot::unet2d(o), {}, 1);
  CHECK(predict(with, {-1, 2}) == predict(without, {4, 2}));
  CHECK(predict(with, {0, 0}, true) == predict(without, {4, 4}));
  CHECK_THROWS_WITH(predict(with, {4, 0}), ContainsSubstring("has class 4"));
}

TEST_CASE("options that do not fit and missing conditions are told", "[model][unet2d]") {
  const auto message = [](auto change) {
    boot::unet2d_options o = small_options();
    change(o);
    try {
      boot::unet2d network(o);
    } catch (const boot::error& e) {
      return std::string(e.what());
    }
    return std::string("(no error)");
  };
  using options = boot::unet2d_options;
  CHECK_THAT(message([](options& o) { o.up.pop_back(); }), ContainsSubstring("2 levels down, 1 up and 2 widths"));
  CHECK_THAT(message([](options& o) { o.block_channels.clear(); }), ContainsSubstring("at least one"));
  CHECK_THAT(message([](options& o) { o.width = 5; }), ContainsSubstring("must be multiples of 2"));
  CHECK_THAT(message([](options& o) { o.height = 0; }), ContainsSubstring("all must be positive"));
  CHECK_THAT(message([](options& o) { o.norm_num_groups = 8; }), ContainsSubstring("must divide the channels"));
  CHECK_THAT(message([](options& o) { o.norm_num_groups = 0; }), ContainsSubstring("at least one group"));
  CHECK_THAT(message([](options& o) { o.attention_head_dim = 5; }), ContainsSubstring("heads of width 5"));
  CHECK_THAT(message([](options& o) { o.layers_per_block = 0; }), ContainsSubstring("0 layers per block"));
  CHECK_THAT(message([](options& o) { o.mid_block_scale_factor = 0; }), ContainsSubstring("mid_block_scale_factor 0"));
  CHECK_THAT(message([](options& o) { o.low_resolution_channels = -1; }), ContainsSubstring("-1 low-resolution"));

  boot::unet2d_options o = small_options();
  model m(dev, boot::unet2d(o), {});
  const images x(m, 2);
  const auto missing = [&](const model& network) {
    return network.plan(dev, 2, boot::no_condition{}, false, true, true);
  };
  CHECK_THROWS_WITH(missing(m), ContainsSubstring("pass boot::class_labels"));
  o.classes = 0;
  o.guidance_scale_input = 1;
  CHECK_THROWS_WITH(missing(model(dev, boot::unet2d(o), {})), ContainsSubstring("pass boot::guidance_scale"));
  boot::times_buffer<boot::cpu, double> at;
  boot::tensor<double, boot::cpu> out(dev, {2, 4, 6, 2});
  CHECK_THROWS_WITH(m.predict(dev, {x.x.data(), {2, 4, 6, 2}}, at.set(dev, m, 1.0, 2), some_condition(), out.get()),
                    ContainsSubstring("samples of shape [6, 4, 2]"));
}

namespace {

// A network that refines images of three channels, with two of them.
struct refining {
  boot::unet2d_options options = small_options();
  std::vector<double> pixels;

  refining() {
    options.height = 4;
    options.block_channels = {4, 8};
    options.low_resolution_channels = 3;
    options.time_scale = 20;
    for (std::int64_t i = 0; i < 2 * 4 * 4 * 3; ++i) pixels.push_back(wave(i, 0.7));
  }
  [[nodiscard]] condition with(const boot::shape& image = {2, 4, 4, 3}, const boot::shape& level = {2}) const {
    return some_condition({{pixels.data(), image}, {levels.data(), level}});
  }
  [[nodiscard]] std::vector<double> predict(const model& m, const condition& c, double t = 0.7) const {
    const images x(m, 2);
    boot::times_buffer<boot::cpu, double> from, to;
    boot::tensor<double, boot::cpu> out(dev, x.extents);
    m.predict(dev, x.get(), from.set(dev, m, t, 2), to.set(dev, m, std::vector<double>{0.1, 0.8}), c, out.get());
    return boot::to_host(dev, out.get());
  }
};

}  // namespace

TEST_CASE("a low-resolution image of a unet2d: names, its effect and its level's, students", "[model][unet2d]") {
  refining r;
  model m(dev, boot::unet2d(r.options), {});
  fill(m);
  const auto& layout = m.parameters().layout();
  const auto extents = [&](const char* name) {
    return layout.entries()[static_cast<std::size_t>(layout.find(name))].extents;
  };
  CHECK(extents("conv_in.weight") == boot::shape{4, 3, 3, 5});  // OHWI: the image's channels follow the sample's
  CHECK(extents("level_embedding.linear_1.weight") == boot::shape{16, 4});
  const auto wanted = r.predict(m, r.with());
  REQUIRE(m.sample_shape() == boot::shape{4, 4, 2});

  const std::size_t half = wanted.size() / 2;
  r.pixels.back() += 1;
  const auto moved = r.predict(m, r.with());
  condition louder = r.with();
  const std::vector<double> other{0.75, levels[1]};
  std::get<low>(louder.parts).level = {other.data(), {2}};
  const auto changed = r.predict(m, louder);
  CHECK(std::equal(moved.begin(), moved.begin() + static_cast<std::ptrdiff_t>(half), wanted.begin()));
  CHECK(moved.back() != wanted.back());
  CHECK(std::equal(moved.begin() + static_cast<std::ptrdiff_t>(half), moved.end(),
                   changed.begin() + static_cast<std::ptrdiff_t>(half)));
  CHECK(moved.front() != changed.front());

  const model student = boot::student_of(dev, m, 0.5);
  CHECK(student.network().options().low_resolution_channels == 3);
  const auto same = r.predict(student, r.with());
  for (std::size_t i = 0; i < same.size(); ++i)
    REQUIRE(same[i] == Catch::Approx(moved[i]).epsilon(1e-12).margin(1e-13));
}

TEST_CASE("gradients of a unet2d with a low-resolution image, and its errors", "[model][unet2d]") {
  refining r;
  r.options.target_time = true;
  model m(dev, boot::unet2d(r.options), {});
  fill(m);
  const images x(m, 2);
  boot::times_buffer<boot::cpu, double> from, to;
  const std::vector<double> target{0.3, 0.9};
  const auto report =
      boot::testing::check_student_gradient(dev, m, x.get(), from.set(dev, m, 0.7, 2), to.set(dev, m, target), r.with(),
                                            {.directions = 2, .most_per_parameter = 1});
  INFO(report.worst_name << ": " << report.worst_tensor);
  CHECK(report.worst < 1e-6);

  CHECK_THROWS_WITH(r.predict(m, r.with({2, 4, 3, 4})),
                    ContainsSubstring("[2, 4, 3, 4]") && ContainsSubstring("needs [2, 4, 4, 3] and [2]"));
  CHECK_THROWS_WITH(r.predict(m, r.with({2, 4, 4, 3}, {1})), ContainsSubstring("levels of shape [1]"));
  CHECK_THROWS_WITH(r.predict(m, r.with({1, 4, 4, 3})), ContainsSubstring("2 samples with low-resolution images"));
  r.options.classes = 0;
  CHECK_THROWS_WITH(model(dev, boot::unet2d(r.options), {}).plan(dev, 2, boot::no_condition{}, false, true, true),
                    ContainsSubstring("pass boot::low_resolution"));
}
