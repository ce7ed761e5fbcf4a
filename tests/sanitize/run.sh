#!/usr/bin/env bash
# Builds the kernels with the address and undefined-behaviour sanitizers and runs the kernel tests on that library.
# usage: tests/sanitize/run.sh [PYTHON] [pytest arguments]
set -eu -o pipefail
cd "$(dirname "$0")/../.."

python=${1:-.venv/bin/python}
[ $# -gt 0 ] && shift
compiler=${CXX:-g++}
output=build/sanitize
mkdir -p "$output"

# Assertions on, no recovery: the first finding ends the run with a stack trace.
flags=(-std=c++17 -O2 -g -fno-omit-frame-pointer -fPIC -fvisibility=hidden -fopenmp -Icsrc -D_GLIBCXX_ASSERTIONS
  -fsanitize=address,undefined -fno-sanitize-recover=all)
isa_flags() {
  case $1 in
    *_avx2.cc) echo -mavx2 -mfma -mf16c ;;
    *_avx512.cc) echo -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c ;;
  esac
}

sources=(csrc/capi.cc csrc/cpu/*.cc)
objects=()
for source in "${sources[@]}"; do
  object=$output/$(basename "$source" .cc).o
  objects+=("$object")
  # shellcheck disable=SC2046
  "$compiler" "${flags[@]}" $(isa_flags "$source") -c "$source" -o "$object"
done
"$compiler" -shared "${flags[@]}" "${objects[@]}" -o "$output/_kernels.so"

# The sanitizer has to be in the process before Python is; Python itself is not instrumented and leaks on purpose.
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
# Without capture, since a finding aborts the process and its report would be lost.
# Every feature and edge once per instruction set, and the random problems of one test; the other files repeat these.
"$python" -m pytest -s -p no:faulthandler --kernels "$output/_kernels.so" tests/kernels/test_features.py tests/kernels/test_edges.py \
  tests/kernels/test_random.py::test_results_are_exact "$@"
