#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the numbers of tests/unit/model/unet2d_test.cpp: small UNet2DModels of diffusers in float64.

Weights, inputs and what is summed are sines of an index, so that the test can make them again. Needs torch, diffusers.
"""
import math
from unittest import mock

import torch
from diffusers import UNet2DModel
from diffusers.models import embeddings


def sinusoids(timesteps, embedding_dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    """diffusers computes these in float32."""
    half = embedding_dim // 2
    index = torch.arange(half, dtype=torch.float64)
    angle = timesteps.double()[:, None] * torch.exp(-math.log(max_period) * index / (half - downscale_freq_shift))
    return torch.cat([angle.cos(), angle.sin()] if flip_sin_to_cos else [angle.sin(), angle.cos()], dim=1)


def wave(shape, phase):
    n = math.prod(shape)
    return torch.sin(1.7 * torch.arange(1, n + 1, dtype=torch.float64) + phase).reshape(shape)


def numbers(name, height, width, times, labels, **config):
    model = UNet2DModel(sample_size=(height, width), **config).double().eval()
    parameters = sorted(model.named_parameters())
    with torch.no_grad():
        for k, (_, p) in enumerate(parameters):
            p.copy_(0.3 * wave(p.shape, 0.61 * k))
    x = wave((2, height, width, config.get("in_channels", 3)), 0.2).permute(0, 3, 1, 2)
    with mock.patch.object(embeddings, "get_timestep_embedding", sinusoids):
        out = model(x, torch.tensor(times, dtype=torch.float64), class_labels=labels).sample
    out = out.permute(0, 2, 3, 1)
    value = (out * wave(out.shape, 0.4)).sum()
    value.backward()
    along = sum((p.grad * wave(p.shape, 0.3 * k)).sum() for k, (_, p) in enumerate(parameters) if p.grad is not None)
    norm = math.sqrt(sum(p.grad.square().sum().item() for _, p in parameters if p.grad is not None))
    print(f"{name}: rms {out.square().mean().sqrt().item()!r}, sum {value.item()!r}")
    print(f"     gradient's norm {norm!r}, along {along.item()!r}")


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
