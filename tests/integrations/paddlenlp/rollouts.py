"""Rollouts of prompts as data files, and the loss of each computed alone, from the formulas."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from sentences import sentence

from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines, RolloutTokens


def rollouts(count: int, seed: int = 3) -> list[dict]:
    """Prompts with four answers each, which share their first words, and advantages of both signs."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        start = sentence(rng, 3, 6)[:-1]
        answers = [f"{start} {sentence(rng, 1, 8)}" for _ in range(4)]
        advantages = [rng.gauss(0, 1) for _ in answers]
        rows.append({"prompt": sentence(rng, 6, 12), "answers": answers, "advantages": advantages})
    return rows


def write(folder: Path, rows: list[dict]) -> None:
    """The rows as training and as evaluation data."""
    for split in ("train", "dev"):
        (folder / f"{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def tokens_of(folder: Path, tokenizer: Any) -> list[dict]:
    return list(RolloutTokens(RolloutLines(str(folder), "train"), tokenizer, 200, 400))


def log_probabilities(model: Any, row: dict) -> paddle.Tensor:
    """float64 [learned tokens]: those of a rollout that is run alone, without any mask but the causal one."""
    out = model(input_ids=paddle.to_tensor(row["input_ids"]).unsqueeze(0))
    logits = (out[0] if isinstance(out, (tuple, list)) else out).astype("float64")[0]
    labels = paddle.to_tensor(row["labels"])
    places = (labels != -100).nonzero().flatten()
    chosen = F.one_hot(labels.index_select(places), logits.shape[-1]).astype("float64")
    return (F.log_softmax(logits.index_select(places), axis=-1) * chosen).sum(axis=-1)


def score(folder: Path, rows: list[dict], numbers: Iterable[np.ndarray]) -> None:
    """Write the rows with log-probabilities. numbers: those of each answer in turn."""
    numbers = iter(numbers)
    write(folder, [{**row, "log_probabilities": [next(numbers).tolist() for _ in row["answers"]]} for row in rows])


@dataclass(frozen=True)
class Expected:
    """What a step over all rollouts has. clipped: numbers of clipped tokens of (positive, negative) advantage."""

    loss: paddle.Tensor
    figures: dict[str, float]
    clipped: tuple[int, int]


def expected(
    model: Any,
    rows: list[dict],
    average: str,
    bounds: tuple[float, float],
    beta: float = 0.0,
    references: list[np.ndarray] | None = None,
) -> Expected:
    """The loss of arXiv 2402.03300, eq. 3, in float64.

    rows: of `tokens_of`. references: log-probabilities of each row under the reference model.
    """
    losses, ratios, kl, reference_kl, clipped = [], [], [], [], [0, 0]
    for number, row in enumerate(rows):
        current = log_probabilities(model, row)
        given, advantage = row["values"].get("log_probabilities"), row["values"]["advantages"]
        old = current.detach().numpy() if given is None else np.asarray(given)[np.asarray(row["labels"]) != -100]
        ratio = (current - paddle.to_tensor(old)).exp()
        values = ratio.numpy()
        best = np.clip(values, *bounds) * advantage
        is_clipped = best < values * advantage
        loss = -paddle.where(paddle.to_tensor(is_clipped), paddle.to_tensor(best), ratio * advantage)
        if references is not None:
            quotient = paddle.to_tensor(references[number]).exp() / current.exp()
            divergence = quotient - quotient.log() - 1
            loss = loss + beta * divergence
            reference_kl += divergence.numpy().tolist()
        losses.append(loss)
        clipped[advantage < 0] += int(is_clipped.sum())
        ratios += values.tolist()
        kl += (values - np.log(values) - 1).tolist()
    per_rollout = [rollout.mean() for rollout in losses]
    loss = paddle.stack(per_rollout).mean() if average == "rollouts" else paddle.concat(losses).mean()
    figures = {"ratio": np.mean(ratios), "clipped": sum(clipped) / len(ratios), "kl": np.mean(kl)}
    if references is not None:
        figures["reference_kl"] = np.mean(reference_kl)
    return Expected(loss, figures, tuple(clipped))
