// SPDX-License-Identifier: MIT
/// Prompts end to end: word vectors, a teacher that attends to them, guidance with a negative prompt, a one-step student.
///
/// The data are an exact mixture of sixteen Gaussians on two rings, and a prompt names one of them ("far north east")
/// or all that share a word ("north"). A mixture, because which component a sample belongs to is then known exactly:
/// the share of samples with the asked content has no classifier's errors in it. The components overlap, so that a
/// sample may miss what was asked for although nobody made a mistake, and guidance has something to gain.
#pragma once

#include <boot.hpp>
#include <boot/io/file.hpp>
#include <boot/metric/endpoint_error.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace conditions {

/// Settings of run_prompts(); the defaults are what the figures are made with.
struct prompt_settings {
  std::int64_t word_steps = 500;      ///< training of the word vectors
  std::int64_t teacher_steps = 2000;  ///< training of the teacher
  std::int64_t steps = 2000;          ///< distillation
  std::int64_t batch = 512;           ///< samples per step of each
  double teacher_rate = 2e-3;         ///< peak learning rate of the word vectors and the teacher
  double rate = 1e-3;                 ///< peak learning rate of the student
  double delta = 0.04;                ///< step of the bootstrap
  double dropout = 0.1;               ///< share of the data whose prompt is dropped, for guidance
  double w_min = 1, w_max = 4;        ///< guidance scales the student is asked for
  double negative_share = 0.25;       ///< share of the distillation's samples with a negative prompt
  std::int64_t samples = 4096;        ///< for each figure
  std::uint64_t seed = 0;             ///< of everything random
  bool quick = false;                 ///< a short run to see that everything works; its figures mean little
  std::string out;                    ///< folder for logs and the picture; empty: no files and no progress
};

/// Where a request for one word goes ("north") when another is not wanted ("east"): shares of the samples that have each.
struct negative_shares {
  double unwanted = 0;          ///< have the unwanted word, which was given as the negative prompt
  double asked = 0;             ///< have the word that was asked for, in the same samples
  double unwanted_without = 0;  ///< have the unwanted word, the negative prompt left empty
};

/// What run_prompts() found. Shares are of samples whose most probable component has the asked content.
struct prompt_figures {
  double mixture = 0;            ///< samples of the mixture itself
  double teacher_unguided = 0;   ///< teacher, DDIM-50, w = 1
  double teacher = 0;            ///< teacher, DDIM-50, w per sample in [w_min, w_max]
  double student = 0;            ///< student's one call; the same noise, prompts and w
  double student_unguided = 0;   ///< the same student asked for w = 1
  double student_wrong = 0;      ///< the same student given another prompt than the one that is asked for
  double student_error = 0;      ///< endpoint error to the teacher's DDIM-50, relative
  double ddim4_error = 0;        ///< the same of the teacher's DDIM-4
  negative_shares teacher_away;  ///< teacher, DDIM-50, with negative prompts
  negative_shares student_away;  ///< student's one call, with negative prompts
  double teacher_seconds = 0;    ///< training of word vectors and teacher
  double student_seconds = 0;    ///< distillation

  /// Share with the asked content, student / teacher's DDIM-50.
  [[nodiscard]] double guided_share() const { return student / teacher; }
};

namespace prompts {

using network = boot::network_model<boot::mlp, boot::cpu>;
using prompt_part = boot::prompt_embeddings<boot::cpu>;
using scale_part = boot::guidance_scale<boot::cpu>;
using points = boot::tensor<float, boot::cpu>;

inline boot::cosine_schedule prompt_schedule() { return boot::cosine_schedule({.t_min = 0.001, .t_max = 0.999}); }

// ---- What is asked for -------------------------------------------------------------------------------------------

enum word : std::int32_t { near_word, far_word, north, south, east, west, word_count, no_word = -1 };

/// Up to three words.
struct prompt {
  std::array<std::int32_t, 3> words{no_word, no_word, no_word};

  [[nodiscard]] std::int64_t size() const { return std::find(words.begin(), words.end(), no_word) - words.begin(); }
  [[nodiscard]] bool has(std::int32_t w) const { return std::find(words.begin(), words.end(), w) != words.end(); }
  void push_back(std::int32_t w) { words[static_cast<std::size_t>(size())] = w; }
};

inline std::string to_string(const prompt& p) {
  constexpr std::array<const char*, word_count> spelled = {"near", "far", "north", "south", "east", "west"};
  std::string text;
  for (std::int64_t i = 0; i < p.size(); ++i)
    text += (i == 0 ? "" : " ") + std::string(spelled[static_cast<std::size_t>(p.words[static_cast<std::size_t>(i)])]);
  return text;
}

/// The mixture and the name of each component: two or three words, its distance and its direction.
struct compass {
  std::vector<boot::mixture_component> components;
  std::vector<prompt> names;
  std::vector<prompt> all;  ///< the names, then each word alone

  compass() {
    for (const auto& [distance, radius] : {std::pair{near_word, 0.95}, std::pair{far_word, 1.9}}) {
      for (int k = 0; k < 8; ++k) {
        const double angle = k * std::numbers::pi / 4, x = std::sin(angle), y = std::cos(angle);
        components.push_back({1, {radius * x, radius * y}, 0.28, static_cast<std::int32_t>(names.size())});
        prompt name{{distance, no_word, no_word}};
        if (std::abs(y) > 0.1) name.push_back(y > 0 ? north : south);
        if (std::abs(x) > 0.1) name.push_back(x > 0 ? east : west);
        names.push_back(name);
      }
    }
    all = names;
    for (std::int32_t w = 0; w < word_count; ++w) all.push_back({{w, no_word, no_word}});
  }
  /// The component a point most probably comes from: with equal weights and deviations, the nearest.
  [[nodiscard]] std::size_t component_of(const float* x) const {
    const auto distance = [&](const boot::mixture_component& c) {
      return std::hypot(static_cast<double>(x[0]) - c.mean[0], static_cast<double>(x[1]) - c.mean[1]);
    };
    return static_cast<std::size_t>(
        std::min_element(components.begin(), components.end(),
                         [&](const auto& a, const auto& b) { return distance(a) < distance(b); }) -
        components.begin());
  }
  /// Two words and more name one component; a single word names all that have it.
  [[nodiscard]] bool fits(std::size_t component, const prompt& p) const {
    return p.size() == 1 ? names[component].has(p.words[0]) : names[component].words == p.words;
  }
  /// Share of the points that have what each was asked for.
  [[nodiscard]] double share(const points& x, std::span<const prompt> asked) const {
    std::int64_t hits = 0;
    for (std::size_t i = 0; i < asked.size(); ++i) hits += fits(component_of(x.data() + 2 * i), asked[i]) ? 1 : 0;
    return static_cast<double>(hits) / static_cast<double>(asked.size());
  }
};

/// Samples of the mixture and the component of each.
struct captioned_points {
  points x;
  std::vector<std::int32_t> component;

  captioned_points(const boot::cpu& dev, const compass& map, std::int64_t rows, std::uint64_t seed)
      : x(dev, {rows, 2}), component(static_cast<std::size_t>(rows)) {
    const auto own = static_cast<boot::stream>(65536);  // training draws from other streams
    const boot::counter_key key{seed, own, 0}, noise{seed, own, 1};
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto sample = static_cast<std::uint64_t>(i);
      const auto k = boot::uniform_index(static_cast<std::uint32_t>(map.components.size()), key, sample, 0);
      component[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(k);
      const auto& c = map.components[k];
      for (std::size_t j = 0; j < 2; ++j)
        x.data()[2 * i + static_cast<std::int64_t>(j)] =
            static_cast<float>(c.mean[j] + c.deviation * static_cast<double>(boot::normal(noise, sample, j)));
    }
  }
};

/// The caption a sample of the data gets in one step: its component's name, one word of it, or nothing at all.
inline prompt drawn_caption(const prompt& name, double dropout, const boot::counter_key& key, std::uint64_t sample) {
  if (static_cast<double>(boot::uniform(key, sample, 0)) < dropout) return {};
  if (boot::uniform(key, sample, 1) < 0.7f) return name;
  const auto chosen = boot::uniform_index(static_cast<std::uint32_t>(name.size()), key, sample, 2);
  return {{name.words[chosen], no_word, no_word}};
}

// ---- From words to vectors ---------------------------------------------------------------------------------------

constexpr std::int64_t word_width = 16;

/// What the text model reads: the number of the word at each of the three places, -1 where there is none.
struct word_numbers {
  std::array<boot::class_labels<boot::cpu>, 3> place;

  [[nodiscard]] word_numbers rows(std::int64_t first, std::int64_t count) const {
    return {{place[0].rows(first, count), place[1].rows(first, count), place[2].rows(first, count)}};
  }
  [[nodiscard]] word_numbers null() const { return {{place[0].null(), place[1].null(), place[2].null()}}; }
};

/// A small denoiser that reads a prompt as the sum of its words' vectors. Only its table is kept: text-to-image models
/// too take their word vectors, frozen, from a model that was trained before.
struct bag_of_words {
  boot::linear in{2, 64}, words_in{word_width, 64}, middle{64, 64}, out{64, 2};
  boot::time_embedding time{{.features = 16, .max_period = 8}, 64};
  boot::class_embedding table{word_count, word_width};  // and a last row for what ends a prompt

  template <class G, class Times>
  typename G::value operator()(G& g, const typename G::value& x, const Times& t, const Times&,
                               const word_numbers& prompt) const {
    auto words = table(g, prompt.place[0]);
    words = add(g, words, table(g, prompt.place[1]));
    words = add(g, words, table(g, prompt.place[2]));
    auto h = add(g, add(g, in(g, x), time(g, t)), words_in(g, words));
    h = add(g, h, middle(g, silu(g, h)));
    return out(g, silu(g, h));
  }
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("words_in", words_in);
    v("middle", middle);
    v("out", out);
    v("time", time);
    v("table", table);
  }
  [[nodiscard]] boot::shape sample_shape() const { return {2}; }
  [[nodiscard]] double time_input(double t) const { return 8 * t; }
};

/// A vector per word and, in the last row, one for the end of a prompt: [word_count + 1, word_width].
using word_vectors = std::vector<float>;

/// Prompts as sequences of vectors. Every prompt ends with the end's vector, so the empty prompt is that one alone;
/// what follows is padding, which the mask hides.
class embedded_prompts {
 public:
  static constexpr std::int64_t places = 4;  ///< three words and the end

  explicit embedded_prompts(const word_vectors& table) : table_(&table) {}
  void clear() { tokens_.clear(), mask_.clear(); }
  void add(const prompt& p) {
    for (std::int64_t i = 0; i < places; ++i) {
      const bool is_word = i < p.size();
      const std::int64_t row = is_word ? p.words[static_cast<std::size_t>(i)] : word_count;
      push(row, 1.0f, i <= p.size());
    }
  }
  /// With a fifth place for a word to stay away from, its vector with the opposite sign: what the student reads, which
  /// is called once and has to be told all that guidance depends on.
  void add(const prompt& p, const prompt& negative) {
    add(p);
    push(negative.size() == 0 ? word_count : negative.words[0], -1.0f, negative.size() > 0);
  }
  [[nodiscard]] boot::view<const float, boot::cpu> tokens(std::int64_t batch) const {
    return {tokens_.data(), {batch, static_cast<std::int64_t>(mask_.size()) / batch, word_width}};
  }
  [[nodiscard]] boot::view<const std::uint8_t, boot::cpu> mask(std::int64_t batch) const {
    return {mask_.data(), {batch, static_cast<std::int64_t>(mask_.size()) / batch}};
  }

 private:
  void push(std::int64_t row, float sign, bool counts) {
    for (std::int64_t j = 0; j < word_width; ++j)
      tokens_.push_back(sign * (*table_)[static_cast<std::size_t>(row * word_width + j)]);
    mask_.push_back(counts ? 1 : 0);
  }

  const word_vectors* table_;
  std::vector<float> tokens_;
  std::vector<std::uint8_t> mask_;
};

/// The captions of the data, as numbers for bag_of_words.
class numbered_captions {
 public:
  numbered_captions(const compass& map, std::span<const std::int32_t> component, double dropout)
      : map_(&map), component_(component), dropout_(dropout) {}
  word_numbers operator()(const boot::cpu&, std::uint64_t seed, std::int64_t step,
                          std::span<const std::int64_t> samples, std::span<const std::int64_t> rows) {
    const auto batch = static_cast<std::int64_t>(samples.size());
    const boot::counter_key key{seed, boot::stream::condition, static_cast<std::uint64_t>(step)};
    word_numbers result;
    for (auto& column : ids_) column.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto k = static_cast<std::size_t>(component_[static_cast<std::size_t>(rows[i])]);
      const prompt p = drawn_caption(map_->names[k], dropout_, key, static_cast<std::uint64_t>(samples[i]));
      for (std::size_t j = 0; j < 3; ++j) ids_[j][i] = p.words[j];
    }
    for (std::size_t j = 0; j < 3; ++j) result.place[j] = {{ids_[j].data(), {batch}}};
    return result;
  }
  void check(std::int64_t rows) const {
    boot::require(static_cast<std::int64_t>(component_.size()) == rows, "conditions: {} captions for {} points",
                  component_.size(), rows);
  }

 private:
  const compass* map_;
  std::span<const std::int32_t> component_;
  double dropout_;
  std::array<std::vector<std::int32_t>, 3> ids_;
};

/// The same captions as vectors, for the teacher.
class embedded_captions {
 public:
  embedded_captions(const compass& map, std::span<const std::int32_t> component, double dropout,
                    const word_vectors& table)
      : map_(&map), component_(component), dropout_(dropout), prompts_(table) {}
  prompt_part operator()(const boot::cpu&, std::uint64_t seed, std::int64_t step, std::span<const std::int64_t> samples,
                         std::span<const std::int64_t> rows) {
    const auto batch = static_cast<std::int64_t>(samples.size());
    const boot::counter_key key{seed, boot::stream::condition, static_cast<std::uint64_t>(step)};
    prompts_.clear();
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto k = static_cast<std::size_t>(component_[static_cast<std::size_t>(rows[i])]);
      prompts_.add(drawn_caption(map_->names[k], dropout_, key, static_cast<std::uint64_t>(samples[i])));
    }
    return {.tokens = prompts_.tokens(batch), .mask = prompts_.mask(batch)};
  }
  void check(std::int64_t rows) const {
    boot::require(static_cast<std::int64_t>(component_.size()) == rows, "conditions: {} captions for {} points",
                  component_.size(), rows);
  }

 private:
  const compass* map_;
  std::span<const std::int32_t> component_;
  double dropout_;
  embedded_prompts prompts_;
};

// ---- Conditions of the distillation ------------------------------------------------------------------------------

/// What the teacher reads. The student reads another sequence, with the unwanted word in it, so the two need two types.
struct teacher_prompt {
  prompt_part prompt;  ///< its null() is the negative prompt

  [[nodiscard]] teacher_prompt rows(std::int64_t first, std::int64_t count) const {
    return {prompt.rows(first, count)};
  }
  [[nodiscard]] teacher_prompt null() const { return {prompt.null()}; }
};

using guided_prompt = boot::conditions<prompt_part, scale_part, teacher_prompt>;

/// The teacher's network behind the part of the condition that is its own.
class prompted_teacher {
 public:
  explicit prompted_teacher(const network& n) : network_(&n) {}
  void predict(const boot::cpu& dev, boot::view<const float, boot::cpu> x, const boot::times<boot::cpu>& t,
               const guided_prompt& condition, boot::view<float, boot::cpu> out) const {
    network_->predict(dev, x, t, boot::condition_part<teacher_prompt>(condition).prompt, out);
  }
  [[nodiscard]] boot::prediction prediction() const { return network_->prediction(); }
  [[nodiscard]] boot::shape sample_shape() const { return network_->sample_shape(); }
  [[nodiscard]] double time_input(double t) const { return network_->time_input(t); }

 private:
  const network* network_;
};
static_assert(boot::Teacher<prompted_teacher, boot::cpu, guided_prompt>);

/// A batch of prompts, negative prompts (empty, or one word) and guidance scales, as conditions.
class prompt_batch {
 public:
  explicit prompt_batch(const word_vectors& table) : asked_(table), negative_(table), both_(table) {}
  void clear() { asked_.clear(), negative_.clear(), both_.clear(), scales_.clear(); }
  void add(const prompt& asked, const prompt& negative, double w) {
    asked_.add(asked);
    negative_.add(negative);
    both_.add(asked, negative);
    scales_.push_back(static_cast<float>(w));
  }
  /// Valid until the next clear() or add().
  [[nodiscard]] guided_prompt get() const {
    const auto n = static_cast<std::int64_t>(scales_.size());
    const prompt_part teacher{asked_.tokens(n), asked_.mask(n), negative_.tokens(n), negative_.mask(n)};
    const prompt_part student{both_.tokens(n), both_.mask(n), teacher.negative, teacher.negative_mask};
    return guided_prompt(student, scale_part{{scales_.data(), {n}}}, teacher_prompt{teacher});
  }

 private:
  embedded_prompts asked_, negative_, both_;
  std::vector<float> scales_;
};

/// Any prompt, now and then with a word to stay away from, and any guidance scale of the range: all that the student
/// will be asked for, drawn per sample. Models: ConditionSource.
class drawn_prompts {
 public:
  drawn_prompts(const compass& map, const word_vectors& table, const prompt_settings& s)
      : map_(&map), batch_(table), w_min_(s.w_min), w_max_(s.w_max), negative_share_(s.negative_share) {}
  guided_prompt operator()(const boot::cpu&, std::uint64_t seed, std::int64_t step,
                           std::span<const std::int64_t> samples) {
    const boot::counter_key key{seed, boot::stream::condition, static_cast<std::uint64_t>(step)};
    batch_.clear();
    for (const std::int64_t i : samples) {
      const auto sample = static_cast<std::uint64_t>(i);
      const prompt& asked =
          map_->all[boot::uniform_index(static_cast<std::uint32_t>(map_->all.size()), key, sample, 0)];
      prompt negative;
      if (static_cast<double>(boot::uniform(key, sample, 1)) < negative_share_) {
        const auto w = static_cast<std::int32_t>(boot::uniform_index(word_count, key, sample, 2));
        if (!asked.has(w)) negative.push_back(w);
      }
      batch_.add(asked, negative, w_min_ + (w_max_ - w_min_) * static_cast<double>(boot::uniform(key, sample, 4)));
    }
    return batch_.get();
  }

 private:
  const compass* map_;
  prompt_batch batch_;
  double w_min_, w_max_, negative_share_;
};
static_assert(boot::ConditionSource<drawn_prompts, boot::cpu>);

// ---- Training ----------------------------------------------------------------------------------------------------

inline boot::distiller_options training(const prompt_settings& s, std::int64_t steps, double rate, const char* folder) {
  boot::distiller_options o;
  o.steps = steps;
  o.batch = s.batch;
  o.seed = s.seed;
  o.rate = {.peak = rate};
  o.optimizer = {.weight_decay = 0, .averages = {{.decay = 0.999}}};
  o.handle_signals = !s.out.empty();  // without files nobody watches, and a signal ends the program as usual
  if (s.out.empty()) {
    o.progress = boot::progress_mode::off;
  } else {
    o.folder = s.out + "/" + folder;
    o.report_every = std::max<std::int64_t>(1, steps / 4);
  }
  return o;
}

template <class Objective>
double train(const boot::cpu& dev, Objective& loss, const boot::distiller_options& options, network* averaged) {
  boot::distiller trainer{dev, loss, options};
  const auto result = trainer.run();
  boot::require(result.finished, "conditions: stopped after {} of {} steps; start it again", result.step,
                options.steps);
  if constexpr (std::same_as<std::remove_cvref_t<decltype(loss.student())>, network>)
    if (averaged != nullptr) *averaged = trainer.average_model();
  return result.seconds;
}

inline word_vectors learn_words(const boot::cpu& dev, const compass& map, const captioned_points& data,
                                const prompt_settings& s, double& seconds) {
  boot::network_model model(dev, bag_of_words{}, {boot::prediction_kind::v}, s.seed);
  boot::denoising loss(model, prompt_schedule(), data.x.get(), {}, numbered_captions(map, data.component, s.dropout));
  seconds += train(dev, loss, training(s, s.word_steps, s.teacher_rate, "words"), nullptr);
  const float* const table = std::as_const(model).parameters().values().data() + model.network().table.weight.offset;
  return {table, table + (word_count + 1) * word_width};
}

inline network train_prompt_teacher(const boot::cpu& dev, const compass& map, const captioned_points& data,
                                    const word_vectors& table, const prompt_settings& s, double& seconds) {
  boot::mlp_options o;
  o.features = 2;
  o.width = 128;
  o.hidden_layers = 3;
  o.time = {.features = 32, .max_period = 8};
  o.time_scale = 8;  // 1 to 8 radians over the range: the student has to be smooth in the target time
  o.context_width = word_width;
  o.context_heads = 4;
  network teacher(dev, boot::mlp(o), {boot::prediction_kind::v}, s.seed);
  boot::denoising loss(teacher, prompt_schedule(), data.x.get(), {},
                       embedded_captions(map, data.component, s.dropout, table));
  network averaged = teacher.clone(dev);
  seconds += train(dev, loss, training(s, s.teacher_steps, s.teacher_rate, "teacher"), &averaged);
  return averaged;
}

// ---- Samples -----------------------------------------------------------------------------------------------------

/// One panel of the picture: its heading and 2 x n points, the teacher's and the student's.
struct prompt_panel {
  std::string heading;
  points teacher, student;
};

inline void write_panels(const std::string& path, const compass& map, const std::vector<prompt_panel>& panels) {
  constexpr double side = 210, top = 44, left = 24, reach = 4.2;
  const double width = left + side * static_cast<double>(panels.size()), height = top + 2 * side;
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0:g} {1:g}' font-family='sans-serif' font-size='12'>\n"
      "<rect width='{0:g}' height='{1:g}' fill='white'/>\n",
      width, height);
  for (std::size_t p = 0; p < panels.size(); ++p) {
    const double x0 = left + side * static_cast<double>(p);
    svg += fmt::format("<text x='{:g}' y='26' text-anchor='middle'>{}</text>\n", x0 + side / 2, panels[p].heading);
    for (int row = 0; row < 2; ++row) {
      const points& x = row == 0 ? panels[p].teacher : panels[p].student;
      const double y0 = top + side * row, scale = (side - 8) / (2 * reach);
      const auto px = [&](double v) { return x0 + side / 2 + scale * std::clamp(v, -reach, reach); };
      const auto py = [&](double v) { return y0 + side / 2 - scale * std::clamp(v, -reach, reach); };
      svg += fmt::format("<rect x='{:g}' y='{:g}' width='{:g}' height='{:g}' fill='none' stroke='#ccc'/>\n", x0 + 2,
                         y0 + 2, side - 4, side - 4);
      for (const auto& c : map.components)
        svg += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='{:.1f}' fill='#eee'/>\n", px(c.mean[0]), py(c.mean[1]),
                           2 * c.deviation * scale);
      std::string dots;
      for (std::int64_t i = 0; i < x.extents().batch(); ++i)
        dots += fmt::format("M{:.1f} {:.1f}h0", px(static_cast<double>(x.data()[2 * i])),
                            py(static_cast<double>(x.data()[2 * i + 1])));
      svg += fmt::format(
          "<path d='{}' stroke='{}' stroke-opacity='.5' stroke-width='2.4' stroke-linecap='round' fill='none'/>\n",
          dots, row == 0 ? "#2a5db0" : "#b0482a");
    }
  }
  for (int row = 0; row < 2; ++row)
    svg += fmt::format("<text x='16' y='{0:g}' text-anchor='middle' transform='rotate(-90 16 {0:g})'>{1}</text>\n",
                       top + side * (row + 0.5), row == 0 ? "teacher, DDIM-50" : "student, one call");
  boot::atomic_write_file(path, svg + "</svg>\n");
}

/// What is asked of n samples; sample i has the noise number i of the seed.
struct prompt_requests {
  std::vector<prompt> asked, negative;
  std::vector<double> w;

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(asked.size()); }
  void add(const prompt& p, const prompt& n, double scale) {
    asked.push_back(p);
    negative.push_back(n);
    w.push_back(scale);
  }
};

class prompt_sampler {
 public:
  prompt_sampler(const boot::cpu& dev, const network& teacher, const network& student, const word_vectors& table)
      : dev_(dev), teacher_(teacher), guided_(teacher_), student_(student), batch_(table) {}
  points teacher(const prompt_requests& r, std::int64_t steps = 50) {
    points x(dev_, {r.size(), 2});
    boot::ddim_sample(dev_, guided_, prompt_schedule(), condition(r), noise, {.steps = steps}, x.get());
    return x;
  }
  points student(const prompt_requests& r) {
    points x(dev_, {r.size(), 2});
    boot::one_step_sample(dev_, student_, prompt_schedule(), condition(r), noise, {}, x.get());
    return x;
  }

 private:
  static constexpr boot::drawn_noise noise{777, 0};
  guided_prompt condition(const prompt_requests& r) {
    batch_.clear();
    for (std::size_t i = 0; i < r.asked.size(); ++i) batch_.add(r.asked[i], r.negative[i], r.w[i]);
    return batch_.get();
  }

  boot::cpu dev_;
  prompted_teacher teacher_;
  boot::guided<prompted_teacher> guided_;  // the scale of each sample, away from its negative prompt
  const network& student_;
  prompt_batch batch_;
};

inline prompt_figures run(const boot::cpu& dev, prompt_settings s) {
  if (s.quick) {
    s.word_steps = std::min<std::int64_t>(s.word_steps, 100);
    s.teacher_steps = std::min<std::int64_t>(s.teacher_steps, 300);
    s.steps = std::min<std::int64_t>(s.steps, 200);
    s.samples = std::min<std::int64_t>(s.samples, 512);
  }
  boot::require(s.samples > 0 && s.w_min <= s.w_max,
                "conditions: {} samples with guidance scales from {} to {}; needs at least one and w_min <= w_max",
                s.samples, s.w_min, s.w_max);
  if (!s.out.empty()) std::filesystem::create_directories(s.out);
  const auto say = [&](const std::string& text) {
    if (!s.out.empty()) fmt::print("{}\n", text), std::fflush(stdout);
  };
  prompt_figures f;

  const compass map;
  const captioned_points data(dev, map, 65536, s.seed);
  say(fmt::format("Word vectors: {} steps. Teacher that attends to them: {} steps, on samples with captions.",
                  s.word_steps, s.teacher_steps));
  const word_vectors table = learn_words(dev, map, data, s, f.teacher_seconds);
  const network trained = train_prompt_teacher(dev, map, data, table, s, f.teacher_seconds);

  say(fmt::format("Distilling: {} steps of {} samples, no data; prompts and scales w in [{:g}, {:g}] are drawn.",
                  s.steps, s.batch, s.w_min, s.w_max));
  const prompted_teacher reader(trained);
  const boot::guided teacher(reader);
  network student = boot::student_of(dev, trained, 2, s.seed);
  boot::bootstrap loss(teacher, student, prompt_schedule(), boot::bootstrap_options{.delta = s.delta},
                       drawn_prompts(map, table, s));
  network distilled = student.clone(dev);
  f.student_seconds = train(dev, loss, training(s, s.steps, s.rate, "student"), &distilled);

  // The same noise, prompts and scales for everybody.
  prompt_requests names, unguided, wrong, away, without;
  std::vector<prompt> unwanted;
  const boot::counter_key key{s.seed, static_cast<boot::stream>(65537), 0};
  for (std::int64_t i = 0; i < s.samples; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const double w =
        s.w_min + (s.w_max - s.w_min) * static_cast<double>(boot::uniform(key, static_cast<std::uint64_t>(i), 0));
    const std::size_t n = map.names.size();
    names.add(map.names[k % n], {}, w);
    unguided.add(map.names[k % n], {}, 1);
    wrong.add(map.names[(k % n + 1 + k / n % (n - 1)) % n], {}, w);
    // "north" without the easterly ones, and the like: of its six components two are to be avoided.
    const bool vertical = i % 2 == 0, second = i / 2 % 2 == 0, other = i / 4 % 2 == 0;
    const std::int32_t asked = vertical ? (second ? north : south) : (second ? east : west);
    unwanted.push_back({{vertical ? (other ? east : west) : (other ? north : south), no_word, no_word}});
    away.add({{asked, no_word, no_word}}, unwanted.back(), w);
    without.add(away.asked.back(), {}, w);
  }
  prompt_sampler sample(dev, trained, distilled, table);
  {
    points x(dev, {s.samples, 2});
    const captioned_points fresh(dev, map, s.samples, s.seed + 1000003);
    std::vector<prompt> asked;
    for (const auto k : fresh.component) asked.push_back(map.names[static_cast<std::size_t>(k)]);
    f.mixture = map.share(fresh.x, asked);
  }
  f.teacher_unguided = map.share(sample.teacher(unguided), names.asked);
  const points truth = sample.teacher(names);
  f.teacher = map.share(truth, names.asked);
  const points made = sample.student(names);
  f.student = map.share(made, names.asked);
  f.student_unguided = map.share(sample.student(unguided), names.asked);
  f.student_wrong = map.share(sample.student(wrong), names.asked);
  f.student_error = boot::endpoint_error(dev, made, truth).relative;
  f.ddim4_error = boot::endpoint_error(dev, sample.teacher(names, 4), truth).relative;
  const auto shares = [&](const points& x, const points& x_without) {
    return negative_shares{map.share(x, unwanted), map.share(x, away.asked), map.share(x_without, unwanted)};
  };
  f.teacher_away = shares(sample.teacher(away), sample.teacher(without));
  f.student_away = shares(sample.student(away), sample.student(without));

  if (!s.out.empty()) {
    std::vector<prompt_panel> panels;
    const auto panel = [&](const prompt& asked, const prompt& negative, double w) {
      prompt_requests r;
      for (std::int64_t i = 0; i < std::min<std::int64_t>(s.samples, 400); ++i) r.add(asked, negative, w);
      std::string heading = "\"" + to_string(asked) + "\"";
      if (negative.size() > 0) heading += ", not \"" + to_string(negative) + "\"";
      panels.push_back({fmt::format("{}, w = {:g}", heading, w), sample.teacher(r), sample.student(r)});
    };
    panel({{far_word, north, east}}, {}, 1);
    panel({{far_word, north, east}}, {}, 3);
    panel({{near_word, west, no_word}}, {}, 3);
    panel({{north, no_word, no_word}}, {}, 2);
    panel({{north, no_word, no_word}}, {{east, no_word, no_word}}, 2);
    write_panels(s.out + "/prompts.svg", map, panels);
  }
  return f;
}

}  // namespace prompts

/// Learns word vectors, trains a teacher on captioned samples, distils it without them, and measures both.
inline prompt_figures run_prompts(const boot::cpu& dev, const prompt_settings& settings) {
  return prompts::run(dev, settings);
}

}  // namespace conditions
