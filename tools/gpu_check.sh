#!/usr/bin/env bash
# Build, test and measure the CUDA kernels on a machine with a GPU, nvcc and torch, without Paddle or a network.
#   tools/gpu_check.sh [--emulated] [--budget SECONDS] [--only REGEX] [SUBSET...]       (--help lists the subsets)
# Prints a short table at the end, and writes gpu_check.json and logs to $OUT (default build/gpu_check).
# Exit status: 0 if everything passed, 1 if anything failed, 2 if nothing failed but something did not run.
set -u
cd "$(dirname "$0")/.."
# Peers from `make gpu-bundle` and, once both parts have arrived, from `make gpu-bundle-cute`.
cute="$PWD/build/gpu_bundle_cute"
if ls "$cute"/part-* >/dev/null 2>&1 && [ ! -d "$cute/wheels" ]; then
  cat "$cute"/part-* | tar -x -C "$cute" 2>/dev/null || rm -rf "$cute/wheels"
fi
bundled="$PWD/build/gpu_bundle" peers="$PWD/build/gpu_peers" # unpacked outside of what travels
if [ -f "$bundled/peers.tar.xz" ] && [ ! -d "$peers/site" ]; then
  "${PYTHON:-python3}" -m tarfile --filter data -e "$bundled/peers.tar.xz" "$peers/site"
fi
if [ -d "$cute/wheels" ] && [ ! -d "$cute/site" ]; then
  for wheel in "$cute"/wheels/*.whl; do "${PYTHON:-python3}" -m zipfile -e "$wheel" "$cute/site"; done
fi
for bundle in "$peers" "$cute"; do
  site="$bundle/site"
  [ -d "$site" ] && PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$site:$site/nvidia_cutlass_dsl/dsl_packages"
done
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" -m tools.gpu_check "$@"
