"""Answers that the model gives to questions of the evaluation data while it is trained."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddlenlp.generation import GenerationConfig
from paddlenlp.trainer import TrainerCallback
from paddlenlp.trl.llm_utils import get_eos_token_id

from paddle_flashmask.packing import IGNORED_LABEL

from .decoding import decode
from .processes import is_first

SAMPLES_NAME = "samples.jsonl"


@dataclass(frozen=True)
class Question:
    """The tokens before the last answer of a row, and those of the answer, its end token included."""

    tokens: list[int]
    expected: list[int]


def questions_of(rows: Iterable[dict[str, Any]], count: int) -> list[Question]:
    """The first `count` rows that have an answer. rows: with `input_ids` and `labels`, which are already shifted."""
    return list(itertools.islice(_questions(rows), count))


def _questions(rows: Iterable[dict[str, Any]]) -> Iterator[Question]:
    for row in rows:
        labels = np.asarray(row["labels"])
        learned = np.flatnonzero(labels != IGNORED_LABEL)
        if len(learned):
            last_answer = np.split(learned, np.flatnonzero(np.diff(learned) > 1) + 1)[-1]
            tokens = np.asarray(row["input_ids"])[: last_answer[0] + 1]
            yield Question(tokens.tolist(), labels[last_answer].tolist())


def greedy_answer(model: Any, tokens: Sequence[int], most: int, ends: Sequence[int]) -> list[int]:
    """The most probable next token, again and again, by PaddleNLP's `generate` and its cache of keys and values.

    most: tokens of an answer at most. ends: tokens after which it ends; the last one belongs to the answer. The model
    is in evaluation mode meanwhile. A `generation_config.json` of the model does not count.
    """
    settings = GenerationConfig(
        max_new_tokens=most,
        decode_strategy="greedy_search",
        use_cache=True,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
        bos_token_id=ends[0],
    )
    prompt = paddle.to_tensor([list(tokens)], dtype="int64")
    with _evaluating(model), paddle.no_grad():
        answer, _ = model.generate(
            input_ids=prompt, attention_mask=paddle.ones_like(prompt), generation_config=settings
        )
    return answer[0].tolist()


class Samples(TrainerCallback):
    """Writes the answers of the model to a few questions after every evaluation, and adds them to samples.jsonl.

    autocast: makes the context of mixed precision in which the trainer evaluates.
    """

    def __init__(
        self, tokenizer: Any, questions: Sequence[Question], most: int, longest: int, write: Callable[[str], None]
    ):
        """most: tokens of an answer at most. longest: tokens that the model has positions for."""
        self.tokenizer = tokenizer
        self.questions = questions
        self.most = most
        self.longest = longest
        self.write = write
        self.autocast: Callable[[], Any] = contextlib.nullcontext
        self._step: int | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """A resumed run keeps the answers up to its checkpoint; any other run starts a new file."""
        path = Path(args.output_dir) / SAMPLES_NAME
        if not is_first() or not path.is_file():
            return
        lines = path.read_bytes().splitlines(keepends=True) if state.global_step else []
        path.write_bytes(b"".join(line for line in lines if _step_of(line) <= state.global_step))

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        same_model = self._step == state.global_step and not args.load_best_model_at_end
        if not is_first() or same_model:
            return
        self._step = state.global_step
        ends = get_eos_token_id(self.tokenizer, getattr(model, "generation_config", None))
        records = []
        with self.autocast():
            for question in self.questions:
                most = min(self.most, self.longest - len(question.tokens))
                answer = greedy_answer(model, question.tokens, most, ends)
                texts = (decode(self.tokenizer, tokens) for tokens in (question.tokens, answer, question.expected))
                record = dict(zip(("question", "generated", "expected"), texts, strict=True))
                self.write(f"sample after step {state.global_step}")
                for name, text in record.items():
                    self.write(f"  {name}: {text!r}")
                records.append({"step": state.global_step, **record})
        path = Path(args.output_dir) / SAMPLES_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _step_of(line: bytes) -> float:
    """The step of a record; infinity for one that a killed run has not written to its end."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except ValueError:
        return math.inf


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode and the random state from before."""
    training, random_state = model.training, paddle.get_rng_state()
    model.eval()
    try:
        yield
    finally:
        paddle.set_rng_state(random_state)
        if training:
            model.train()
