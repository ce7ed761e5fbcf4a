"""Rollouts of the policy example: groups, their branches, and advantages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from examples.policy.prepare import GO_ON, ROLLOUTS, advantages_of, overlap, rollout_rows
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines

INSTRUCTIONS = [
    {"src": f"Question {number}?", "tgt": " ".join(f"w{number}-{word}" for word in range(60 + number))}
    for number in range(5)
]


def test_rows_are_groups_of_rollouts(tmp_path: Path) -> None:
    rows = rollout_rows(INSTRUCTIONS, 3)
    assert [row["prompt"] for row in rows] == ["Question 0?", "Question 1?", "Question 2?"]
    for row, instruction in zip(rows, INSTRUCTIONS, strict=False):
        first, question, second = row["answers"][0]
        assert f"{first['content']} {second['content']}" == instruction["tgt"]
        assert question == {"role": "user", "content": GO_ON}
        assert len({answer[0]["content"] for answer in row["answers"]}) == 2
        assert len({json.dumps(answer) for answer in row["answers"]}) == ROLLOUTS
        assert max(row["advantages"]) == row["advantages"][0]
        np.testing.assert_allclose([np.mean(row["advantages"]), np.std(row["advantages"])], [0, 1], atol=1e-12)
    assert rollout_rows(INSTRUCTIONS, 3) == rows
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(list(RolloutLines(str(tmp_path), "train"))) == 3 * ROLLOUTS


def test_answers_of_other_lengths_are_not_used() -> None:
    with pytest.raises(ValueError, match="there are 5"):
        rollout_rows([*INSTRUCTIONS, {"src": "Short?", "tgt": "Yes."}], 6)


def test_rewards_and_advantages() -> None:
    assert overlap("A cat, a dog", "a cat") == pytest.approx(2 * 2 / 6)
    assert overlap("", "a cat") == 0.0
    assert advantages_of([0.5, 0.5]) == [0.0, 0.0]
    assert advantages_of([0.0, 1.0]) == [-1.0, 1.0]
