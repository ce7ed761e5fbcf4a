"""What ptxas of several CUDA releases prints, and the recorded results against the rule of the build."""

from __future__ import annotations

import csv

from support.repository import REPOSITORY

from tools import cuda_compilers

LOG = """ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are serialized in 'one'
ptxas info    : Compiling entry function 'one' for 'sm_90a'
    0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
ptxas info    : Compiling entry function 'two' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 0 barriers
"""


def test_the_output_of_ptxas_is_counted() -> None:
    assert cuda_compilers.numbers_in(LOG) == (2, 1, 12)


def test_only_the_version_of_ptx_is_lowered() -> None:
    assert cuda_compilers.with_isa("//\n.version 9.0\n.target sm_80\n", "8.5") == "//\n.version 8.5\n.target sm_80\n"


def test_the_recorded_results_are_the_rule_of_the_build() -> None:
    """Kernels are serialized where the build leaves them out, and nowhere else. Every release is recorded."""
    with (REPOSITORY / "benchmarks" / "results" / "cuda_compilers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {*cuda_compilers.PTX_ISA, "13.0"} == {row["cuda"] for row in rows}
    for row in rows:
        assert (row["serialized"] == "0") == (row["in_build"] == "True"), row
