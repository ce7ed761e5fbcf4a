#!/usr/bin/env bash
# Build, test and measure the CUDA kernels on a machine with a GPU, nvcc and torch, without Paddle or a network.
#   tools/gpu_check.sh [--emulated] [--budget SECONDS] [--only REGEX] [SUBSET...]       (--help lists the subsets)
# Prints a short table at the end, and writes gpu_check.json and logs to $OUT (default build/gpu_check).
# Exit status: 0 if everything passed, 1 if anything failed, 2 if nothing failed but something did not run.
set -u
cd "$(dirname "$0")/.."
# build/gpu_bundle/site: peers from `make gpu-bundle`
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}:$PWD/build/gpu_bundle/site"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" -m tools.gpu_check "$@"
