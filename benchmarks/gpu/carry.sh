#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Collects into .gpu_carry/ (ignored by git) what check.sh needs on a machine with a GPU that reaches no network: the
# headers, CMake packages and libraries of Eigen, fmt, json, CLI11 and Catch2, the PyTorch scripts that the step is
# compared with (BOOT_PEERS, ../shared/peers), and the pure-Python wheels they need beside PyTorch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=.gpu_carry
limit_mb=40
packages=(libeigen3-dev libfmt-dev libfmt9 nlohmann-json3-dev libcli11-dev catch2)
wheels=(diffusers==0.42.1 importlib_metadata zipp)
peers=${BOOT_PEERS:-../shared/peers}

rm -rf "$out"
mkdir -p "$out"
for package in "${packages[@]}"; do
  if ! files=$(dpkg -L "$package" 2>/dev/null); then
    printf 'carry: %s is not installed; apt-get install %s\n' "$package" "$package" >&2
    exit 1
  fi
  while IFS= read -r file; do
    if [[ -f $file ]] && grep -qE '^/usr/(include|lib|share/(eigen3|cmake)|share/[A-Za-z0-9_]+/cmake)/' <<<"$file"; then
      mkdir -p "$out$(dirname "$file")"
      cp -L "$file" "$out$file"
    fi
  done <<<"$files"
done
if ! python3 -m pip download -q --no-deps -d "$out/wheels" "${wheels[@]}"; then
  printf 'carry: no wheels of %s; without them the step cannot be compared with PyTorch\n' "${wheels[*]}" >&2
fi
if [[ -f $peers/boot_torch.py ]]; then
  mkdir -p "$out/peers"
  cp "$peers"/*.py "$peers"/requirements.txt "$out/peers/"
else
  printf 'carry: no boot_torch.py in %s (BOOT_PEERS names another folder); the step cannot be compared with PyTorch\n' "$peers" >&2
fi

size=$(du -sm "$out" | cut -f1)
printf 'carry: %s MB in %s\n' "$size" "$out"
if ((size > limit_mb)); then
  printf 'carry: more than %s MB\n' "$limit_mb" >&2
  exit 1
fi
