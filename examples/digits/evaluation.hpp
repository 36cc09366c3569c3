// SPDX-License-Identifier: MIT
/// How good a set of generated digits is: distances to the teacher's own ODE and to held-out images.
#pragma once

#include "digits/classifier.hpp"
#include "digits/teacher.hpp"

#include <boot/io/content_hash.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/metric/endpoint_error.hpp>
#include <boot/metric/frechet.hpp>
#include <boot/metric/precision_recall.hpp>
#include <boot/sampler/heun.hpp>

#include <fmt/core.h>

#include <cstdint>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace digits {

using samples = boot::tensor<float, boot::cpu>;
using labels_view = boot::class_labels<boot::cpu>;

/// Seeds of the evaluation: fixed, and different from every training seed's streams.
inline constexpr std::uint64_t paired_seed = 777, reference_seed = 4242;

/// Classes 0..9 in turn.
inline std::vector<std::int32_t> labels_in_turn(std::int64_t n) {
  std::vector<std::int32_t> labels(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int32_t>(i) % classes;
  return labels;
}
inline labels_view view_of(const std::vector<std::int32_t>& labels) {
  return {{labels.data(), {static_cast<std::int64_t>(labels.size())}}};
}
/// The noise that the samples with numbers 0..n-1 start from, [n, one...].
inline samples noise(const boot::cpu& dev, std::uint64_t seed, std::int64_t n, const boot::shape& one) {
  samples eps(dev, one.batched(n));
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  boot::fill_noise(dev, boot::counter_key{seed, boot::stream::noise, 0}, std::span<const std::int64_t>(numbers),
                   eps.get());
  return eps;
}

/// Figures of one set of samples.
struct figures {
  double pixels = 0, features = 0;                    ///< Frechet distance to the ODE set
  double held_out_pixels = 0, held_out_features = 0;  ///< Frechet distance to the 500 held-out images
  double rms = 0;                                     ///< to the ODE endpoint of the same noise and label
  double precision = 0, recall = 0, coverage = 0;     ///< k = 5, pixels, against the ODE set
  double class_share = 0;                             ///< share that the classifier gives the asked class
};

/// How much an evaluation does.
struct evaluation_options {
  std::int64_t paired = 8192;      ///< samples that are compared one by one with the ODE from the same noise
  std::int64_t reference = 20000;  ///< samples of the ODE from other noise
  std::int64_t ode_steps = 48;     ///< Heun steps of the ODE
};

/// What the figures are made with, or less for a look.
template <class Network>
evaluation_options evaluation(bool quick) {
  if (quick) return {.paired = 2048, .reference = 4096, .ode_steps = 16};
  return {.ode_steps = choice<Network>::ode_steps};
}

/// Everything samples are compared with. The teacher's ODE is solved by Heun steps uniform in log-SNR; the samples are kept
/// in `cache` under the teacher's hash, so that only the first evaluation of a teacher pays for them.
template <class Teacher>
class evaluator {
 public:
  evaluator(const boot::cpu& dev, const Teacher& teacher, const data_set& data, std::uint64_t teacher_hash,
            const std::string& cache, const evaluation_options& o)
      : classifier_(dev),
        labels_(labels_in_turn(o.paired)),
        eps_(noise(dev, paired_seed, o.paired, teacher.sample_shape())) {
    classifier_.train(dev, data.train);
    std::filesystem::create_directories(cache);
    const std::string name =
        fmt::format("{}/ode_{:016x}_{}_{}_heun{}.safetensors", cache, teacher_hash, o.paired, o.reference, o.ode_steps);
    const boot::shape end = eps_.extents(), reference = end.with_batch(o.reference);
    if (!std::filesystem::exists(name)) {
      const boot::sampler_options solver{.steps = o.ode_steps, .spacing = boot::time_spacing::lambda};
      end_ = samples(dev, end);
      boot::heun_sample(dev, teacher, schedule(), view_of(labels_), eps_, solver, end_.get());
      reference_ = samples(dev, reference);
      const auto turn = labels_in_turn(o.reference);
      boot::heun_sample(dev, teacher, schedule(), view_of(turn),
                        noise(dev, reference_seed, o.reference, teacher.sample_shape()), solver, reference_.get());
      const std::vector<boot::safetensors_entry> entries = {
          boot::entry_of_floats("end", {o.paired, pixels}, span_of(end_), boot::file_dtype::f32),
          boot::entry_of_floats("reference", {o.reference, pixels}, span_of(reference_), boot::file_dtype::f32)};
      boot::write_safetensors(name, entries);
    } else {
      const auto file = boot::safetensors_file::open(name);
      end_ = boot::tensor_of<float>(dev, std::span<const float>(file.read_floats("end")), end);
      reference_ = boot::tensor_of<float>(dev, std::span<const float>(file.read_floats("reference")), reference);
    }
    pixels_ = boot::feature_statistics(dev, reference_);
    features_ = boot::feature_statistics(dev, classifier_.features(dev, reference_));
    held_out_pixels_ = boot::feature_statistics(dev, data.held_out.images);
    held_out_features_ = boot::feature_statistics(dev, classifier_.features(dev, data.held_out.images));
    train_to_held_out_pixels =
        boot::frechet_distance(boot::feature_statistics(dev, data.train.images), held_out_pixels_);
    train_to_held_out_features = boot::frechet_distance(
        boot::feature_statistics(dev, classifier_.features(dev, data.train.images)), held_out_features_);
    classifier_accuracy = classifier_.share(dev, data.held_out.images, data.held_out.labels);
    neighbours_ = samples(dev, end.with_batch(std::min(o.paired, o.reference)));
    boot::copy(dev, std::as_const(reference_).get().rows(0, neighbours_.extents().batch()), neighbours_.get());
  }

  /// Figures of samples made from start() with labels(), in that order.
  figures operator()(const boot::cpu& dev, const samples& made) {
    figures f;
    const auto p = boot::feature_statistics(dev, made),
               q = boot::feature_statistics(dev, classifier_.features(dev, made));
    f.pixels = boot::frechet_distance(p, pixels_);
    f.features = boot::frechet_distance(q, features_);
    f.held_out_pixels = boot::frechet_distance(p, held_out_pixels_);
    f.held_out_features = boot::frechet_distance(q, held_out_features_);
    f.rms = boot::endpoint_error(dev, made, end_).absolute;
    const auto k = boot::precision_recall(dev, made, neighbours_, {.k = 5});
    f.precision = k.precision;
    f.recall = k.recall;
    f.coverage = k.coverage;
    f.class_share = classifier_.share(dev, made, labels_);
    return f;
  }

  /// The noise that samples are to be made from.
  const samples& start() const { return eps_; }
  /// The classes that are asked for.
  const std::vector<std::int32_t>& labels() const { return labels_; }
  /// The ODE endpoints of start() and labels().
  const samples& endpoints() const { return end_; }

  double train_to_held_out_pixels = 0, train_to_held_out_features = 0;  ///< floors of the held-out figures
  double classifier_accuracy = 0;                                       ///< on the held-out images

 private:
  static std::span<const float> span_of(const samples& s) { return {s.data(), static_cast<std::size_t>(s.size())}; }

  classifier classifier_;
  std::vector<std::int32_t> labels_;
  samples eps_, end_, reference_, neighbours_;
  boot::feature_statistics_result pixels_, features_, held_out_pixels_, held_out_features_;
};

}  // namespace digits
