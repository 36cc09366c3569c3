// SPDX-License-Identifier: MIT
/// The networks of the PyTorch side's cases (boot_torch.py --print-config CASE).
#pragma once

#include <boot/model/mlp.hpp>
#include <boot/model/unet2d.hpp>

namespace boot::measure {

/// "mlp8" of the peer.
inline mlp mlp8() {
  mlp_options o;
  o.features = 64;
  o.width = 512;
  o.hidden_layers = 4;
  o.time = {.features = 128, .flip_sin_to_cos = true, .freq_shift = 0, .max_period = 10000};
  o.time_scale = 1000;
  return mlp(o);
}

/// "digits8" of the peer: a U-Net of two levels on images of 8 x 8.
inline unet2d digits8() {
  using level = unet2d_level;
  return unet2d({.height = 8,
                 .width = 8,
                 .in_channels = 1,
                 .out_channels = 1,
                 .down = {level::plain, level::attention},
                 .up = {level::attention, level::plain},
                 .block_channels = {32, 64},
                 .layers_per_block = 1,
                 .attention_head_dim = 32,
                 .norm_num_groups = 8});
}

/// "tiny32" of the peer: a U-Net of three levels on images of 32 x 32.
inline unet2d tiny32() {
  using level = unet2d_level;
  return unet2d({.down = {level::plain, level::attention, level::plain},
                 .up = {level::plain, level::attention, level::plain},
                 .block_channels = {64, 128, 128},
                 .attention_head_dim = 64});
}

/// "cifar10" of the peer: the U-Net of google/ddpm-cifar10-32.
inline unet2d cifar10() {
  using level = unet2d_level;
  return unet2d({.down = {level::plain, level::attention, level::plain, level::plain},
                 .up = {level::plain, level::plain, level::attention, level::plain},
                 .block_channels = {128, 256, 256, 256},
                 .attention_head_dim = 0,
                 .norm_eps = 1e-6,
                 .downsample_padding = false,
                 .flip_sin_to_cos = false,
                 .freq_shift = 1});
}

}  // namespace boot::measure
