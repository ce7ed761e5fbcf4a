"""What the compilers of several CUDA releases print, and the recorded results against the rule of the build."""

from __future__ import annotations

import csv
from pathlib import Path

from support.repository import REPOSITORY

from tools import cuda_compilers, nvrtc

LOG = """ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are serialized in 'one'
ptxas info    : Compiling entry function 'one' for 'sm_90a'
    0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
ptxas info    : Compiling entry function 'two' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 0 barriers
"""
PTX = """.visible .entry _ZN3pfm4cuda14PrepareColumnsENS0_9MaskTableE(
.visible .entry _ZN3pfm4cuda4sm807ForwardINS0_3ptx8BFloat16ELi7EEEvNS1_16ForwardArgumentsE(
"""


def test_the_output_of_ptxas_is_counted() -> None:
    assert cuda_compilers.numbers_in(LOG) == (2, 1, 12)


def test_kernels_are_named_as_nvrtc_takes_them() -> None:
    names = ["pfm::cuda::PrepareColumns", "pfm::cuda::sm80::Forward<pfm::cuda::ptx::BFloat16, 7>"]
    assert nvrtc.kernels_in(PTX) == names


def test_a_program_for_nvrtc_is_the_headers_of_a_source_file(tmp_path: Path) -> None:
    source = tmp_path / "forward.cu"
    source.write_text('// Text.\n#include "forward.h"\n#include "launch.h"\n\nvoid Launch() {}\n')
    assert nvrtc.program_of(source) == '#include "forward.h"\n#include "launch.h"\n'


def test_the_recorded_results_are_the_rule_of_the_build() -> None:
    """Kernels are serialized where the build leaves them out, and nowhere else. Every release is recorded."""
    with (REPOSITORY / "benchmarks" / "results" / "cuda_compilers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {*cuda_compilers.RELEASES, "13.0"} == {row["cuda"] for row in rows}
    for row in rows:
        assert (row["serialized"] == "0") == (row["in_build"] == "True"), row
