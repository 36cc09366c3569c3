#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the numbers of tests/unit/model/unet2d_test.cpp: small UNet2DModels of diffusers in float64."""
import torch
from diffusers import UNet2DModel

from diffusers_values import show


def numbers(name, height, width, times, labels, in_channels, **config):
    model = UNet2DModel(sample_size=(height, width), in_channels=in_channels, **config).double().eval()
    show(name, model, height, width, in_channels, times, labels)


numbers("one", 6, 4, [999.0, 17.25], torch.tensor([4, 1]), in_channels=2, out_channels=2,
        block_out_channels=(8, 12), norm_num_groups=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
        attention_head_dim=None, num_class_embeds=5, center_input_sample=True, mid_block_scale_factor=1.5)
numbers("two", 8, 8, [0.8, 3.5], torch.tensor([0.3, 1.5], dtype=torch.float64), in_channels=3,
        block_out_channels=(4, 8, 8), norm_num_groups=2,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2, downsample_type="resnet", upsample_type="resnet", resnet_time_scale_shift="scale_shift",
        attn_norm_num_groups=4, attention_head_dim=4, time_embedding_dim=10, time_embedding_type="fourier",
        class_embed_type="timestep")
