#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the numbers of tests/unit/model/dit_test.cpp: a small DiTTransformer2DModel of diffusers in float64."""
import torch
from diffusers import DiTTransformer2DModel
from diffusers.models import embeddings

from diffusers_values import show

model = DiTTransformer2DModel(sample_size=6, in_channels=2, out_channels=4, patch_size=2, num_attention_heads=2,
                              attention_head_dim=6, num_layers=2, num_embeds_ada_norm=5).double().eval()
places = model.pos_embed  # diffusers computes them in float32
places.pos_embed = embeddings.get_2d_sincos_pos_embed(
    places.pos_embed.shape[-1], (places.height, places.width), base_size=places.base_size, output_type="pt").double()[None]
# Row 5 of the table is the null class.
show("dit", model, 6, 6, 2, [999.0, 17.25], torch.tensor([4, 5]))
