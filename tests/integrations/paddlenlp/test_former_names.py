"""Names that moved can be imported from where they were, with a warning that names the new place."""

from __future__ import annotations

import importlib
import sys

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.tasks import dpo
from paddle_flashmask.integrations.paddlenlp.train import train

PACKAGE = "paddle_flashmask.integrations.paddlenlp"


@pytest.mark.parametrize(
    ("module", "name", "now"),
    [
        ("task", "train", train),
        ("data", "JSONLines", SFTLines),
        ("data", "TokenizedRows", SFTTokens),
        ("preference_data", "TokenizedAnswers", PreferenceTokens),
        ("preference_rows", "PreferenceLines", PreferenceLines),
    ],
)
def test_a_former_name_is_the_present_one(module: str, name: str, now: type, monkeypatch):
    if module != "data":
        monkeypatch.delitem(sys.modules, f"{PACKAGE}.{module}", raising=False)
    with pytest.warns(DeprecationWarning, match=rf"import {now.__name__} from {now.__module__}"):
        former = getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
    assert former is now or issubclass(former, now)


def test_preference_lines_took_the_key_of_a_task(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    former = importlib.import_module(f"{PACKAGE}.preference_rows").PreferenceLines
    path = str(tmp_path / "rows.jsonl")
    assert list(former(path, "dpo")) == list(PreferenceLines(path, dpo.FORM))


def test_other_names_are_not_there():
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from paddle_flashmask.integrations.paddlenlp.data import Nothing  # noqa: F401
