"""Context parallel attention in processes over Gloo: results of one device, refusals, and the end of a rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import Ranks

PROGRAM = Path(__file__).with_name("context_parallel_rank.py")
# Relative to the greatest value. A bfloat16 result has one rounding of each partial result.
TOLERANCE, TOLERANCE_BFLOAT16 = 1e-5, 1e-2


def run(ranks: int, what: str, folder: Path) -> tuple[list[int], list[dict]]:
    """Exit codes and results of all ranks; a rank without results has none."""
    started = Ranks(ranks, PROGRAM, [what, folder], folder)
    codes = started.wait(seconds=200)
    files = [folder / f"rank{rank}.json" for rank in range(ranks)]
    assert any(file.exists() for file in files), started.log()
    return codes, [json.loads(file.read_text()) if file.exists() else {} for file in files]


def test_processes_have_the_results_of_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    ranks = request.config.getoption("--ranks")
    codes, found = run(ranks, "calls", tmp_path)
    assert codes == [0] * ranks
    check_values([results["values"] for results in found])
    check_refusals([results["refusals"] for results in found])


def check_values(results: list[dict]) -> None:
    for rank, found in enumerate(results):
        assert len(found) > 30
        for case, differences in found.items():
            tolerance = TOLERANCE_BFLOAT16 if case == "bfloat16" else TOLERANCE
            assert max(differences.values()) <= tolerance, (rank, case, differences)


def check_refusals(results: list[dict]) -> None:
    first, second = results[:2]
    assert second["a shape"].startswith("ValueError: value has shape [2, 64, 1, 12], expected")
    assert first["a shape"].startswith("PeerError: ranks [1] of the group have refused")
    for name, argument in (("a mask", "startend_row_indices"), ("stopped gradients", "needs_gradients")):
        assert first[name] == second[name]
        assert first[name].startswith(f"ValueError: {argument} of ranks [1] differs")
    assert first["dropout"] == second["dropout"] and "expected a multiple of 16 as its begin" in first["dropout"]


@pytest.mark.parametrize(("step", "error"), [(1, "RuntimeError"), (2, "OSError")], ids=["forward", "backward"])
def test_the_end_of_a_rank_ends_the_others(tmp_path: Path, step: int, error: str) -> None:
    """Gloo notices a closed connection at once; for a rank that hangs it waits 30 seconds."""
    codes, (first, _) = run(2, f"end in step {step}", tmp_path)
    assert codes == [0, 9]
    assert first["error"].startswith(error) and first["seconds"] < 10
