#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What every file must look like: licence and purpose lines, macros, namespaces, line budgets.

usage: text.py SOURCE_DIR
"""
import pathlib
import re
import statistics
import sys

SPDX = "SPDX-License-Identifier: MIT"
MEDIAN_LINES, MOST_LINES = 200, 800
NOT_OURS = {"tests/support/catch.hpp": {"SKIP"}}  # macros of other projects that a file supplies


def without_comments(text):
    """The text with comments and string literals blanked, line numbers kept."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    pattern = r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"'
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def check_macros(name, code, bad):
    for number, line in enumerate(code.split("\n"), 1):
        defined = re.match(r"\s*#\s*define\s+(\w+)", line)
        if defined and not defined[1].startswith("BOOT_") and defined[1] not in NOT_OURS.get(name, set()):
            bad.append(f"{name}:{number}: macro {defined[1]} does not start with BOOT_")


def check_header(name, text, code, bad):
    lines = text.split("\n")
    if len(lines) < 3 or lines[0] != f"// {SPDX}":
        bad.append(f"{name}:1: the first line must be `// {SPDX}`")
    if len(lines) < 2 or not lines[1].startswith("/// "):
        bad.append(f"{name}:2: the second line must say the header's purpose after `/// `")
    if len(re.findall(r"^#pragma once$", text, re.MULTILINE)) != 1:
        bad.append(f"{name}: needs one line `#pragma once`")
    for number, line in enumerate(code.split("\n"), 1):
        if re.search(r"\busing\s+namespace\b", line):
            bad.append(f"{name}:{number}: `using namespace` in a header")
        condition = re.match(r"\s*#\s*(?:el)?if(?:n?def)?\b(.*)", line)
        if condition and name != "include/boot/config.hpp":
            for word in re.findall(r"[A-Za-z_]\w*", re.sub(r"<[^>]*>", "", condition[1])):
                if not re.match(r"BOOT_|FP_FAST_|defined$|__has_include$|__cpp_", word):
                    bad.append(f"{name}:{number}: only boot/config.hpp may ask for {word}; give it a BOOT_ name there")
        elif name != "include/boot/config.hpp":
            for word in re.findall(r"\b(__CUDACC__|__CUDA_ARCH__|_OPENMP|__host__|__device__|__GNUC__|__clang__|_MSC_VER)\b", line):
                bad.append(f"{name}:{number}: only boot/config.hpp may name {word}")


def main(root):
    bad = []
    sizes = {}
    for path in sorted((root / "include").rglob("*.[hc]*")):
        name, text = path.relative_to(root).as_posix(), path.read_text()
        code = without_comments(text)
        check_header(name, text, code, bad)
        check_macros(name, code, bad)
        sizes[name] = text.count("\n")
    for name, size in sizes.items():
        if size > MOST_LINES:
            bad.append(f"{name}: {size} lines, at most {MOST_LINES}")
    if sizes and statistics.median(sizes.values()) > MEDIAN_LINES:
        bad.append(f"include: the median header has {statistics.median(sizes.values())} lines, at most {MEDIAN_LINES}")

    others = [p for folder in ("tests", "examples", "benchmarks", "cmake") for p in sorted((root / folder).rglob("*"))]
    for path in [root / "CMakeLists.txt", root / "run", root / ".ci/run", *others]:
        if not path.is_file() or not (path.suffix in (".hpp", ".cpp", ".cu", ".cuh", ".py", ".cmake")
                                      or path.name in ("CMakeLists.txt", "run")):
            continue
        name, text = path.relative_to(root).as_posix(), path.read_text()
        if SPDX not in "\n".join(text.split("\n")[:3]):
            bad.append(f"{name}: none of the first three lines is the licence line `{SPDX}`")
        if path.suffix in (".hpp", ".cpp", ".cu", ".cuh"):
            check_macros(name, without_comments(text), bad)

    print("\n".join(bad) if bad else f"{len(sizes)} headers, median {statistics.median(sizes.values()) if sizes else 0} lines")
    return 1 if bad else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
