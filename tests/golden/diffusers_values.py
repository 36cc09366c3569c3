# SPDX-License-Identifier: MIT
"""What make_dit_values.py and make_unet2d_values.py share: a diffusers model in float64 with weights, inputs and sums that
are sines of an index, so that a test can make them again. Needs torch and diffusers.
"""
import math
from unittest import mock

import torch
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


def show(name, model, height, width, channels, times, labels):
    """Prints the RMS of the output, its sum, and the gradient of that by the parameters."""
    parameters = sorted(model.named_parameters())
    with torch.no_grad():
        for k, (_, p) in enumerate(parameters):
            p.copy_(0.3 * wave(p.shape, 0.61 * k))
    x = wave((2, height, width, channels), 0.2).permute(0, 3, 1, 2)
    with mock.patch.object(embeddings, "get_timestep_embedding", sinusoids):
        out = model(x, timestep=torch.tensor(times, dtype=torch.float64), class_labels=labels).sample
    out = out.permute(0, 2, 3, 1)
    value = (out * wave(out.shape, 0.4)).sum()
    value.backward()
    along = sum((p.grad * wave(p.shape, 0.3 * k)).sum() for k, (_, p) in enumerate(parameters) if p.grad is not None)
    norm = math.sqrt(sum(p.grad.square().sum().item() for _, p in parameters if p.grad is not None))
    print(f"{name}: rms {out.square().mean().sqrt().item()!r}, sum {value.item()!r}")
    print(f"     gradient's norm {norm!r}, along {along.item()!r}")
