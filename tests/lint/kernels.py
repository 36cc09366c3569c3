#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A kernel body has a test on host threads and a rule for its machine code.

usage: kernels.py SOURCE_DIR
"""
import json
import pathlib
import re
import sys

BODY = re.compile(r"struct (\w+) (?:final )?\{(?:(?!\nstruct )[\s\S])*?"
                  r"template <class Team>\s+BOOT_HD void operator\(\)\(const Team& \w+\) const")


def main(root):
    include = root / "include"
    tests = [p.read_text() for p in sorted((root / "tests/unit").rglob("*_test.cpp"))]
    on_host = [t for t in tests if "team_device" in t or "launch_on_host" in t or "team_check.hpp" in t]
    rules = json.loads((root / "tests/cuda/sass_rules.json").read_text())
    bad, bodies = [], set()
    for path in sorted(include.rglob("*.hpp")):
        header = path.relative_to(include).as_posix()
        for body in BODY.findall(path.read_text()):
            bodies.add(body)
            if not any(f"#include <{header}>" in t for t in on_host):
                bad.append(f"{header}: no test on host threads includes the header of {body}; write one with "
                           "boot::testing::team_device")
            rule = rules.get(body)
            if rule is None:
                bad.append(f"{header}: {body} has no rule in tests/cuda/sass_rules.json")
            elif ("wide" in rule) == ("narrow" in rule):
                bad.append(f"sass_rules.json: {body} needs either \"wide\": [loads, stores] or \"narrow\": the reason")
    for body in sorted(set(rules) - bodies):
        bad.append(f"sass_rules.json: there is no kernel body {body}")
    for line in bad:
        print(line)
    print(f"kernels: {len(bodies)} bodies, {len(bad)} problems")
    return 1 if bad or not bodies else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
