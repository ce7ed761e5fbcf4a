"""docs/make_pipelines.py: boxes of a lane do not overlap, waits point forward in time, every picture is shown."""

from __future__ import annotations

import importlib.util
import itertools
import sys

import pytest
from support.repository import REPOSITORY

DOCS = REPOSITORY / "docs"
spec = importlib.util.spec_from_file_location("make_pipelines", DOCS / "make_pipelines.py")
make_pipelines = sys.modules["make_pipelines"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_pipelines)


@pytest.mark.parametrize("name", make_pipelines.PIPELINES)
def test_pipeline(name: str) -> None:
    pipeline = make_pipelines.PIPELINES[name]
    for lane in range(len(pipeline.lanes)):
        boxes = sorted((box for box in pipeline.boxes.values() if box.lane == lane), key=lambda box: box.start)
        assert boxes
        for before, after in itertools.pairwise(boxes):
            assert before.end <= after.start + 1e-9, (before.text, after.text)
    for source, target in pipeline.waits:
        assert pipeline.boxes[source].end <= pipeline.boxes[target].start + 1e-9, (source, target)
    assert (DOCS / "images" / "pipelines" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"(../images/pipelines/{name}.png)" in (DOCS / "performance" / "kernels.md").read_text()
