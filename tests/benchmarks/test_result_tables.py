"""The Markdown tables of benchmarks/results: each equals what its script makes from the committed CSV or source."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.repository import REPOSITORY

from benchmarks import collator, context_parallel, memory, prefix_tree
from benchmarks.cpu import aims, bandwidth, report
from benchmarks.gpu import gates, goals
from benchmarks.scaling import measure_memory, plans
from benchmarks.training import prefix_trees, tokenization
from tools import compile_cuda, config_budget, traffic_budget

RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = (REPOSITORY / "docs" / "performance" / "results.md").read_text()

TABLES: dict[str, Callable[[], str]] = {
    "cpu": lambda: report.markdown(report.load(RESULTS / "cpu.csv")),
    "cpu_zen3": lambda: report.markdown(report.load(RESULTS / "cpu_zen3.csv")),
    "cpu_zen4": lambda: report.markdown(report.load(RESULTS / "cpu_zen4.csv")),
    "cpu_16bit": lambda: report.markdown(report.load(RESULTS / "cpu_16bit.csv")),
    "cpu_bandwidth": lambda: bandwidth.markdown(bandwidth.load(RESULTS / "cpu_bandwidth.csv")),
    "memory": lambda: memory.markdown(RESULTS / "memory.csv"),
    "collator": lambda: collator.markdown(RESULTS / "collator.csv"),
    "prefix_tree": lambda: prefix_tree.markdown(RESULTS / "prefix_tree.csv"),
    "context_parallel": lambda: context_parallel.markdown(RESULTS / "context_parallel.csv"),
    "scaling_memory": lambda: measure_memory.markdown(RESULTS / "scaling_memory.csv"),
    "scaling_plans": lambda: plans.markdown(RESULTS / "scaling_plans.csv"),
    "training_prefix_trees": lambda: prefix_trees.markdown(RESULTS / "training_prefix_trees.csv"),
    "tokenization": lambda: tokenization.markdown(RESULTS / "tokenization.csv"),
    "cuda_compile": lambda: compile_cuda.markdown(compile_cuda.read_csv(RESULTS / "cuda_compile.csv")),
    "config_budget": lambda: config_budget.markdown(config_budget.budgets()),
    "traffic_budget": traffic_budget.markdown,
}


@pytest.mark.parametrize("name", TABLES)
def test_table_is_what_the_script_makes(name: str) -> None:
    committed = (RESULTS / f"{name}.md").read_text().rstrip("\n")
    assert committed == TABLES[name](), f"{name}.md is stale: docs/performance/results.md names its command"


def test_gpu_goals_at_the_shortest_length() -> None:
    """The other lengths take half a minute."""
    committed = (RESULTS / "gpu_goals.md").read_text().splitlines()
    made = goals.markdown(gates.R_OF_PUBLISHED, goals.SEQLENS[:1]).splitlines()
    assert committed[:2] == made[:2]
    assert [line for line in committed if f"| {goals.SEQLENS[0]} |" in line] == made[2:]
    assert len(committed) == 2 + len(goals.SEQLENS) * len(made[2:])


@pytest.mark.parametrize("results", ["cpu.csv", "cpu_zen3.csv", "cpu_zen4.csv"])
def test_results_page_has_the_summary_of_each_device(results: str) -> None:
    table = report.summary(report.load(RESULTS / results))
    assert len(table.splitlines()) - 2 <= 10
    assert table in PAGE


def test_results_page_has_the_aims() -> None:
    assert aims.markdown() in PAGE


def test_page_on_many_devices_has_the_summary() -> None:
    page = (REPOSITORY / "docs" / "many_devices.md").read_text()
    assert context_parallel.summary(RESULTS / "context_parallel.csv") in page


def test_page_on_planning_has_its_tables() -> None:
    page = (REPOSITORY / "docs" / "planning.md").read_text()
    assert measure_memory.markdown(RESULTS / "scaling_memory.csv") in page
    assert plans.summary(RESULTS / "scaling_plans.csv") in page


def test_every_table_is_tested_and_linked() -> None:
    names = {path.stem for path in RESULTS.glob("*.md")}
    # Rows of cuda_compilers are tested in tests/tools; nothing but its own run makes them.
    assert names == {*TABLES, "gpu_goals", "cuda_compilers"}
    for name in names:
        assert f"(../../benchmarks/results/{name}.md)" in PAGE
