#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts what the stages of check.sh left into one JSON object of the form that every measure writes.

usage: report.py LOGS OUT DRY
  LOGS  NAME.stage (status, seconds, reason), NAME.log and figures/*.json (objects of measures) of the stages so far
  OUT   the file, replaced at once
  DRY   1: nothing was run that needs a card
Exit: 0 where every row was measured and its bar holds.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

STAGES = ("build", "unit", "kernels", "step", "torch", "sanitizer", "digits", "compiled")
ROWS = {  # key: its bar
    "tests_failed": "== 0",
    "sanitizer_findings": "== 0",
    "stream_vs_copy": ">= 0.9",
    "noise_vs_copy": ">= 0.5",
    "step_vs_eager_bf16": "<= .5",
    "step_vs_cudagraph_bf16": "<= .85",
    "memory_vs_torch": "<= .7",
    "first_step_vs_cpu": "<= 1e-5",
    "drift_ratio": "<= 3",
    "host_us_per_step": "<= 20",
}


def say(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def holds(bar, value):
    sign, bound = bar.split(" ")
    return value is not None and {"==": value == float(bound), "<=": value <= float(bound),
                                  ">=": value >= float(bound)}[sign]


def stage_of(logs, name):
    path = logs / f"{name}.stage"
    if not path.exists():
        return {"status": "skipped", "reason": "not reached or not asked for"}
    status, seconds, reason = path.read_text().rstrip("\n").split("\t", 2)
    return {"status": status, "seconds": int(seconds)} | ({"reason": reason} if reason else {})


def main(logs, out, dry):
    stages = {name: stage_of(logs, name) for name in STAGES}
    values, beside = {}, {}
    for path in sorted((logs / "figures").glob("*.json")):
        measured = json.loads(path.read_text())
        for key, row in measured["rows"].items():
            if row["value"] is not None:
                values[key] = row["value"]
        beside[path.stem] = measured["config"].get("beside", {}) | {
            key: row["value"] for key, row in measured["rows"].items() if key not in ROWS}
    log = logs / "unit.log"
    tests = re.search(r"(\d+) tests failed out of (\d+)", log.read_text()) if log.exists() else None
    if tests and not dry:
        values["tests_failed"] = int(tests[1])
    elif tests:
        beside["unit"] = {"failed_without_a_card": int(tests[1]), "tests": int(tests[2])}
    found = logs / "sanitizer.findings"
    if found.exists():
        values["sanitizer_findings"] = int(found.read_text())
    rows = {key: {"value": values.get(key), "bar": bar, "holds": holds(bar, values.get(key))}
            for key, bar in ROWS.items()}
    machine = {"processors": os.cpu_count()}
    result = {
        "measure": "gpu",
        "rows": rows,
        "config": {
            "card": say("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
            "driver": say("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "nvcc": (say("nvcc", "--version") or "").splitlines()[-1:] or None,
            "machine": machine,
            "source": {"commit": say("git", "rev-parse", "HEAD"),
                       "dirty": bool(say("git", "status", "--porcelain", "--", ".", ":(exclude)benchmarks/results"))},
            "dry_run": dry,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "stages": stages,
            "beside": beside,
        },
    }
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(out)
    for key, row in rows.items():
        value = "not measured" if row["value"] is None else f"{row['value']:.6g}"
        print(f"  {key:<24} {value:>14}  {row['bar']:<8} {'holds' if row['holds'] else 'FAILS'}")
    return 0 if all(row["holds"] for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3] == "1"))
