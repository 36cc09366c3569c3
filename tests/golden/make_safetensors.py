#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes python.safetensors, read by tests/unit/io/safetensors_test.cpp. Made with safetensors 0.8.0 and numpy 2.4."""
import pathlib

import numpy as np
from safetensors.numpy import save_file

steps = np.arange(24, dtype=np.float32) / 8 - 1
tensors = {
    "layer.weight": steps.reshape(2, 3, 4),
    "half": steps.astype(np.float16).reshape(4, 6),
    "wide": steps.astype(np.float64),
    "step": np.array(-12345678901, dtype=np.int64),
    "flags": np.array([True, False, True]),
    "labels": np.array([-1, 0, 2147483647], dtype=np.int32),
    "empty": np.zeros((0, 7), np.float32),
    'café "x"': np.array([65535], np.uint16),
}
save_file(tensors, pathlib.Path(__file__).parent / "python.safetensors", metadata={"format": "np"})
