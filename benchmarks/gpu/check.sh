#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a GPU shows, in an order such that a run that is cut off tells the most:
#   benchmarks/gpu/check.sh [--dry-run] [--stage NAME]...       (the same as ./run measure gpu)
# Stages: build unit kernels step torch sanitizer digits compiled. Writes gpu.json after each stage into $OUT or
# benchmarks/results, with the description of the card that the tests of convolutions can use without one.
# Offline: run carry.sh beside this file first, where there is a network. A stage that was asked for alone keeps what
# earlier runs on the same build found. --dry-run builds all and runs what can run without a card; its file is
# gpu_dry_run.json, in $OUT or the build folder. BOOT_GPU_SECONDS (480) is how long all may take together.
# Exit: 0 where every row was measured and holds (--dry-run: where no stage failed).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

all_stages=(build unit kernels step torch sanitizer digits compiled)
dry=0
stages=()
while (($#)); do
  case $1 in
    --dry-run) dry=1 ;;
    --stage) stages+=("${2:?--stage needs a name}"); shift ;;
    -h | --help) sed -n '3,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf 'check: unknown argument %s; see --help\n' "$1" >&2; exit 2 ;;
  esac
  shift
done
for stage in ${stages[@]+"${stages[@]}"}; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    printf 'check: no stage %s; there are: %s\n' "$stage" "${all_stages[*]}" >&2
    exit 2
  fi
done

card=0
nvidia-smi -L >/dev/null 2>&1 && card=1
if ((!card && !dry)); then
  printf 'check: nvidia-smi lists no GPU here; --dry-run builds all and runs what needs none\n' >&2
  exit 1
fi

build=$(realpath -m "${BOOT_GPU_BUILD:-build/cuda}")
logs=$build/gpu_logs
results=${OUT:-benchmarks/results}
name=gpu
if ((dry)); then
  name=gpu_dry_run
  results=${OUT:-$build}
fi
mkdir -p "$results" "$logs/figures"
if ((${#stages[@]} == 0)); then
  stages=("${all_stages[@]}")
  rm -rf "$logs"
  mkdir -p "$logs/figures"
fi
deadline=$((SECONDS + ${BOOT_GPU_SECONDS:-480}))

# What was carried: PyTorch scripts, and packages that the Python here may lack.
export BOOT_PEER_PYTHON=${BOOT_PEER_PYTHON:-python3}
if [[ -d .gpu_carry/peers ]]; then
  export BOOT_PEERS=${BOOT_PEERS:-$PWD/.gpu_carry/peers}
fi
if compgen -G '.gpu_carry/wheels/*.whl' >/dev/null; then
  if [[ ! -d $build/site ]]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --target "$build/site" .gpu_carry/wheels/*.whl ||
      printf 'check: the carried wheels could not be installed\n' >&2
  fi
  export PYTHONPATH=$build/site${PYTHONPATH:+:$PYTHONPATH}
fi

# note STAGE STATUS SECONDS REASON: STATUS is ok, failed or skipped
note() {
  printf '%s\t%s\t%s\n' "$2" "$3" "$4" >"$logs/$1.stage"
  printf '== %s: %s (%s s) %s\n' "$1" "$2" "$3" "$4"
  python3 benchmarks/gpu/report.py "$logs" "$results/$name.json" "$dry" >"$logs/rows.txt"
  rows_hold=$?
}

# limited STAGE SECONDS COMMAND...: runs a stage's command under its time limit and notes what came of it
limited() {
  local stage=$1 limit=$2 begin=$SECONDS code
  shift 2
  if ((limit > deadline - SECONDS)); then
    limit=$((deadline - SECONDS))
  fi
  if ((limit < 10)); then
    note "$stage" skipped 0 'no time was left'
    return
  fi
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
  ((card && !dry)) && return 0
  note "$1" skipped 0 'no card, or a dry run'
  return 1
}

# Warnings are no errors here: the compiler may be another one than the project's.
stage_build() {
  local prefix=() jobs=${BOOT_JOBS:-$(nproc)}
  [[ -d .gpu_carry ]] && prefix=("-DCMAKE_PREFIX_PATH=$PWD/.gpu_carry/usr")
  # shellcheck disable=SC2016  # the inner shell expands these
  limited build "${BOOT_GPU_BUILD_SECONDS:-240}" bash -c '
    cmake --preset cuda -B "$0" -DBOOT_INSTALL=OFF -DBOOT_WERROR=OFF -DBOOT_NVCC_JOBS="$1" "${@:2}" &&
    cmake --build "$0" -j "$1" --target boot_cuda_tests boot_cuda_measure' "$build" "$jobs" ${prefix[@]+"${prefix[@]}"}
}

# Without a card these programs still check the error texts and skip the rest.
stage_unit() {
  ((card)) && export BOOT_WRITE_CUDNN_DEVICE=$logs/cudnn_device.json
  limited unit 75 ctest --test-dir "$build" -L '^cuda$' --output-on-failure --no-tests=error
  if [[ -s $logs/cudnn_device.json ]]; then
    cp "$logs/cudnn_device.json" "$results/cudnn_device.json"
  fi
}

# program STAGE LIMIT NAME [ARGS...]: a measure that writes its figures
program() {
  local stage=$1 limit=$2 file=$build/benchmarks/$3
  shift 3
  needs_card "$stage" || return
  if [[ ! -x $file ]]; then
    note "$stage" failed 0 "there is no $file; run the stage build"
    return
  fi
  limited "$stage" "$limit" "$file" "$@" --out "$logs/figures/$stage.json"
}
stage_kernels() { program kernels 40 measure_cuda_kernels; }
stage_step() { program step 60 measure_cuda_step; }
stage_torch() { program torch 90 measure_cuda_torch --row step_vs_eager_bf16 --row memory_vs_torch; }
# The MLP only: judging a U-Net on the host takes minutes.
stage_digits() { program digits 60 measure_cuda_digits --row pixels_vs_ddim10,features_vs_ddim10,class_share_drop; }
# Compiling the peer takes minutes: what is finished is kept, and the stage can be run again for the rest.
stage_compiled() { program compiled 600 measure_cuda_torch --row step_vs_cudagraph_bf16; }

# One test program under one tool; prints its number of errors, or why there is none.
sanitize_one() {
  local tool=$1 test=$2 log
  log=$logs/sanitizer_${tool}_$(basename "$test").log
  timeout --kill-after=5 30 compute-sanitizer --tool "$tool" "$test" >"$log" 2>&1
  local code=$?
  if grep -qiE 'device not supported|unable to (launch|initialize)|error 999' "$log"; then
    echo refused
  elif ((code == 124 || code == 137)); then
    echo stopped
  else
    grep -oE 'ERROR SUMMARY: [0-9]+|RACECHECK SUMMARY: [0-9]+' "$log" | grep -oE '[0-9]+$' || echo unknown
  fi
}

stage_sanitizer() {
  local begin=$SECONDS tool test
  if ! command -v compute-sanitizer >/dev/null; then
    note sanitizer skipped 0 'no compute-sanitizer'
    return
  fi
  needs_card sanitizer || return
  export -f sanitize_one
  export logs
  for tool in memcheck racecheck; do
    for test in "$build"/tests/boot_cuda_test_*; do
      [[ -x $test && ! -d $test ]] && printf '%s %s\n' "$tool" "$test"
    done
  done | timeout --kill-after=5 90 xargs -P 4 -L 1 bash -c 'sanitize_one "$0" "$1"' >"$logs/sanitizer.counts"
  if grep -q refused "$logs/sanitizer.counts"; then
    note sanitizer skipped $((SECONDS - begin)) 'compute-sanitizer does not work on this machine'
    return
  fi
  local findings ended
  findings=$(grep -E '^[0-9]+$' "$logs/sanitizer.counts" | awk "{ n += \$1 } END { print n + 0 }")
  ended=$(grep -cE '^[0-9]+$' "$logs/sanitizer.counts")
  if ((ended > 0)); then
    printf '%s\n' "${findings:-0}" >"$logs/sanitizer.findings"
  fi
  local reason="$ended runs ended, $(grep -c stopped "$logs/sanitizer.counts") were stopped at 30 s"
  note sanitizer "$( ((ended > 0 && ${findings:-0} == 0)) && echo ok || echo failed)" $((SECONDS - begin)) "$reason"
}

rows_hold=1
for stage in "${stages[@]}"; do
  "stage_$stage"
done
cat "$logs/rows.txt"
printf 'written: %s\n' "$results/$name.json"
if ((dry)); then
  ! grep -lq '^failed' "$logs"/*.stage
else
  exit "$rows_hold"
fi
