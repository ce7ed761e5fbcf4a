"""docs/prefix_trees.md: its code runs, and its batch has the keys and shapes of its table."""

from __future__ import annotations

import re

from support.repository import REPOSITORY

TEXT = (REPOSITORY / "docs" / "prefix_trees.md").read_text()


def test_code_runs() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(compile(block, "docs/prefix_trees.md", "exec"), names)
    batch, report = names["batch"], names["packed"].report
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", TEXT, flags=re.M)))
    assert set(listed) == set(batch)
    assert batch["input_ids"].shape == (1, 7)
    assert (report.tokens, report.sequence_tokens) == (7, 12)
    assert names["loss"].shape == []
