#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Direction of includes: a header sees lower ranks and its own folder only, and there is no cycle.

usage: includes.py SOURCE_DIR
"""
import pathlib
import re
import sys

# The folders of include/boot by rank; folders of equal rank are strangers to each other.
RANK = {
    "config": 0, "core": 1, "device": 2, "tensor": 3, "kernel": 4, "schedule": 4, "nn": 5, "optim": 5, "io": 5,
    "metric": 5, "model": 6, "sampler": 7, "objective": 8, "train": 9, "interop": 9, "umbrella": 10,
}
# Folders beside the ranks: no library header includes them; the value is the highest rank they see.
SIDE = {"bench": 3, "testing": 9}
# Only these may include a heavy third party: (pattern of the include, pattern of the headers that may).
RESERVED = [
    (r"Eigen/", r"boot/(nn/cpu|metric)/"),
    (r"fmt/", r"boot/(?!core/)|boot/core/error\.hpp"),
    (r"(cuda_runtime|cublas|cudnn|cuda_)", r".*(cuda|cublas|cudnn|nccl)"),
    (r"png\.h", r"boot/io/"),
    (r"torch/", r"boot/interop/"),
    (r"bits/", r"(?!)"),
]
# How many boot headers a header may pull in, itself not counted.
CLOSURE = {"boot/schedule/noise_schedule.hpp": 5}


def folder(path):
    parts = path.split("/")
    if len(parts) == 1:
        return "umbrella"  # include/boot.hpp and its like
    return "config" if len(parts) == 2 else parts[1]


def problem(includer, included):
    """Why `includer` may not include `included`, or None."""
    me, you = folder(includer), folder(included)
    for name in (me, you):
        if name not in RANK and name not in SIDE:
            return f"folder {name} has no rank in tests/lint/includes.py"
    if you == me and me != "config":
        return None
    if you in SIDE:
        return f"no header outside {you}/ may include it"
    sees = SIDE[me] if me in SIDE else RANK[me] - (me != "config")
    if RANK[you] > sees:
        return f"{me} sees ranks up to {sees}, {you} has rank {RANK[you]}"
    if includer.startswith(("boot/kernel/op/", "boot/kernel/tuning/")) and you == "device":
        return "formulas and tunings see no device header"
    return None


def main(root):
    include = root / "include"
    text = {p.relative_to(include).as_posix(): p.read_text() for p in sorted(include.rglob("*.[hc]*")) if p.is_file()}
    bad = []
    graph = {}
    for header, content in text.items():
        graph[header] = re.findall(r'^[ \t]*#[ \t]*include[ \t]*<(boot[/._][^>]+)>', content, re.MULTILINE)
        for other in graph[header]:
            why = problem(header, other)
            if why:
                bad.append(f"{header}: includes {other}: {why}")
            if other not in text:
                bad.append(f"{header}: includes {other}, which does not exist")
        for quoted in re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', content, re.MULTILINE):
            bad.append(f'{header}: write #include <boot/...>, not "{quoted}"')
        for third in re.findall(r"^[ \t]*#[ \t]*include[ \t]*<([^>]+)>", content, re.MULTILINE):
            for pattern, allowed in RESERVED:
                if re.match(pattern, third) and not re.match(allowed, header):
                    bad.append(f"{header}: <{third}> is not for this header (see RESERVED in tests/lint/includes.py)")

    state = {}

    def visit(header, path):
        state[header] = "open"
        for other in graph.get(header, []):
            if state.get(other) == "open":
                bad.append("include cycle: " + " -> ".join([*path[path.index(other):], other] if other in path else [header, other]))
            elif other not in state:
                visit(other, [*path, other])
        state[header] = "done"

    for header in graph:
        if header not in state:
            visit(header, [header])

    def closure(header, seen):
        for other in graph.get(header, []):
            if other not in seen:
                seen.add(other)
                closure(other, seen)
        return seen

    for header, limit in CLOSURE.items():
        if header in graph:
            pulled = closure(header, set()) - {header}
            if len(pulled) > limit:
                bad.append(f"{header}: pulls in {len(pulled)} boot headers, at most {limit}: {', '.join(sorted(pulled))}")

    print("\n".join(bad) if bad else f"{len(text)} headers, includes all point down")
    return 1 if bad else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
