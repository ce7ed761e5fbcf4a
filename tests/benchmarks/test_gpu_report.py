"""Figures of benchmarks/gpu in the table and the report of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import goals, profile, report, summary, timing
from tools.gpu_check import record, table
from tools.gpu_check.outcome import FAILED, PASSED, Result


def measured_row() -> dict:
    contestants = {"ours": timing.statistics_of([2.0], 8e11), "sdpa_flash": timing.statistics_of([3.0], 8e11)}
    direction = {"flop": 8e11, "load": {"clocks.sm": 1700.0, "power.draw": 650.0}, "contestants": contestants}
    shape = {"mask": "causal", "seqlen": 8192, "head_dim": 128, "heads": 32, "heads_kv": 32, "batch": 4}
    tiles = {"tile_efficiency": 0.985, "live_tiles_per_row": 32.5, "partial_tiles": 1 / 32.5, "matmul_tflops": 800.0}
    absent = {"fa3": "NotRun: absent: none of these can be imported"}
    row = shape | tiles | {"forward": direction, "backward": direction, "absent": absent}
    return row | {"summary": summary.of(row)}


def record_with_figures(emulated: bool = False) -> dict:
    product = timing.statistics_of([1.4], 1.1e12) | {"size": 8192, "method": timing.METHOD}
    results = [
        Result("matmul at the start", PASSED, figures=product),
        Result("causal", PASSED, figures=measured_row()),
        Result("preparation", PASSED, figures={"preparation_microseconds": 9.5, "keys": 131072}),
        Result("document", FAILED, detail="flex: relative difference 1e-1"),
    ]
    machine = {"gpu": {"name": "NVIDIA H200", "driver_version": "580"}, "packages": {"torch": "2.11.0"}}
    parts = [record.describe_part("bench", results, 10.0, 100.0)]
    date = "2026-01-01T00:00:00+00:00"
    return {"commit": "0123abc", "date": date, "emulated": emulated, "machine": machine, "parts": parts}


def test_the_table_shows_failures_and_ratios() -> None:
    text = table.of(record_with_figures())
    assert "failed: bench: document: flex: relative difference" in text
    assert "sdpa_flash 1.50" in text and " 400.0   50  none; " in text


def test_the_report_is_markdown_with_every_figure() -> None:
    text = report.markdown(record_with_figures())
    assert "NVIDIA H200, driver 580" in text and "commit 0123abc" in text
    assert "| causal | 8192 | 128 | 4 | 32 | 0.985 | forward | 2.000 | 400 | 50 | 51 | 1.50 | 1700 | 650 |" in text
    assert "| causal | 8192 | 128 | forward | 400 | 0.60 | 0.58 | 0.54 | none |" in text
    assert "* fa3: NotRun: absent: none of these can be imported (causal 8192 D128)" in text
    assert "| bench | failed | 3 | 1 | 0 | 10 |" in text
    assert "Mask preparation at 131072 keys: 9.5 us." in text


def test_the_report_shows_peers_sweeps_profiles_and_registers() -> None:
    record = record_with_figures()
    times = {"fa4": {"median_ms": 1.5, "tflops": 500.0}}
    kernel = {"kernel": "Forward", "Duration": "1.25 ms", profile.METRICS[0]: "71.50 %"}
    stalls = {"stall_wait": 7, "stall_x": 9}
    record["parts"][0]["cases"] += [
        {"name": "fa4", "outcome": PASSED, "figures": {"peers_of": "causal S=8192", "forward": {"contestants": times}}},
        {"name": "forward: all", "outcome": PASSED, "figures": {"ranking": [{"name": "192x80", "speed": 1.0234}]}},
        {
            "name": "D128",
            "outcome": PASSED,
            "figures": {"profiled": [kernel], "stalls": stalls},
        },
    ]
    figures = {"kernels": [{"name": "Forward()", "architecture": "sm_90a", "reg": 168}]}
    record["parts"].append(
        {**record["parts"][0], "name": "build", "cases": [{"name": "r", "outcome": PASSED, "figures": figures}]}
    )
    text = report.markdown(record)
    assert "| fa4 | causal S=8192 | forward | 1.500 | 500 |" in text
    assert "| forward: all | speed |" in text and "| 192x80 | 1.023 |" in text
    assert "| D128 | 1.25 ms | 71.50 % | - | x 9, wait 7 |" in text
    assert "| `Forward()` | sm_90a | 168 | 0 | 0 | 0 |" in text


def test_reports_and_goals_are_printed(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gpu_check.json").write_text(json.dumps(record_with_figures()))
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / "gpu_check.json")])
    assert report.main() == 0 and "NVIDIA H200" in capsys.readouterr().out
    monkeypatch.setattr(goals, "SEQLENS", (640,))
    monkeypatch.setattr(goals.markdown, "__defaults__", ((640,),))
    monkeypatch.setattr(sys, "argv", ["goals", "--rate", "800"])
    goals.main()
    assert "| full | 640 |" in capsys.readouterr().out
    empty = record_with_figures()
    empty["parts"][0]["cases"] = empty["parts"][0]["cases"][3:]
    assert "R, a bf16 matrix product" not in report.markdown(empty)


def test_a_wrong_result_is_marked_in_the_report() -> None:
    record = record_with_figures()
    record["parts"][0]["cases"][1]["figures"]["wrong"] = ["flex: relative difference 1e-1"]
    assert "| causal (wrong result) | 8192 |" in report.markdown(record)


def test_no_report_of_a_rehearsal() -> None:
    with pytest.raises(ValueError, match="emulated"):
        report.markdown(record_with_figures(emulated=True))


def test_metrics_of_the_profiler_are_read() -> None:
    text = """
  void pfm::Forward<(int)128>(Arguments) (1024, 1, 1)x(128, 1, 1), Context 1, Stream 7, Device 0, CC 9.0
    Section: GPU Speed Of Light Throughput
    ----------------------- ----------- ------------
    Metric Name             Metric Unit Metric Value
    ----------------------- ----------- ------------
    Duration                         ms         1.25
    Compute (SM) Throughput           %        71.50
    Registers Per Thread register/thread          254
    Dropped                           %         1.00
"""
    (kernel,) = profile.read_metrics(text)
    assert kernel["kernel"].startswith("void pfm::Forward") and kernel["Duration"] == "1.25 ms"
    assert kernel["Compute (SM) Throughput"] == "71.50 %" and "Dropped" not in kernel
