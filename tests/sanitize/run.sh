#!/usr/bin/env bash
# Builds the kernels with sanitizers and runs kernel tests on those libraries: first addresses and undefined behaviour,
# then data races. The first finding ends the run with a stack trace.
# usage: tests/sanitize/run.sh [PYTHON] [pytest arguments]
set -eu -o pipefail
cd "$(dirname "$0")/../.."

python=${1:-.venv/bin/python}
[ $# -gt 0 ] && shift
compiler=${CXX:-g++}
common=(-std=c++17 -O2 -g -fno-omit-frame-pointer -fPIC -fvisibility=hidden -Icsrc -D_GLIBCXX_ASSERTIONS)

isa_flags() {
  case $1 in
    *_avx2.cc) echo -mavx2 -mfma -mf16c ;;
    *_avx512.cc) echo -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c ;;
  esac
}

# build NAME "COMPILE FLAGS" "LINK FLAGS" [MORE SOURCES]: makes build/sanitize/NAME.so
build() {
  local name=$1 compile=$2 link=$3 source object objects=()
  shift 3
  mkdir -p "build/sanitize/$name"
  for source in csrc/capi.cc csrc/no_cuda.cc csrc/cpu/*.cc "$@"; do
    object=build/sanitize/$name/$(basename "$source" .cc).o
    objects+=("$object")
    # shellcheck disable=SC2046,SC2086
    "$compiler" "${common[@]}" $compile $(isa_flags "$source") -c "$source" -o "$object"
  done
  # shellcheck disable=SC2086
  "$compiler" -shared $link "${objects[@]}" -o "build/sanitize/$name.so"
}

library() { "$compiler" -print-file-name="$1"; }

# check NAME PYTEST-ARGUMENTS. Without capture, since a finding ends the process and its report would
# be lost. The sanitizer has to be in the process before Python is; Python is not instrumented and leaks on purpose.
check() {
  local name=$1
  shift
  # Fixed addresses: the thread sanitizer needs ranges free that randomised loading may take.
  setarch -R "$python" -m pytest -s -p no:faulthandler --kernels "build/sanitize/$name.so" "$@"
}

findings="-fsanitize=address,undefined -fno-sanitize-recover=all"
build memory "$findings -fopenmp" "$findings -fopenmp"
(
  export LD_PRELOAD="$(library libasan.so) $(library libubsan.so)"
  export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
  check memory tests/cpu/test_features.py tests/cpu/test_isolation.py tests/cpu/test_edges.py tests/cpu/test_long.py \
    tests/cpu/test_few_keys.py tests/cpu/test_few_queries.py \
    tests/cpu/test_random.py::test_results_are_exact "$@"
)

build races "-fsanitize=thread -fopenmp" "-fsanitize=thread" tests/sanitize/threads.cc
(
  export LD_PRELOAD="$(library libtsan.so)" TSAN_OPTIONS=halt_on_error=1
  check races tests/cpu/test_determinism.py "$@"
)
