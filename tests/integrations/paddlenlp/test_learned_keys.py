"""The keys by which toolkits leave answers out of the loss: each is followed exactly, or refused by name."""

from __future__ import annotations

import json

import pytest
from support.chat_templates import HERMES, QWEN3

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.learned import Learned
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.packing import IGNORED_LABEL

TEXTS = ("ba", "che", "di", "fol", "gra", "hu")
NOT_LEARNED = [
    *({key: False} for key in ("loss", "train", "training", "trainable", "train_on_turn")),
    *({"weight": 0}, {"weight": 0.0}, {"loss_scale": 0}, {"masked": True}),
]


def talk(form: str, flags: dict[int, dict]) -> dict:
    """A conversation of three rounds. flags: the keys of an answer, by its number."""
    role, text = ("role", "content") if form == "messages" else ("from", "value")
    names = ("user", "assistant") if form == "messages" else ("human", "gpt")
    entries = [{role: names[n % 2], text: word} for n, word in enumerate(TEXTS)]
    for answer, keys in flags.items():
        entries[2 * answer + 1].update(keys)
    return {form: entries}


def parsed(row: dict) -> tuple[list[str], Learned | None]:
    (found,) = SFTLines.parse(None, json.dumps(row).encode(), "file:1")
    return [entry["content"] for entry in found.messages], found.learned


def learned_texts(tokenizer, row: dict, folder, **sizes) -> list[str]:
    (folder / "train.json").write_text(json.dumps(row))
    sizes = {"src_length": 200, "max_length": 400, **sizes}
    (tokens,) = SFTTokens(SFTLines(str(folder), "train"), tokenizer, **sizes)
    parts = [[]]
    for label in tokens["labels"]:
        parts = [*parts, []] if label == IGNORED_LABEL else [*parts[:-1], [*parts[-1], label]]
    return [tokenizer.decode(part).strip().removesuffix("<|im_end|>") for part in parts if part]


@pytest.mark.parametrize("form", ["messages", "conversations"])
@pytest.mark.parametrize("keys", NOT_LEARNED, ids=str)
def test_an_answer_is_left_out_by_every_key(form, keys, templated, tmp_path):
    row = talk(form, {1: keys})
    assert parsed(row) == (list(TEXTS), (True, False, True))
    assert learned_texts(templated(HERMES.source), row, tmp_path) == ["che", "hu"]
    opposite = {key: type(value)(not value) for key, value in keys.items()}
    assert parsed(talk(form, {1: opposite})) == (list(TEXTS), None)


TALK = talk("messages", {})["messages"]
ROUNDS = {"src": list(TEXTS[::2]), "tgt": list(TEXTS[1::2])}
ALPACA = {"instruction": "gra", "output": "hu", "history": [["ba", "che"], ["di", "fol"]]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({**talk("messages", {0: {"train": False}}), "label": [1, 0, 1]}, ["hu"]),
        ({**talk("conversations", {2: {"loss": False}}), "label": [1, 1, 1]}, ["che", "fol"]),
        ({**ROUNDS, "label": [1, 0, 1]}, ["che", "hu"]),
        ({**ROUNDS, "label": [0, 1, 0]}, ["fol"]),
        ({**ALPACA, "label": [1, 0, 1]}, ["che", "hu"]),
        ({"prompt": TALK[:1], "completion": TALK[1:]}, ["che", "fol", "hu"]),
        ({"prompt": TALK[:3], "completion": TALK[3:]}, ["fol", "hu"]),
        ({"prompt": TALK[:3], "completion": TALK[3:], "label": [1, 1, 0]}, ["fol"]),
    ],
)
def test_what_is_learned_is_what_all_keys_say(row, expected, templated, tmp_path):
    assert learned_texts(templated(HERMES.source), row, tmp_path) == expected


def test_what_follows_the_last_learned_answer_is_left_out(templated, tmp_path):
    """The answer is then the last one of the conversation, also for a template that drops earlier thinking."""
    row = talk("messages", {2: {"train": False}})
    assert parsed(row) == (list(TEXTS[:4]), None)
    row["messages"][3]["content"] = "<think>\nra\n</think>\n\nfol"
    assert learned_texts(templated(QWEN3.source), row, tmp_path)[-1].endswith("fol")
    assert "ra" in learned_texts(templated(QWEN3.source), row, tmp_path)[-1]


def test_the_flags_stay_with_their_answers_when_earlier_rounds_are_cut(templated, tmp_path):
    tokenizer, row = templated(HERMES.source), talk("messages", {0: {"loss": False}, 1: {"loss": True}})
    everything = talk("messages", {})
    cut = {"src_length": 20, "max_length": 130}
    assert learned_texts(tokenizer, everything, tmp_path, **cut) == ["fol", "hu"]
    assert learned_texts(tokenizer, row, tmp_path, **cut) == ["fol", "hu"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (talk("messages", dict.fromkeys(range(3), {"train": False})), "none of the 3 answers is learned"),
        ({"src": "a", "tgt": "b", "label": [0]}, "none of the 1 answers is learned"),
        (
            {"src": "a", "tgt": "b", "label": [1, 1]},
            r"'label' must be a list with 1 for each of the 1 answers .*\[1, 1",
        ),
        ({"src": "a", "tgt": "b", "label": [0.5]}, r"'label' must be a list with 1 for each .* got \[0.5\]"),
        (
            {"instruction": "a", "output": "b", "label": [1, 1]},
            "'label' must be a list with 1 for each of the 1 answers",
        ),
        (talk("messages", {1: {"weight": 0.5}}), r"messages\[3\]: 'weight' must be 0 or 1; got 0.5"),
        (talk("conversations", {1: {"train": "no"}}), r"conversations\[3\]: 'train' must be true or false; got 'no'"),
        (
            talk("messages", {0: {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}}),
            r"messages\[1\]: 'train_detail' is not supported: an answer is learned as a whole, or not at all",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "loss": True}, {"role": "assistant", "content": "b"}]},
            r"messages\[0\]: 'loss' = True in a message of the role 'user'; only answers of the assistant are learned",
        ),
        (
            {"conversations": [{"from": "human", "value": "a", "masked": False}, {"from": "gpt", "value": "b"}]},
            r"conversations\[0\]: 'masked' = False in a message of the role 'user'",
        ),
        (
            {"prompt": talk("messages", {0: {"weight": 0}})["messages"][:3], "answers": ["b"]},
            r"'weight' = 0 in a message of 'prompt' with answers\[0\], which is learned in any case",
        ),
    ],
)
def test_keys_that_cannot_be_followed_are_refused(row, text):
    with pytest.raises(DataError, match=f"^file:1: {text}"):
        parsed(row)


def test_keys_of_questions_that_agree_are_accepted():
    row = {
        "messages": [
            {"role": "system", "content": "s", "train": False, "masked": True},
            {"role": "user", "content": "a", "loss": False, "weight": 1},
            {"role": "assistant", "content": "b", "loss": True},
        ]
    }
    assert parsed(row) == (["s", "a", "b"], None)
