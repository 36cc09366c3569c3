// SPDX-License-Identifier: MIT
/// The class-conditional teacher of the digits example: its network, its training on the data.
#pragma once

#include "digits/networks.hpp"

#include <boot/io/parameters.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/train/distiller.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace digits {

using network = model<boot::mlp>;

inline boot::cosine_schedule schedule() { return boot::cosine_schedule({.t_min = 0.001, .t_max = 1}); }

/// An untrained network that predicts v.
template <class Network = boot::mlp>
model<Network> new_teacher(const boot::cpu& dev, std::uint64_t seed = 0) {
  return {dev, choice<Network>::network(), {boot::prediction_kind::v}, seed};
}

/// Trains a teacher on the 1,297 training images; a tenth of the labels is dropped so that guidance is possible.
template <class Network>
model<Network> train_teacher(const boot::cpu& dev, const image_set& data, const training_options& o,
                             std::string folder = {}) {
  auto teacher = new_teacher<Network>(dev);
  const auto images = data.images.get().reshape(teacher.sample_shape().batched(data.images.extents().batch()));
  boot::denoising loss(teacher, schedule(), images, {}, boot::data_labels<boot::cpu>(data.labels, 0.1));
  boot::distiller trainer{dev,
                          loss,
                          {.steps = o.steps,
                           .batch = o.batch,
                           .rate = {.peak = o.rate, .warmup_steps = 200, .final_share = 0.02},
                           .folder = std::move(folder),
                           .report_every = std::max<std::int64_t>(1, o.steps / 10)}};
  const auto result = trainer.run();
  boot::require(result.finished, "digits: the teacher's training was stopped after {} of {} steps; start it again",
                result.step, o.steps);
  return trainer.average_model();
}

}  // namespace digits
