"""Rollouts of the policy example: real instructions, answers in two rounds that branch, and their advantages.

No policy draws them. The real answer is cut into two rounds. The first round is the real one or a variant, and each
goes on with the real second round or one of three variants. A variant follows the real text up to a random word and
goes on with words of another instruction's answer, so that rollouts branch as samples would. A rule scores them.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

ROLLOUTS = 8
WORDS = range(60, 141)
"""Numbers of words of the answers that are used."""
GO_ON = "Please go on."


def rollout_rows(instructions: list[dict[str, str]], count: int, seed: int = 0) -> list[dict]:
    """Make rows of `task: policy` from the first `count` instructions whose answers have WORDS.

    instructions: rows of `src` and `tgt`. A row has ROLLOUTS answers of two rounds: two first rounds, each with four
    second rounds. Advantages are those of `advantages_of`.

    Raises ValueError if there are fewer than two such instructions, or fewer than `count`.
    """
    rng = np.random.default_rng(seed)
    texts = [(row["src"], split_words(row["tgt"])) for row in instructions]
    usable = [(prompt, words) for prompt, words in texts if len(words) in WORDS]
    if len(usable) < max(count, 2):
        raise ValueError(f"{count} prompts need as many answers of 60 to 140 words, and two; there are {len(usable)}")
    rows = []
    for number, (prompt, words) in enumerate(usable[:count]):
        others = [other for _, other in usable[number + 1 :] + usable[:number]]
        rounds = branching_rounds(words, others, rng)
        rewards = [overlap("".join(first + second), "".join(words)) for first, second in rounds]
        answers = [messages_of("".join(first), "".join(second)) for first, second in rounds]
        rows.append({"prompt": prompt, "answers": answers, "advantages": advantages_of(rewards)})
    return rows


def branching_rounds(
    words: list[str], others: list[list[str]], rng: np.random.Generator
) -> list[tuple[list[str], list[str]]]:
    """Words of the first and of the second round of ROLLOUTS answers, of which the first is real."""
    begin, end = words[: len(words) // 2], words[len(words) // 2 :]
    return [
        (first, second)
        for first in (begin, branch(begin, others, rng))
        for second in (end, *(branch(end, others, rng) for _ in range(ROLLOUTS // 2 - 1)))
    ]


def branch(words: list[str], others: list[list[str]], rng: np.random.Generator) -> list[str]:
    """Follow `words` up to a random one, and go on with the words of one of `others`, to the same length."""
    other = others[rng.integers(len(others))]
    kept = int(rng.integers(1, len(words)))
    return words[:kept] + other[: len(words) - kept]


def messages_of(first: str, second: str) -> list[dict[str, str]]:
    return [
        {"role": "assistant", "content": first.strip()},
        {"role": "user", "content": GO_ON},
        {"role": "assistant", "content": second.strip()},
    ]


def split_words(text: str) -> list[str]:
    """Words with the blanks after them."""
    return re.findall(r"\S+\s*", text.strip())


def overlap(text: str, reference: str) -> float:
    """The reward: the F1 score of the words that both texts have, from 0 to 1."""
    found, wanted = (Counter(re.findall(r"\w+", words.lower())) for words in (text, reference))
    return 2 * (found & wanted).total() / max(found.total() + wanted.total(), 1)


def advantages_of(rewards: list[float]) -> list[float]:
    """Rewards of a group, less their mean and over their standard deviation (GRPO, arXiv 2402.03300, section 4.1.2)."""
    values = np.array(rewards)
    deviation = values.std()
    return ((values - values.mean()) / (deviation if deviation > 0 else 1.0)).tolist()
