// SPDX-License-Identifier: MIT
/// The two networks of the digits example and what is chosen for each; everything else is written once for both.
#pragma once

#include "digits/data.hpp"

#include <boot/model/mlp.hpp>
#include <boot/model/unet2d.hpp>

#include <cstdint>

namespace digits {

/// Length and rate of a training.
struct training_options {
  std::int64_t steps = 3000;  ///< of the run
  std::int64_t batch = 256;   ///< samples per step
  double rate = 1e-3;         ///< peak learning rate
};

/// What is chosen for a network: its shape, its teacher's file, how teacher and student are trained.
template <class Network>
struct choice;

/// An MLP on the 64 pixels: 1.2 million parameters, fast.
template <>
struct choice<boot::mlp> {
  static constexpr const char* teacher_file = "digits_teacher.safetensors";
  static constexpr training_options teacher{.steps = 3000, .batch = 256, .rate = 1e-3};
  static constexpr training_options student{.steps = 3000, .batch = 256, .rate = 3e-3};
  /// Steps of the Heun solver that stands for the teacher's exact ODE.
  static constexpr std::int64_t ode_steps = 48;

  static boot::mlp network() {
    boot::mlp_options options;
    options.features = pixels;
    options.classes = classes;
    return boot::mlp(options);
  }
};

/// A U-Net of two levels on images [8, 8, 1], with attention on the lower one: 0.7 million parameters, 12 times the work.
template <>
struct choice<boot::unet2d> {
  static constexpr const char* teacher_file = "digits_unet_teacher.safetensors";
  static constexpr training_options teacher{.steps = 3000, .batch = 128, .rate = 1e-3};
  static constexpr training_options student{.steps = 1600, .batch = 128, .rate = 2e-3};
  /// Steps of the Heun solver that stands for the teacher's exact ODE.
  static constexpr std::int64_t ode_steps = 24;

  static boot::unet2d network() {
    using level = boot::unet2d_level;
    return boot::unet2d({.height = side,
                         .width = side,
                         .in_channels = 1,
                         .out_channels = 1,
                         .down = {level::plain, level::attention},
                         .up = {level::attention, level::plain},
                         .block_channels = {32, 64},
                         .layers_per_block = 1,
                         .attention_head_dim = 32,
                         .norm_num_groups = 8,
                         .classes = classes});
  }
};

/// A network with its weights.
template <class Network>
using model = boot::network_model<Network, boot::cpu>;

}  // namespace digits
