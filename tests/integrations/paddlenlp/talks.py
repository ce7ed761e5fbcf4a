"""Preference data of conversations, of which each round is a row, so that rows share the earlier rounds."""

from __future__ import annotations

import random

from sentences import sentence


def rounds_of_talks(key: str, talks: int, rounds: int, seed: int = 4) -> list[dict]:
    """Rows of `task: key` in PaddleNLP's form, a row of a reward model with three answers.

    All answers to a question begin alike. The next round goes on from the best one, or now and then from another.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(talks):
        questions, replies = [], []
        for _ in range(rounds):
            questions.append(sentence(rng, 2, 6))
            start = sentence(rng, 1, 3)[:-1]
            answers = [f"{start} {sentence(rng, 1, 6)} {number}" for number in range(3 if key == "rm" else 2)]
            row = {"src": list(questions), "tgt": list(replies)}
            if key == "kto":
                rows += [{**row, "response": [answer], "sort": [1 - n]} for n, answer in enumerate(answers)]
            else:
                rows.append({**row, "response": answers, "sort": list(range(len(answers), 0, -1))})
            replies.append(answers[rng.random() < 0.3])
    return rows
