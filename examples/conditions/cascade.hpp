// SPDX-License-Identifier: MIT
/// A cascade of two students: digits of 4x4 pixels, then 8x8 from the first student's images. Neither sees data.
#pragma once

#include "digits/data.hpp"

#include <boot/io/image.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/cpu/quantile.hpp>
#include <boot/metric/frechet.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/cascade.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/sources.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/heun.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace conditions {

/// Settings of the cascade; the defaults are what the figures are made with.
struct cascade_settings {
  std::int64_t teacher_steps = 4000;   ///< of each teacher's training on the data
  std::int64_t student_steps = 3000;   ///< of each distillation
  std::int64_t first_width = 256;      ///< hidden width of the 4x4 networks
  std::int64_t second_width = 384;     ///< hidden width of the 8x8 networks
  std::int64_t samples = 8192;         ///< per Frechet distance; the set compared with has twice as many
  double most_noise = 0.5;             ///< augmentation in training: uniform up to this share of the schedule's range
  double noise = 0.2;                  ///< augmentation when sampling
  bool controls = true;                ///< also distils a second student on data images, and samples wrong classes
  std::uint64_t seed = 0;              ///< of networks, training and samples
  bool quick = false;                  ///< a small run that shows that everything works; its figures mean nothing
  std::string data = "examples/data";  ///< folder of digits.csv.gz
  std::string out = {};                ///< folder for a picture; empty: none
};

/// Frechet distances in pixels to 8x8 digits of the cascade of both teachers, each sampled with Heun to convergence.
struct cascade_figures {
  double student = 0;        ///< both students, one call each
  double ddim10 = 0;         ///< both teachers with DDIM-10: twenty calls
  double floor = 0;          ///< the cascade of both teachers once more, from other noise
  double on_data = 0;        ///< the second student distilled on images of the data instead; same first student
  double wrong_class = 0;    ///< the students, the second one given an image of another class than it is asked for
  double first_student = 0;  ///< the first student's 4x4 images to the first teacher's
  double first_ddim10 = 0;   ///< DDIM-10 of the first teacher, likewise
  double seconds = 0;        ///< all distillations together

  /// What the student cascade is judged by; below 1 its two calls beat twenty of the teachers.
  [[nodiscard]] double ratio() const noexcept { return student / ddim10; }
};

namespace cascade {

using network = boot::network_model<boot::mlp, boot::cpu>;
using samples = boot::tensor<float, boot::cpu>;
using digits::classes;

inline constexpr std::int64_t low = 16, high = 64;  ///< pixels of the two stages

inline boot::cosine_schedule schedule() { return boot::cosine_schedule({.t_min = 0.001, .t_max = 1}); }

/// Noise on the 4x4 images: from `least` to `most`.
inline boot::cascade_options noise_between(double least, double most) {
  return {.image = {4, 4, 1}, .least_noise = least, .most_noise = most};
}

/// Runs a distiller to its end; the averaged weights.
template <class Loss>
network trained(const boot::cpu& dev, const char* what, Loss& loss, boot::distiller_options o,
                double* seconds = nullptr) {
  fmt::print(stderr, "cascade: {}, {} steps of {} samples\n", what, o.steps, o.batch);
  o.report_every = std::max<std::int64_t>(1, o.steps / 4);
  boot::distiller trainer{dev, loss, std::move(o)};
  const auto result = trainer.run();
  boot::require(result.finished, "cascade: {} was stopped after {} steps; start it again", what, result.step);
  if (seconds != nullptr) *seconds += result.seconds;
  return loss.student().clone(dev, trainer.optimizer().average(0));
}

/// A class-conditional teacher on the data; the second stage's reads a low-resolution image.
template <class DataCondition>
network teach(const boot::cpu& dev, const char* what, const samples& data, const boot::mlp_options& options,
              const cascade_settings& s, DataCondition condition) {
  network teacher(dev, boot::mlp(options), {boot::prediction_kind::v}, s.seed);
  boot::denoising loss(teacher, schedule(), data.get(), {}, std::move(condition));
  return trained(dev, what, loss,
                 {.steps = s.teacher_steps,
                  .batch = 256,
                  .seed = s.seed,
                  .rate = {.peak = 1e-3, .warmup_steps = s.teacher_steps / 20, .final_share = 0.02}});
}

/// A one-step student of a teacher, without data of its own stage.
template <class Source>
network distil(const boot::cpu& dev, const char* what, const network& teacher, const cascade_settings& s, Source source,
               double* seconds) {
  network student = boot::student_of(dev, teacher, 0, s.seed);
  boot::bootstrap loss(teacher, student, schedule(), boot::bootstrap_options{.delta = 0.04, .boundary_fraction = 0.25},
                       std::move(source));
  return trained(dev, what, loss,
                 {.steps = s.student_steps,
                  .batch = 256,
                  .seed = s.seed,
                  .rate = {.peak = 3e-3},
                  .optimizer = {.averages = {{.decay = 0.999}}}},
                 seconds);
}

/// The control's source: images of the data, each with its class, in place of the first student's.
class data_source {
 public:
  data_source(const samples& images, const std::vector<std::int32_t>& labels, const boot::cascade_options& o)
      : images_(images.get()), labels_(&labels), make_(schedule(), o), chosen_({}) {}
  boot::conditions<boot::class_labels<boot::cpu>, boot::low_resolution<boot::cpu>> operator()(
      const boot::cpu& dev, std::uint64_t seed, std::int64_t step, std::span<const std::int64_t> numbers) {
    ids_.clear();
    chosen_ = samples(dev, {static_cast<std::int64_t>(numbers.size()), low});
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto row = static_cast<std::int64_t>(boot::uniform_index(
          static_cast<std::uint32_t>(labels_->size()), {seed, boot::stream::shuffle, static_cast<std::uint64_t>(step)},
          static_cast<std::uint64_t>(numbers[i]), 0));
      boot::copy(dev, images_.rows(row, 1), chosen_.get().rows(static_cast<std::int64_t>(i), 1));
      ids_.push_back((*labels_)[static_cast<std::size_t>(row)]);
    }
    return boot::conditions(boot::class_labels<boot::cpu>{{ids_.data(), {static_cast<std::int64_t>(ids_.size())}}},
                            make_(dev, seed, step, numbers, std::as_const(chosen_).get()));
  }

 private:
  boot::view<const float, boot::cpu> images_;
  const std::vector<std::int32_t>* labels_;
  boot::low_resolution_images<boot::cosine_schedule> make_;
  samples chosen_;
  std::vector<std::int32_t> ids_;
};

/// What one cascade made.
struct images {
  samples small, large;  ///< [N, 16] and [N, 64]
};

/// A cascade's samples, class after class: `first` and `second` are calls (condition, noise, out) of a sampler. The
/// image of sample i may belong to another class than the one that the second stage is asked for: `shift` classes on.
template <class First, class Second>
images sample(const boot::cpu& dev, const cascade_settings& s, std::int64_t n, std::uint64_t seed, const First& first,
              const Second& second, std::int32_t shift = 0) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<std::int32_t> asked, drawn;
  for (const std::int64_t i : numbers) {
    asked.push_back(static_cast<std::int32_t>(i % classes));
    drawn.push_back((asked.back() + shift) % classes);
  }
  const auto labels = [n](const std::vector<std::int32_t>& ids) {
    return boot::class_labels<boot::cpu>{{ids.data(), {n}}};
  };
  images made{samples(dev, {n, low}), samples(dev, {n, high})};
  first(labels(drawn), boot::drawn_noise{boot::lower_stage_seed(seed)}, made.small.get());
  boot::low_resolution_images enlarge(schedule(), noise_between(s.noise, s.noise));
  second(boot::conditions(labels(asked), enlarge(dev, seed, 0, numbers, std::as_const(made.small).get())),
         boot::drawn_noise{seed}, made.large.get());
  return made;
}

/// Draws the same twenty samples of both cascades: small and large images of the students, then of the teachers.
inline void draw(const std::string& folder, const images& student, const images& teacher) {
  constexpr std::int64_t columns = 20;
  const boot::cpu dev;
  samples all(dev, {4 * columns, 8, 8, 1}), picked(dev, {columns, 4, 4, 1});
  std::int64_t row = 0;
  for (const images* made : {&student, &teacher}) {
    boot::copy(dev, made->small.get().rows(0, columns).reshape(picked.extents()), picked.get());
    boot::upsample_forward(dev, std::as_const(picked).get(), all.get().rows(row, columns));
    const auto large = made->large.get().rows(0, columns);
    boot::copy(dev, large.reshape({columns, 8, 8, 1}), all.get().rows(row + columns, columns));
    row += 2 * columns;
  }
  const auto picture = boot::sample_grid(std::as_const(all).get(), {.columns = columns, .scale = 5});
  boot::write_png(folder + "/cascade.png", picture.get());
}

inline cascade_figures run(const boot::cpu& dev, const cascade_settings& settings) {
  cascade_settings s = settings;
  if (s.quick) {
    s.teacher_steps = std::min<std::int64_t>(s.teacher_steps, 200);
    s.student_steps = std::min<std::int64_t>(s.student_steps, 100);
    s.first_width = s.second_width = 64;
    s.samples = 512;
  }
  const digits::data_set data = digits::load(s.data);
  const std::vector<std::int32_t>& labels = data.train.labels;
  const auto rows = static_cast<std::int64_t>(labels.size());
  samples small_data(dev, {rows, low});
  boot::average_pool_forward(dev, data.train.images.get().reshape({rows, 8, 8, 1}),
                             small_data.get().reshape({rows, 4, 4, 1}));
  const boot::cascade_options noisy = noise_between(0, s.most_noise);

  boot::mlp_options first{.features = low, .width = s.first_width, .classes = classes};
  boot::mlp_options second{
      .features = high, .width = s.second_width, .classes = classes, .low_resolution_features = high};
  const auto data_labels = [&] { return boot::data_labels<boot::cpu>(labels, 0); };
  const network first_teacher = teach(dev, "4x4 teacher on the data", small_data, first, s, data_labels());
  const network second_teacher =
      teach(dev, "8x8 teacher on the data", data.train.images, second, s,
            boot::data_low_resolution(std::as_const(small_data).get(), schedule(), noisy, data_labels()));

  cascade_figures f;
  const network first_student = distil(dev, "4x4 student", first_teacher, s, boot::label_source(classes), &f.seconds);
  const network second_student =
      distil(dev, "8x8 student on the first student's images", second_teacher, s,
             boot::cascade_source(first_student, schedule(), noisy, boot::label_source(classes)), &f.seconds);

  fmt::print(stderr, "cascade: sampling\n");
  const auto heun = [&](const network& m) {
    return [&](const auto& condition, const auto& noise, auto out) {
      const std::int64_t steps = s.quick ? 8 : 32;
      boot::heun_sample(dev, m, schedule(), condition, noise, {.steps = steps, .spacing = boot::time_spacing::lambda},
                        out);
    };
  };
  const auto ddim = [&](const network& m) {
    return [&](const auto& condition, const auto& noise, auto out) {
      boot::ddim_sample(dev, m, schedule(), condition, noise, {.steps = 10}, out);
    };
  };
  const auto one_step = [&](const network& m) {
    return [&](const auto& condition, const auto& noise, auto out) {
      boot::one_step_sample(dev, m, schedule(), condition, noise, {}, out);
    };
  };
  const std::uint64_t judge = 4242 + s.seed, seed = 777 + s.seed;
  const images reference = sample(dev, s, 2 * s.samples, judge, heun(first_teacher), heun(second_teacher));
  const auto small = boot::feature_statistics(dev, reference.small),
             large = boot::feature_statistics(dev, reference.large);
  const auto distance = [&](const samples& made, const boot::feature_statistics_result& to) {
    return boot::frechet_distance(boot::feature_statistics(dev, made), to);
  };
  const images students = sample(dev, s, s.samples, seed, one_step(first_student), one_step(second_student));
  const images by_ddim = sample(dev, s, s.samples, seed, ddim(first_teacher), ddim(second_teacher));
  const images again = sample(dev, s, s.samples, seed, heun(first_teacher), heun(second_teacher));
  f.student = distance(students.large, large);
  f.ddim10 = distance(by_ddim.large, large);
  f.floor = distance(again.large, large);
  f.first_student = distance(students.small, small);
  f.first_ddim10 = distance(by_ddim.small, small);
  if (!s.out.empty()) {
    std::filesystem::create_directories(s.out);
    draw(s.out, students, again);
  }
  if (s.controls) {
    f.wrong_class =
        distance(sample(dev, s, s.samples, seed, one_step(first_student), one_step(second_student), 5).large, large);
    const network on_data = distil(dev, "8x8 student on images of the data", second_teacher, s,
                                   data_source(small_data, labels, noisy), &f.seconds);
    f.on_data = distance(sample(dev, s, s.samples, seed, one_step(first_student), one_step(on_data)).large, large);
  }
  return f;
}

}  // namespace cascade

/// Trains both teachers on the digits, distils both, and compares the two cascades.
inline cascade_figures run_cascade(const boot::cpu& dev, const cascade_settings& settings) {
  return cascade::run(dev, settings);
}

}  // namespace conditions
