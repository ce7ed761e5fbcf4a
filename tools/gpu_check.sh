#!/usr/bin/env bash
# Builds, tests and measures the CUDA kernels on a machine with a GPU, nvcc and torch: no Paddle, no network.
#   tools/gpu_check.sh [--emulated] [--budget SECONDS] [--only REGEX] [SUBSET...]       (--help lists the subsets)
# Prints a short table last; $OUT (default build/gpu_check) holds gpu_check.json and one log per part.
# Exit status: 0 all passed, 1 something failed, 2 nothing failed but something asked for did not run.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" -m tools.gpu_check "$@"
