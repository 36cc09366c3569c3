#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the machine code of the CUDA kernels without a GPU.

usage: check_sass.py [--list] [--json FILE] BUILD_FOLDER
  BUILD_FOLDER  of the CUDA configuration, its CUDA tests built: their object files hold the kernels

Every kernel of a release type (float, bf16) uses no local memory (so nothing spills), no float64 instruction and no
subroutine call (slow divisions are such calls). A kernel also keeps its body's rule in sass_rules.json:
  registers  at most; 64 without it
  wide       [n, m]: one of its loops has n loads and m stores of 16 bytes, or more
  narrow     why it has none
cuobjdump and nvdisasm come from PATH, $CUDA_HOME/bin or the folder $BOOT_CUOBJDUMP; without them the check is skipped.
Exit: 0 pass, 1 a rule is broken, 77 skipped.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

RULES = pathlib.Path(__file__).with_name("sass_rules.json")
FP64 = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX)|(F2F|I2F|F2I|FRND)\S*F64|MUFU\S*64")
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)([^;]*);")


def find_tools():
    """The folder of both programs, or None."""
    for folder in (os.environ.get("BOOT_CUOBJDUMP"), os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin"):
        if folder and os.path.exists(os.path.join(folder, "cuobjdump")) and \
                (os.path.exists(os.path.join(folder, "nvdisasm")) or shutil.which("nvdisasm")):
            return folder
    if shutil.which("cuobjdump") and shutil.which("nvdisasm"):
        return os.path.dirname(shutil.which("cuobjdump"))
    return None


def dump(tools, option, path):
    env = dict(os.environ, PATH=tools + os.pathsep + os.environ["PATH"])
    command = [os.path.join(tools, "cuobjdump"), "-arch", "sm_90", option, str(path)]  # the rules are for this one
    r = subprocess.run(command, capture_output=True, text=True, env=env)
    if r.returncode != 0 and "does not contain device code" not in r.stderr + r.stdout:
        sys.exit(f"check_sass: cuobjdump {option} {path}: {r.stderr.strip()}")
    return r.stdout + r.stderr


def read_kernels(tools, objects):
    """name -> instructions [(address, operation, operands)] and resources, of every kernel once."""
    code, usage = {}, {}
    for path in objects:
        kernel = None
        for line in dump(tools, "-sass", path).splitlines():
            function = re.search(r"Function\s*:\s*(\S+)", line)
            if function:
                kernel = code[function[1]] = []
                continue
            found = INSTRUCTION.search(line)
            if found and kernel is not None:
                kernel.append((int(found[1], 16), found[2], found[3]))
        for found in re.finditer(r"Function (\S+?):\s*\n\s*(.*)", dump(tools, "-res-usage", path)):
            usage[found[1]] = {k: int(v) for k, v in re.findall(r"([A-Z]+)(?:\[\d+\])?:(\d+)", found[2])}
    names = list(code)
    plain = subprocess.run(["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True)
    return {p: (code[n], usage.get(n, {})) for n, p in zip(names, plain.stdout.splitlines())}


def widest_loop(instructions):
    """The 16-byte loads and stores of the loop that has most of them."""
    best = (0, 0)
    for at, operation, operands in instructions:
        target = re.search(r"0x([0-9a-f]+)", operands) if operation.startswith("BRA") else None
        if target is None or int(target[1], 16) >= at:
            continue
        inside = [o for a, o, _ in instructions if int(target[1], 16) <= a <= at]
        found = (sum(o.startswith("LDG") and ".128" in o for o in inside),
                 sum(o.startswith("STG") and ".128" in o for o in inside))
        best = max(best, found, key=sum)
    return best


def body_of(name):
    """The library's name of a kernel's body, None for what is no release kernel."""
    if "double" in name or "anonymous namespace" in name or "boot_test" in name:
        return None
    found = re.search(r"run_body<\s*(?:boot::(?:v0::)?(?:detail::|testing::)?)?(\w+)", name)
    return found[1] if found and "boot::" in name[:60] else None


def findings_of(name, instructions, usage, rule):
    found = []
    operations = [o for _, o, _ in instructions]
    if usage.get("STACK", 0) or usage.get("LOCAL", 0) or any(re.match("LDL|STL", o) for o in operations):
        found.append("uses local memory")
    count = sum(bool(FP64.match(o)) for o in operations)
    if count:
        found.append(f"has {count} float64 instructions")
    count = sum(o.startswith("CALL") for o in operations)
    if count:
        found.append(f"calls {count} subroutines, as slow divisions do")
    if rule is None:
        return found + ["has no rule in sass_rules.json"]
    if usage.get("REG", 255) > rule.get("registers", 64):
        found.append(f"takes {usage.get('REG')} registers, its rule allows {rule.get('registers', 64)}")
    if "wide" in rule:
        loads, stores = widest_loop(instructions)
        if loads < rule["wide"][0] or stores < rule["wide"][1]:
            found.append(f"has {loads} loads and {stores} stores of 16 bytes in a loop, its rule asks for "
                         f"{rule['wide'][0]} and {rule['wide'][1]}")
    return found


def check(build, rules, tools):
    """What to report: every kernel, and what is wrong with it."""
    objects = sorted(pathlib.Path(build).glob("tests/CMakeFiles/boot_cuda_test_*.dir/**/*.cu.o"))
    if not objects:
        sys.exit(f"check_sass: no CUDA object files under {build}/tests; build the target boot_cuda_tests first")
    rows = []
    for name, (instructions, usage) in read_kernels(tools, objects).items():
        body = body_of(name)
        if body is None:
            continue
        rows.append({"kernel": name, "body": body, "registers": usage.get("REG"), "instructions": len(instructions),
                     "wide": widest_loop(instructions),
                     "findings": findings_of(name, instructions, usage, rules.get(body))})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--list", action="store_true", help="print every kernel")
    parser.add_argument("--json", help="write the rows here")
    arguments = parser.parse_args()
    tools = find_tools()
    if tools is None:
        print("check_sass: skipped, cuobjdump and nvdisasm are not here (pip download nvidia-cuda-cuobjdump "
              "nvidia-cuda-nvdisasm)")
        sys.exit(77)
    rules = json.loads(RULES.read_text())
    rows = check(arguments.build, rules, tools)
    if not rows:
        print(f"check_sass: skipped, {arguments.build} holds no code for sm_90")
        sys.exit(77)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    bad = 0
    for row in sorted(rows, key=lambda r: (r["body"], r["kernel"])):
        if arguments.list:
            print(f"{row['registers']:>4} registers  wide {row['wide'][0]}/{row['wide'][1]}  "
                  f"{row['instructions']:>5} instructions  {row['kernel'][:150]}")
        for finding in row["findings"]:
            bad += 1
            print(f"FAIL {row['body']} {finding}: {row['kernel'][:200]}")
    unseen = sorted(set(rules) - {row["body"] for row in rows})
    for body in unseen:
        print(f"FAIL {body}: no release kernel of it was found")
    print(f"check_sass: {len(rows)} kernels of {len({r['body'] for r in rows})} bodies, {bad + len(unseen)} findings")
    sys.exit(1 if bad or unseen else 0)


if __name__ == "__main__":
    main()
