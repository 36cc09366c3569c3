#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a compiler and appends what it cost to the file $BOOT_COMPILE_COST, one JSON object per line.

usage: compile_cost.py COMPILER [ARGUMENTS...]     as CMAKE_CXX_COMPILER_LAUNCHER and CMAKE_CUDA_COMPILER_LAUNCHER
"""
import json
import os
import resource
import subprocess
import sys
import time

begin = time.monotonic()
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
where = os.environ.get("BOOT_COMPILE_COST")
if where and "-o" in sys.argv:
    line = {"output": os.path.basename(sys.argv[sys.argv.index("-o") + 1]), "seconds": time.monotonic() - begin,
            "cpu_seconds": used.ru_utime + used.ru_stime, "gigabytes": used.ru_maxrss / 2**20}
    with open(where, "a") as file:
        file.write(json.dumps(line) + "\n")
sys.exit(status)
