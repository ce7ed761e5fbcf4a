"""Rows with all the keys that well-known data sets have, and what is learned of them."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto, rm

FORMS = {"dpo": dpo.FORM, "rm": rm.FORM, "kto": kto.FORM}
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WORSE = [TALK[0], {"role": "assistant", "content": "b"}]
PAIR = {"chosen": TALK, "rejected": WORSE}
SYSTEM = {"role": "system", "content": "s"}
OPEN_HERMES = {"custom_instruction": None, "model": None, "skip_prompt_formatting": False, "views": 12.0, "hash": -1}
MAGPIE = {
    **{"uuid": "6", "model": "m", "gen_input_configs": {"seed": None}, "instruct_reward": -1.5, "language": "EN"},
    **{"task_category": "Math", "other_task_category": ["Reasoning"], "llama_guard_2": "safe", "repeat_count": 0},
}


def parse(task: str, row: dict):
    record = json.dumps(row).encode()
    if task == "sft":
        return SFTLines.parse(None, record, "file:1")
    lines = PreferenceLines.__new__(PreferenceLines)
    lines.form = FORMS[task]
    return lines.parse(record, "file:1")


def texts(messages: list[dict]) -> str:
    return " ".join(f"{entry['role'][0]}:{entry['content']}" for entry in messages)


INSTRUCTIONS = {
    "Alpaca": ({"instruction": "q", "input": "", "output": "a", "text": "Below is an instruction"}, "u:q a:a"),
    "Dolly": ({"instruction": "q", "context": "", "response": "a", "category": "open_qa"}, "u:q a:a"),
    "Dolly with a context": ({"instruction": "q", "context": "c", "response": "a", "category": "x"}, "u:q\nc a:a"),
    "Evol-Instruct": ({"id": 1, "instruction": "q", "response": "a", "lang": "python"}, "u:q a:a"),
    "no_robots": ({"prompt": "q", "prompt_id": "f", "messages": TALK, "category": "Chat"}, "u:q a:a"),
    "SlimOrca": (
        {"conversations": [{**TURNS[0], "weight": 0.0}, {**TURNS[1], "weight": 1.0}]},
        "u:q a:a",
    ),
    "OpenHermes": ({**OPEN_HERMES, "conversations": [{**turn, "weight": None} for turn in TURNS]}, "u:q a:a"),
    "OpenThoughts": (
        {"system": "s", "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]},
        "s:s u:q a:a",
    ),
    "conversations of messages": ({"conversations": TALK, "source": "x"}, "u:q a:a"),
    "Magpie": ({**MAGPIE, "instruction": "q", "response": "a", "conversations": TURNS}, "u:q a:a"),
    "Magpie with input": ({**MAGPIE, "input": "q", "output": "a", "conversations": TURNS}, "u:q a:a"),
    "NuminaMath": ({"source": "x", "problem": "q", "solution": "a", "messages": TALK}, "u:q a:a"),
    "axolotl": (
        {"conversations": [{**TURNS[0], "train": False}, {**TURNS[1], "train": True, "train_detail": []}]},
        "u:q a:a",
    ),
    "documents": ({"messages": TALK, "content": "a document"}, "u:q a:a"),
    "ERNIEKit": ({"src": ["q"], "tgt": ["a"], "label": [1], "is_system": 0}, "u:q a:a"),
    "ERNIEKit, is_system": ({"src": ["s", "q"], "tgt": ["x", "a"], "label": [0, 1], "is_system": 1}, "s:s u:q a:a"),
    "TRL with a system text": ({"system": "s", "prompt": "q", "completion": "a"}, "s:s u:q a:a"),
    "smoltalk2": ({"messages": TALK, "chat_template_kwargs": {"enable_thinking": False}}, "u:q a:a"),
    "Nemotron": ({"messages": [SYSTEM, *TALK], "reasoning": "off", "license": "x", "version": "v1"}, "s:s u:q a:a"),
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_are_read_as_they_are(name):
    row, expected = INSTRUCTIONS[name]
    (found,) = parse("sft", row)
    assert texts(found.messages) == expected and found.learned is None and found.weight is None


PREFERENCES = {
    "UltraFeedback": ("dpo", {"prompt": "q", "prompt_id": "f", **PAIR, "messages": TALK, "score_chosen": 7.5}, "u:q"),
    "UltraFeedback, RM": ("rm", {"prompt": "q", **PAIR, "messages": TALK, "score_rejected": 7.5}, "u:q"),
    "Orca pairs": ("dpo", {"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, "s:s u:q"),
    "Orca pairs, no system": ("rm", {"system": "", "question": "q", "chosen": "a", "rejected": "b"}, "u:q"),
    "Truthy": ("dpo", {"id": "1", "system": "s", "prompt": "q", "chosen": "a", "rejected": "b"}, "s:s u:q"),
    "ORPO mix": ("dpo", {"source": "x", **PAIR, "prompt": "q", "question": "q"}, "u:q"),
    "Magpie": ("dpo", {**MAGPIE, "instruction": "q", **PAIR}, "u:q"),
    "DPO mix": ("dpo", {"dataset": "x", **PAIR, "chosen_rating": 5.0, "rejected_rating": 3.0}, "u:q"),
    "ERNIEKit": (
        "dpo",
        {"system": "s", "src": ["q"], "tgt": [], "response": [["b"], ["a"]], "sort": [0, 1]},
        "s:s u:q",
    ),
    "ERNIEKit, is_system": (
        "dpo",
        {"src": ["s", "q"], "tgt": ["x"], "response": ["a", "b"], "sort": [1, 0], "is_system": 1},
        "s:s u:q",
    ),
    "KTO mix": ("kto", {"prompt": TALK[:1], "completion": TALK[1:], "label": True, "rating": 5.0}, "u:q"),
    "KTO, question": ("kto", {"system": "s", "question": "q", "completion": "a", "label": True}, "s:s u:q"),
    "KTO, Dolly": ("kto", {"instruction": "q", "context": "c", "response": "a", "label": True}, "u:q\nc"),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences_are_read_as_they_are(name):
    task, row, prompt = PREFERENCES[name]
    found = parse(task, row)
    assert texts(found.prompt) == prompt
    assert [entry["content"] for entry in found.answers] == (["a"] if task == "kto" else ["a", "b"])


def test_chat_template_kwargs_are_variables_of_the_template():
    (found,) = parse("sft", {"messages": TALK, "chat_template_kwargs": {"enable_thinking": False}})
    assert found.context == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("task", "row", "text"),
    [
        (
            "sft",
            {"instruction": "q", "input": "i", "context": "c", "response": "a"},
            "the text 'context' beside 'input'",
        ),
        (
            "sft",
            {**MAGPIE, "instruction": "x", "response": "a", "conversations": TURNS},
            "'conversations' and 'instruc",
        ),
        ("sft", {"src": ["s", "q"], "tgt": ["x", "a"], "is_system": 2}, "'is_system' must be 0 or 1; got 2"),
        (
            "sft",
            {"src": ["s", "q"], "tgt": ["x", "a"], "is_system": 1, "system": "s"},
            "'is_system' = 1 beside 'system'",
        ),
        ("sft", {"instruction": "q", "output": "a", "reasoning_content": "t"}, "'reasoning_content' is not read"),
        ("sft", {"prompt": "q", "completion": "a", "reasoning": "t"}, "'reasoning' is not read"),
        ("sft", {"messages": [{"role": "developer", "content": "s"}, *TALK]}, r"messages\[0\]: .*; here it is system$"),
        ("sft", {"messages": [TALK[0], {"role": "tool_call", "content": "{}"}]}, ".*; here it is assistant, with the"),
        (
            "sft",
            {"messages": [{"role": ["user"], "content": "q"}]},
            r"messages\[0\]: unknown role \['user'\]; the roles",
        ),
        ("sft", {"messages": TALK, "context": {"x": 1}, "chat_template_kwargs": {"y": 1}}, "'context' and 'chat_temp"),
        ("sft", {"query": "q", "response": "a"}, ".*; rename 'query' to 'instruction', 'response' to 'output'; the"),
        (
            "sft",
            {"system_prompt": "", "question": "q", "response": "a"},
            ".*, 'system_prompt' to 'system'; the row has",
        ),
        (
            "sft",
            {"problem": "q", "generated_solution": "a"},
            ".*; rename 'problem' to 'instruction', 'generated_sol",
        ),
        ("sft", {"conversation_id": "1", "conversation": TALK}, r".*\(is 'conversation' meant to be 'conversations'"),
        ("dpo", {"chosen": "Human: q Assistant: a", "rejected": "Human: q Assistant: b"}, ".*; texts need a 'prompt'"),
        (
            "dpo",
            {"src": ["q"], "tgt": [], "response": [["a", "q", "c"], ["b", "q", "d"]], "sort": [1, 0]},
            "an answer of 'response' has several rounds",
        ),
    ],
)
def test_what_is_refused_is_told_what_to_change(task, row, text):
    with pytest.raises(DataError, match=f"^file:1: {text}"):
        parse(task, row)


def test_thinking_that_the_answer_repeats_may_stand_beside_it():
    row = {"instruction": "q", "output": "<think>\nt\n</think>\n\na", "reasoning_content": "t"}
    assert texts(parse("sft", row)[0].messages) == "u:q a:<think>\nt\n</think>\n\na"
