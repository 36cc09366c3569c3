#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a GPU shows, in an order such that a run that is cut off tells the most:
#   benchmarks/gpu/check.sh [--dry-run] [--stage NAME]...
# Stages: build unit kernels step sanitizer digits. Writes gpu.json after each stage into $OUT or benchmarks/results.
# Offline: run carry.sh beside this file first, where there is a network. --dry-run builds all and runs what can run
# without a card; its file is gpu_dry_run.json.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

dry=0
stages=()
while (($#)); do
  case $1 in
    --dry-run) dry=1 ;;
    --stage) stages+=("${2:?--stage needs a name}"); shift ;;
    *) printf 'check: unknown argument %s\n' "$1" >&2; exit 2 ;;
  esac
  shift
done
if ((${#stages[@]} == 0)); then
  stages=(build unit kernels step sanitizer digits)
fi
for stage in "${stages[@]}"; do
  case $stage in
    build | unit | kernels | step | sanitizer | digits) ;;
    *) printf 'check: no stage %s; there are: build unit kernels step sanitizer digits\n' "$stage" >&2; exit 2 ;;
  esac
done

build=${BOOT_GPU_BUILD:-build/cuda}
results=${OUT:-benchmarks/results}
name=gpu
((dry)) && name=gpu_dry_run
logs=$build/gpu_logs
mkdir -p "$results" "$logs/figures"
rm -f "$logs"/*.stage "$logs"/figures/*.json
card=0
nvidia-smi -L >/dev/null 2>&1 && card=1

# note STAGE STATUS SECONDS REASON: STATUS is ok, failed or skipped
note() {
  printf '%s\t%s\t%s\n' "$2" "$3" "$4" >"$logs/$1.stage"
  printf '== %s: %s (%s s) %s\n' "$1" "$2" "$3" "$4"
  python3 - "$logs" "$results/$name.json" "$dry" <<'PY'
import json, pathlib, subprocess, sys, time

logs, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

def say(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

result = {
    "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    "dry_run": sys.argv[3] == "1",
    "commit": say("git", "rev-parse", "HEAD"),
    "card": say("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
    "driver": say("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    "nvcc": (say("nvcc", "--version") or "").splitlines()[-1:] or None,
    "stages": {},
}
for stage in ("build", "unit", "kernels", "step", "sanitizer", "digits"):
    path = logs / f"{stage}.stage"
    if not path.exists():
        result["stages"][stage] = {"status": "skipped", "reason": "not reached or not asked for"}
        continue
    status, seconds, reason = path.read_text().rstrip("\n").split("\t", 2)
    entry = {"status": status, "seconds": int(seconds)}
    if reason:
        entry["reason"] = reason
    figures = logs / "figures" / f"{stage}.json"
    if figures.exists():
        entry["figures"] = json.loads(figures.read_text())
    result["stages"][stage] = entry
temporary = out.with_suffix(".tmp")
temporary.write_text(json.dumps(result, indent=2) + "\n")
temporary.replace(out)
PY
}

# limited STAGE SECONDS COMMAND...: runs a stage's command under its time limit and notes what came of it
limited() {
  local stage=$1 limit=$2 begin=$SECONDS code
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$logs/$stage.log" 2>&1
  code=$?
  if ((code == 0)); then
    note "$stage" ok $((SECONDS - begin)) "$( ((card)) || echo 'no card: what needs one was skipped')"
  elif ((code == 124 || code == 137)); then
    note "$stage" failed $((SECONDS - begin)) "stopped at its limit of $limit s"
  else
    tail -n 30 "$logs/$stage.log" >&2
    note "$stage" failed $((SECONDS - begin)) "exit status $code"
  fi
}

needs_card() {
  ((card)) && return 0
  note "$1" skipped 0 'no card'
  return 1
}

stage_build() {
  local prefix=()
  [[ -d .gpu_carry ]] && prefix=("-DCMAKE_PREFIX_PATH=$PWD/.gpu_carry/usr")
  # shellcheck disable=SC2016  # the inner shell expands these
  limited build 240 bash -c '
    cmake --preset cuda -B "$0" -DBOOT_INSTALL=OFF "${@:2}" && cmake --build "$0" -j "$1" --target boot_cuda_tests boot_cuda_measure' \
    "$build" "${BOOT_JOBS:-$(nproc)}" ${prefix[@]+"${prefix[@]}"}
}

# Without a card these programs still check the error texts and skip the rest.
stage_unit() { limited unit 90 ctest --test-dir "$build" -L '^cuda$' --output-on-failure --no-tests=error; }

# program STAGE LIMIT NAME [ARGS...]: a measure that writes its figures into the file named by --out
program() {
  local stage=$1 limit=$2 file=$build/benchmarks/$3
  shift 3
  if [[ ! -x $file ]]; then
    note "$stage" skipped 0 "$(basename "$file") is not there yet"
    return
  fi
  needs_card "$stage" || return
  limited "$stage" "$limit" "$file" "$@" --out "$logs/figures/$stage.json"
}
stage_kernels() { program kernels 60 measure_cuda_kernels; }
stage_step() { program step 150 measure_cuda_step; }
stage_digits() { program digits 90 measure_cuda_digits; }

stage_sanitizer() {
  local begin=$SECONDS tool test findings=0
  if ! command -v compute-sanitizer >/dev/null; then
    note sanitizer skipped 0 'no compute-sanitizer'
    return
  fi
  needs_card sanitizer || return
  : >"$logs/sanitizer.log"
  for tool in memcheck racecheck; do
    for test in "$build"/tests/boot_cuda_test_*; do
      [[ -x $test ]] || continue
      timeout --kill-after=5 30 compute-sanitizer --tool "$tool" --error-exitcode 99 "$test" >"$logs/one.log" 2>&1
      local code=$?
      cat "$logs/one.log" >>"$logs/sanitizer.log"
      if grep -qiE 'not supported|unable to (launch|initialize)|device not supported' "$logs/one.log"; then
        note sanitizer skipped $((SECONDS - begin)) "$tool refused by this machine"
        return
      fi
      ((code == 99)) && findings=$((findings + 1))
      ((code == 124 || code == 137)) && printf 'stopped at its limit: %s %s\n' "$tool" "$test" >>"$logs/sanitizer.stopped"
    done
  done
  printf '{"programs_with_findings": %d}\n' "$findings" >"$logs/figures/sanitizer.json"
  local reason=''
  [[ -f $logs/sanitizer.stopped ]] && reason='some programs were stopped at 30 s'
  if ((findings)); then
    note sanitizer failed $((SECONDS - begin)) "$findings programs with findings. $reason"
  else
    note sanitizer ok $((SECONDS - begin)) "$reason"
  fi
}

rm -f "$logs/sanitizer.stopped"
for stage in "${stages[@]}"; do
  "stage_$stage"
done
! grep -lq '^failed' "$logs"/*.stage
