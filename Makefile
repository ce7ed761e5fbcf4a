# Targets for a checkout. `make test` and `make demo` work on a bare machine with Python 3.10-3.12 and g++.
VENV ?= .venv
BENCH_VENV ?= .venv-bench
DOCS_VENV ?= .venv-docs
FORMERS_VENV ?= .venv-paddleformers
ERNIE_VENV ?= .venv-erniekit
PYTHON ?= python3
JOBS ?= $(shell nproc)

BIN := $(VENV)/bin
STAMPS := build/stamps/$(subst /,-,$(abspath $(VENV)))
REQUIREMENTS := $(addprefix requirements/,build.txt test.txt paddlenlp.txt constraints.txt)
BUILD_INPUTS := setup.py pyproject.toml tools/build_kernels.py $(shell find csrc -name '*.h' -o -name '*.cc' -o -name '*.cu')
PYTHON_FILES := setup.py paddle_flashmask tests tools $(wildcard examples benchmarks docs/*.py)
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cc' -o -name '*.cu')
PIP := $(BIN)/python -m pip --disable-pip-version-check
FORMERS_STAMPS := build/stamps/$(subst /,-,$(abspath $(FORMERS_VENV)))
FORMERS_PIP := $(FORMERS_VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: all always venv build wheels wheels-cuda test test-wheel test-paddleformers test-erniekit test-gpu-check \
  check-install release-check docs docs-serve demo train-all four-processes killed-runs bench-cpu \
  cuda-compiler cuda-compilers compile-cuda sweep-variants gpu-bundle gpu-bundle-cute emulate-all lint format sanitize \
  info clean

all: build

# The pinned versions are also installed into an existing virtual environment (VENV=...).
venv: $(STAMPS)/venv
$(STAMPS)/venv: $(REQUIREMENTS)
	@mkdir -p $(STAMPS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment could be made: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "$(VENV) is not Python 3.10-3.12, which PaddleNLP needs: make venv PYTHON=python3.11"; exit 1; }
	$(PIP) install -q -c requirements/constraints.txt \
	  -r requirements/build.txt -r requirements/test.txt -r requirements/paddlenlp.txt
	$(PIP) install -q --no-deps -c requirements/constraints.txt paddlenlp visualdl
	@touch $@

# Rebuilt when PFM_CUDA or PFM_CUDA_ARCHS changes, and after nvcc is installed with pip.
build: $(STAMPS)/build
$(STAMPS)/build: $(STAMPS)/venv $(STAMPS)/options $(wildcard $(STAMPS)/cuda) $(BUILD_INPUTS)
	MAX_JOBS=$(JOBS) $(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $@

$(STAMPS)/options: always
	@mkdir -p $(STAMPS)
	@echo "$(PFM_CUDA) $(PFM_CUDA_ARCHS)" | cmp -s - $@ || echo "$(PFM_CUDA) $(PFM_CUDA_ARCHS)" > $@

# Wheels for every Python 3.10-3.12 in PATH or among pyenv's versions, in dist. WHEEL_ARGS: see tools/wheels.py --help
wheels: venv
	MAX_JOBS=$(JOBS) $(BIN)/python -m tools.wheels dist $(WHEEL_ARGS)
wheels-cuda: $(STAMPS)/cuda
	MAX_JOBS=$(JOBS) $(BIN)/python -m tools.wheels dist --cuda $(WHEEL_ARGS)

# One wheel, installed without a compiler within reach. It uses the packages of $(VENV), which saves five minutes.
test-wheel: venv
	MAX_JOBS=$(JOBS) $(BIN)/python -m tools.wheels build/wheels/dist --python $(BIN)/python --paddle 3.3.1
	$(BIN)/python -m tools.check_install wheel --dist build/wheels/dist --python $(BIN)/python --borrow $(VENV)

# The lines of the README as printed, in new environments, with all their downloads: for every Python that is found, or
# for the one of CHECKS="source --python python3.11". Without CUDA kernels, which would take most of the time. After
# `build`, whose objects the clones take over.
CHECKS ?= source paddleformers
check-install: build
	PFM_CUDA=0 $(BIN)/python -m tools.check_install $(CHECKS)

# Before a release, about an hour on two cores: every wheel without a compiler within reach, and check-install.
release-check: wheels check-install
	$(BIN)/python -m tools.check_install wheel

# The tests of one file run in one process, because they share what they compile.
test: build
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# In a separate environment, because PaddleFormers and PaddleNLP exclude each other. The package is installed there, not
# editable, because the binaries in the source tree belong to $(VENV). `pytest`, unlike `python -m pytest`, and this
# pythonpath leave the source tree off Python's path, so that the installed package is tested.
test-paddleformers: $(FORMERS_STAMPS)/build
	$(FORMERS_VENV)/bin/pytest -o pythonpath=tests tests/integrations/paddleformers
$(FORMERS_STAMPS)/venv: requirements/paddleformers.txt
	@mkdir -p $(FORMERS_STAMPS)
	@test -x $(FORMERS_VENV)/bin/python || $(PYTHON) -m venv $(FORMERS_VENV)
	@$(FORMERS_VENV)/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "$(FORMERS_VENV) is not Python 3.11 or 3.12: make test-paddleformers PYTHON=python3.11"; exit 1; }
	$(FORMERS_PIP) install -q --no-deps -r requirements/paddleformers.txt
	@touch $@
$(FORMERS_STAMPS)/build: $(FORMERS_STAMPS)/venv $(BUILD_INPUTS) $(shell find paddle_flashmask -name '*.py')
	rm -rf build/lib.*
	PFM_CUDA=0 MAX_JOBS=$(JOBS) $(FORMERS_PIP) install -q --no-build-isolation --no-deps .
	@touch $@

# PaddleFormers 0.3.1, which ERNIEKit 1.3.0 pins, in one more environment and as above. ERNIEKit 1.0.1, the last release
# whose command line starts, is installed into a folder there, which only the processes of its own tests have in their
# path.
ERNIE_STAMPS := build/stamps/$(subst /,-,$(abspath $(ERNIE_VENV)))
ERNIE_PIP := $(ERNIE_VENV)/bin/python -m pip --disable-pip-version-check
test-erniekit: $(ERNIE_STAMPS)/build $(ERNIE_STAMPS)/command
	$(ERNIE_VENV)/bin/pytest -o pythonpath=tests tests/integrations/erniekit
$(ERNIE_STAMPS)/venv: requirements/erniekit.txt
	@mkdir -p $(ERNIE_STAMPS)
	@test -x $(ERNIE_VENV)/bin/python || $(PYTHON) -m venv $(ERNIE_VENV)
	@$(ERNIE_VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "$(ERNIE_VENV) is not Python 3.11: make test-erniekit PYTHON=python3.11"; exit 1; }
	$(ERNIE_PIP) install -q --no-deps -r requirements/erniekit.txt
	@touch $@
$(ERNIE_STAMPS)/command: requirements/erniekit_1_0.txt $(ERNIE_STAMPS)/venv
	rm -rf $(ERNIE_VENV)/erniekit-1.0.1
	$(ERNIE_PIP) install -q --no-deps --target $(ERNIE_VENV)/erniekit-1.0.1 -r requirements/erniekit_1_0.txt
	@touch $@
$(ERNIE_STAMPS)/build: $(ERNIE_STAMPS)/venv $(BUILD_INPUTS) $(shell find paddle_flashmask -name '*.py')
	rm -rf build/lib.*
	PFM_CUDA=0 MAX_JOBS=$(JOBS) $(ERNIE_PIP) install -q --no-build-isolation --no-deps .
	@touch $@

# The documentation site, in build/site, with an error for every warning, dead link and request to another host. Without
# Paddle and in an environment of its own.
DOCS_STAMPS := build/stamps/$(subst /,-,$(abspath $(DOCS_VENV)))
MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs
docs: $(DOCS_STAMPS)/venv
	$(MKDOCS) build --strict
	$(DOCS_VENV)/bin/python -m tools.check_site build/site
# Shown at http://127.0.0.1:8000 and built anew when a page or a docstring changes.
docs-serve: $(DOCS_STAMPS)/venv
	$(MKDOCS) serve
$(DOCS_STAMPS)/venv: requirements/docs.txt requirements/constraints.txt
	@mkdir -p $(DOCS_STAMPS)
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	  { echo "$(DOCS_VENV) is older than Python 3.11: make docs PYTHON=python3.11"; exit 1; }
	$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check install -q -c requirements/constraints.txt \
	  -r requirements/docs.txt
	@touch $@

demo: build
	$(BIN)/python examples/demo.py

# A few steps of every training task on real data, and divided runs in up to four processes; about twelve minutes on two
# cores.
train-all: build four-processes
	$(BIN)/python examples/train_all.py

# Context parallel attention, and training divided over processes, in four processes; `make test` runs both in two.
four-processes: build
	$(BIN)/python -m pytest tests/distributed/test_processes.py --ranks 4
	$(BIN)/python -m pytest tests/integrations/paddlenlp/test_hybrid.py --processes 4

# 200 short runs of every task, killed at random moments and started again; about half an hour on two cores.
killed-runs: build
	$(BIN)/python -m pytest -s -p no:warnings tests/integrations/paddlenlp/test_runs_killed.py --killed-runs 200

# Beside PyTorch, in the same run and a separate environment, because PaddleNLP behaves differently where torch is
# installed. BENCH_ARGS="--seqlens 2048 --rounds 3" shortens it.
bench-cpu: build $(STAMPS)/bench
	@mkdir -p benchmarks/results
	OMP_NUM_THREADS=2 $(BENCH_VENV)/bin/python -m benchmarks.cpu.run --output benchmarks/results/cpu.csv $(BENCH_ARGS)
	$(BENCH_VENV)/bin/python -m benchmarks.cpu.report benchmarks/results/cpu.csv
$(STAMPS)/bench: $(STAMPS)/venv requirements/bench.txt
	@test -x $(BENCH_VENV)/bin/python || $(BIN)/python -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check install -q -c requirements/constraints.txt \
	  -r requirements/build.txt -r requirements/bench.txt
	@touch $@

# What tools/gpu_check.sh runs on a GPU, on stand-ins for torch.cuda, the driver and the programs. In the environment of
# `make bench-cpu`, because these tests need torch and are skipped without it.
test-gpu-check: build $(STAMPS)/bench-test
	$(BENCH_VENV)/bin/python -m pytest tests/tools/test_gpu_check_torch.py tests/benchmarks/test_gpu_torch.py \
	  tests/benchmarks/test_gpu_sweep_torch.py
$(STAMPS)/bench-test: $(STAMPS)/bench requirements/test.txt
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check install -q -c requirements/constraints.txt \
	  -r requirements/test.txt
	@touch $@

# nvcc from pip, for machines without a CUDA toolkit. Later builds include the CUDA kernels unless PFM_CUDA=0.
cuda-compiler: $(STAMPS)/cuda
$(STAMPS)/cuda: $(STAMPS)/venv requirements/cuda.txt
	$(PIP) install -q -r requirements/cuda.txt
	@touch $@

# Compile the kernels with NVRTC and ptxas of CUDA 12.6, 12.8 and 12.9 from pip too, and record which serialize wgmma.
cuda-compilers: $(STAMPS)/cuda
	$(BIN)/python -m tools.cuda_compilers --csv benchmarks/results/cuda_compilers.csv

# Compile every CUDA kernel with nvcc and print a table of registers and spills; unexpected spills are an error.
compile-cuda: venv
	$(BIN)/python -m tools.compile_cuda --csv benchmarks/results/cuda_compile.csv --markdown

# Variants of the sm90 tile rows in one library, which `tools/gpu_check.sh sweep` times on a GPU; SWEEP_ARGS="--help"
sweep-variants: venv
	$(BIN)/python -m tools.sweep_variants build/variants.so $(SWEEP_ARGS)

# What a GPU machine without a network lacks: the kernel library with variants of its rows, the programs of the first
# checks, and peers, which tools/gpu_check.sh unpacks.
GPU_PYTHON ?= 3.12
gpu-bundle: $(STAMPS)/cuda build/gpu_bundle/peers.tar.xz
	$(BIN)/python -m tools.sweep_variants build/gpu_bundle/variants.so $(SWEEP_ARGS)
	PYTHONPATH=.:tests $(BIN)/python -m tools.gpu_check.preparation build/gpu_bundle/preparation
	PYTHONPATH=.:tests $(BIN)/python -m tools.gpu_check.conformance build/gpu_bundle
	du -sh build/gpu_bundle
# A third of the wheels' size, because their kernels are not compressed well.
build/gpu_bundle/peers.tar.xz: requirements/gpu_peers.txt | $(STAMPS)/venv
	rm -rf build/gpu_peers build/gpu_bundle && mkdir -p build/gpu_bundle
	$(PIP) download -q --dest build/gpu_peers/wheels --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) \
	  -r requirements/gpu_peers.txt
	for wheel in build/gpu_peers/wheels/*.whl; do $(BIN)/python -m zipfile -e $$wheel build/gpu_peers/site || exit 1; done
	tar -C build/gpu_peers/site -cJf $@ .

# Peers in CuTe, too large to travel at once: two files of 54 MiB, unpacked where both have arrived.
gpu-bundle-cute: venv
	$(PIP) download -q --dest build/gpu_bundle_cute/wheels --no-deps --only-binary=:all: \
	  --python-version $(GPU_PYTHON) -r requirements/gpu_peers_cute.txt
	cd build/gpu_bundle_cute && tar -c wheels | split -b 56M - part- && rm -r wheels && ls -l

# The full product of cases, of which `make test` runs a pairwise cover; about an hour on two cores.
emulate-all: venv
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python tests/cuda/emulate_all.py --output benchmarks/results/emulate_all.csv $(EMULATE_ARGS)

info: build
	$(BIN)/paddle-flashmask info

lint: venv
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: venv
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/clang-format -i $(CXX_FILES)

# Address and undefined-behaviour sanitizers over the kernels.
sanitize: build
	tests/sanitize/run.sh $(BIN)/python

clean:
	rm -rf build dist *.egg-info demo-output
	rm -f paddle_flashmask/*.so paddle_flashmask/_build_info.py
