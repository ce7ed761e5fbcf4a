"""docs/training/what_is_learned.md is what its script writes, and marks the answers."""

from __future__ import annotations

import re
import runpy

from support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "training" / "what_is_learned.md").read_text()


def test_the_page_is_what_its_script_writes():
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_what_is_learned.py"))
    assert script["render"](PAGE) == PAGE, "run `PYTHONPATH=tests python docs/make_what_is_learned.py`"


def marked(title: str) -> str:
    """The text above the marks ^ in a section."""
    block = re.search(rf"^## {title}\n.*?```text\n(.*?)\n```", PAGE, flags=re.M | re.S)[1].split("\n")
    pairs = zip(block[0::2], block[1::2], strict=True)
    kept = [text[i] if mark == "^" else "" for text, marks in pairs for i, mark in enumerate(marks)]
    return "".join(kept)


def test_the_marks_are_below_the_answers():
    first, last = r"<think>\nA is out.\n</think>\n\nB", r"<think>\nOnly B is left.\n</think>\n\nYes"
    assert marked("ChatML") == f"{first}<|im_end|>{last}<|im_end|>"
    assert marked("Llama-3") == f"{first}<|eot_id|>{last}<|eot_id|>"
    assert marked("Qwen3, with thinking") == f"{last}<|im_end|>"
    call = r'<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>'
    assert marked("Hermes, with tools") == f"{call}It is 4.<|im_end|>"
