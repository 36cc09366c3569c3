// SPDX-License-Identifier: MIT
/// The class-conditional teacher of the digits example: its network, its training on the data, its file.
#pragma once

#include "digits/data.hpp"

#include <boot/io/parameters.hpp>
#include <boot/model/mlp.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace digits {

using network = boot::network_model<boot::mlp, boot::cpu>;

inline boot::cosine_schedule schedule() { return boot::cosine_schedule({.t_min = 0.001, .t_max = 1}); }

/// 1.3 million parameters, predicts v.
inline network new_teacher(const boot::cpu& dev, std::uint64_t seed = 0) {
  boot::mlp_options options;
  options.features = pixels;
  options.classes = classes;
  return network(dev, boot::mlp(options), {boot::prediction_kind::v}, seed);
}

/// Trains a teacher on the 1,297 training images; a tenth of the labels is dropped so that guidance is possible.
inline network train_teacher(const boot::cpu& dev, const image_set& data, std::int64_t steps, double rate,
                             std::string folder = {}) {
  network teacher = new_teacher(dev);
  boot::denoising loss(teacher, schedule(), data.images.get(), {}, boot::data_labels<boot::cpu>(data.labels, 0.1));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = steps,
                           .batch = 256,
                           .rate = {.peak = rate, .warmup_steps = 200, .final_share = 0.02},
                           .folder = std::move(folder),
                           .report_every = steps / 10}};
  const auto result = trainer.run();
  boot::require(result.finished, "digits: the teacher's training was stopped after {} of {} steps; start it again",
                result.step, steps);
  return teacher.clone(dev, trainer.optimizer().average(0));
}

}  // namespace digits
