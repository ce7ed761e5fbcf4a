"""Messages of Hugging Face data sets, system texts and chat templates, for SFT and preference data."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo
from paddle_flashmask.integrations.paddlenlp.train import train

DENSE = {"flash_mask": False, "use_flash_attention": False}
PADDLENLP = {"conversation": ["user: {{user}} bot:", "{{bot}} end"], "query": "user: {{query}} bot:"}
WITH_SYSTEM = {**PADDLENLP, "system": "rules: {{system}} "}
WITH_FIXED_SYSTEM = {**PADDLENLP, "system": "rules: none "}
JINJA = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %} end{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


TALK = [
    message("system", "be kind"),
    message("user", "baling"),
    message("assistant", "chene"),
    message("user", "dimor"),
    message("assistant", "folrix"),
]


def sft_rows(tokenizer, folder, *lines: dict, src_length=60, max_length=120) -> SFTTokens:
    (folder / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return SFTTokens(SFTLines(str(folder), "train"), tokenizer, src_length, max_length)


def texts(tokenizer, row: dict) -> tuple[str, str]:
    """The whole text of a row, and its learned part."""
    ids = [
        *row["input_ids"][:1],
        *[i if label == -100 else label for i, label in zip([*row["input_ids"][1:], None], row["labels"], strict=True)],
    ]
    learned = [label for label in row["labels"] if label != -100]
    return tuple(tokenizer.decode([i for i in part if i is not None]) for part in (ids, learned))


@pytest.mark.parametrize(
    ("template", "whole"),
    [
        (WITH_SYSTEM, "rules: be kind user: baling bot:chene enduser: dimor bot:folrix end"),
        (WITH_FIXED_SYSTEM, "rules: none user: be kind\nbaling bot:chene enduser: dimor bot:folrix end"),
        (PADDLENLP, "user: be kind\nbaling bot:chene enduser: dimor bot:folrix end"),
    ],
)
def test_messages_of_sft_follow_the_template(templated, tmp_path, template, whole):
    tokenizer = templated(template)
    (row,) = sft_rows(tokenizer, tmp_path, {"messages": TALK})
    text, learned = texts(tokenizer, row)
    assert text.replace(" ", "").replace("\n", "") == whole.replace(" ", "").replace("\n", "")
    assert learned.replace(" ", "") == "cheneendfolrixend"


def test_messages_are_the_rounds_of_src_and_tgt(templated, tmp_path):
    tokenizer = templated(PADDLENLP)
    same = {"src": ["baling", "dimor"], "tgt": ["chene", "folrix"]}
    ours, theirs = sft_rows(tokenizer, tmp_path, {"messages": TALK[1:]}, same)
    assert ours == theirs


def test_a_jinja_template_of_the_tokenizer(templated, tmp_path):
    tokenizer = templated(JINJA)
    (row,) = sft_rows(tokenizer, tmp_path, {"messages": TALK})
    text, learned = texts(tokenizer, row)
    assert "be kind" in text and "user: dimor" in text
    assert "chene end" in learned and "folrix end" in learned and "dimor" not in learned


def test_one_round_needs_no_template(tokenizer, tmp_path):
    same = {"src": "be kind\nbaling", "tgt": "chene"}
    ours, theirs = sft_rows(tokenizer, tmp_path, {"messages": TALK[:3]}, same)
    assert ours == theirs
    with pytest.raises(DataError, match=r"train.json:1: a conversation of 2 rounds needs a chat template"):
        list(sft_rows(tokenizer, tmp_path, {"messages": TALK}))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (TALK[:2], r"must alternate user, assistant, .*, and end with the assistant's; got \['system', 'user'\]"),
        (TALK[:1], r"end with the assistant's; got \['system'\]"),
        ([*TALK[1:3], message("assistant", "rix")], "must alternate user, assistant"),
        ([TALK[1], message("assistant", " ")], "answer 1 of 'messages' is empty"),
        ([message("user", "\n"), TALK[2]], "question 1 of 'messages' is empty"),
        ([*TALK[1:3], TALK[0], *TALK[3:]], "must alternate"),
        ([TALK[1], {**TALK[2], "tool_calls": [{}]}, TALK[4]], "must alternate"),
        ([TALK[1], {"role": "assistant", "tool_calls": [{}]}], "messages of tools need a Jinja chat template"),
        ([TALK[1], TALK[0], TALK[2]], "must alternate"),
        ([*TALK[1:3], message("tool", "dimor"), TALK[4]], "must alternate user, assistant, .*'tool'"),
        ([{"role": "user"}], r"messages\[0\]: 'content' must be a string; got None"),
        ("baling", r"'messages' must be a list of \{role, content\} messages; got 'baling'"),
        ([TALK[1], {"role": "assistant", "content": None}], r"messages\[1\]: 'content' must be a string; got None"),
        ([TALK[1], {"role": "assistant", "content": [{"text": "a"}]}], r"messages\[1\]: 'content' must be .* got \[\{"),
        ([TALK[1], "chene"], r"messages\[1\] must be a \{role, content\} message; got 'chene'"),
        ([TALK[1], message("asistant", "a")], r"messages\[1\]: unknown role 'asistant'; the roles are system, user, "),
        ([TALK[1], message(["user"], "a")], r"messages\[1\]: unknown role \['user'\]"),
        ([{"from": "human", "value": "a"}], r"messages\[0\] has no 'role'; it has 'from', 'value'"),
        ([TALK[1], {**TALK[2], "tool_calls": {"name": "f"}}], r"messages\[1\]: 'tool_calls' must be a list of objects"),
        ([TALK[1], {**TALK[2], "tool_calls": [{"function": "f"}]}], r"messages\[1\]: 'tool_calls' must be a list of"),
        ([TALK[1], {**TALK[2], "tool_calls": ["f"]}], r"messages\[1\]: 'tool_calls' must be a list of objects; got \["),
    ],
)
def test_messages_that_cannot_be_learned_from_are_named(tokenizer, tmp_path, messages, text):
    with pytest.raises(DataError, match=rf"train.json:2: .*{text}"):
        list(sft_rows(tokenizer, tmp_path, {"src": "a", "tgt": "b"}, {"messages": messages}))


def test_long_conversations_keep_the_latest_rounds(templated, tmp_path):
    tokenizer = templated(PADDLENLP)
    long = [message(role, "baling " * 9 + role) for _ in range(6) for role in ("user", "assistant")]
    rows = sft_rows(tokenizer, tmp_path, {"messages": long}, max_length=100)
    (row,) = rows
    assert rows.cut_rows == 1 and 60 < len(row["input_ids"]) < 100
    text, learned = texts(tokenizer, row)
    assert text.lstrip().startswith("user: baling") and learned.rstrip().endswith("assistant end")


def preference_rows(tokenizer, folder, line: dict, chat: bool = True, max_length: int = 200) -> list[dict]:
    path = folder / "pairs.jsonl"
    path.write_text(json.dumps(line) + "\n")
    return list(PreferenceTokens(PreferenceLines(str(path), dpo.FORM), tokenizer, max_length, chat=chat))


@pytest.mark.parametrize("template", [PADDLENLP, WITH_SYSTEM, JINJA])
def test_preferences_follow_the_template_as_sft_does(templated, tmp_path, template):
    """A question with one of its answers has the tokens that SFT makes of that conversation."""
    tokenizer = templated(template)
    rejected = message("assistant", "rix rix")
    (pair,) = preference_rows(tokenizer, tmp_path, {"chosen": TALK, "rejected": [*TALK[:-1], rejected]})
    for name, last in (("chosen", TALK[-1]), ("rejected", rejected)):
        (row,) = sft_rows(tokenizer, tmp_path, {"messages": [*TALK[:-1], last]})
        whole = pair["prompt"] + pair[name]
        assert whole[:-1] == row["input_ids"] and whole[-1] == row["labels"][-1]


def test_preferences_use_a_template_only_where_it_is_named(templated, tmp_path):
    tokenizer = templated(PADDLENLP)
    line = {"prompt": "baling", "chosen": "chene", "rejected": "dimor"}
    (plain,) = preference_rows(tokenizer, tmp_path, line, chat=False)
    assert plain["prompt"] == tokenizer("baling")["input_ids"]
    (chat,) = preference_rows(tokenizer, tmp_path, line)
    assert chat["prompt"] == tokenizer("user: baling bot:", add_special_tokens=False)["input_ids"]


def test_earlier_rounds_that_do_not_fit_are_left_out_but_not_the_system_text(templated, tmp_path):
    tokenizer = templated(WITH_SYSTEM)
    rounds = [message(role, "baling " * 9 + role) for _ in range(6) for role in ("user", "assistant")]
    line = {"prompt": [TALK[0], *rounds, message("user", "dimor")], "chosen": "chene", "rejected": "rix"}
    (pair,) = preference_rows(tokenizer, tmp_path, line, max_length=100)
    text = tokenizer.decode(pair["prompt"])
    assert text.startswith("rules: be kind user: baling") and text.endswith("user: dimor bot:")
    assert 60 < sum(map(len, pair.values())) <= 100


@pytest.mark.parametrize(
    ("task", "template"), [("sft", WITH_SYSTEM), ("dpo", WITH_SYSTEM), ("sft", JINJA), ("dpo", JINJA)]
)
def test_training_on_messages(task, template, task_config, model_folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folders["llama"], folder)
    if template is JINJA:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    else:
        (folder / "chat_template.json").write_text(json.dumps(template))
    talks = [[*TALK[:-1], message("assistant", "folrix " * n)] for n in range(1, 13)]
    rows = [{"messages": talk} for talk in talks]
    if task == "dpo":
        rows = [{"chosen": talk, "rejected": [*talk[:-1], message("assistant", "rix")]} for talk in talks]
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_name_or_path": str(tmp_path)}
    if task == "dpo":
        data = {"train_dataset_path": str(tmp_path / "train.json")}
    config = {**task_config(task), **data, "max_steps": 2}
    config |= {"model_name_or_path": str(folder), "chat_template": str(folder), "gradient_accumulation_steps": 1}
    losses = []
    for changes in ({}, DENSE):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**config, **changes}))
        losses.append([loss for _, loss in train(path, write=lambda line: None).losses])
        shutil.rmtree(config["output_dir"], ignore_errors=True)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_template_that_is_not_there_is_named(dpo_config, model_folders, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**dpo_config, "task": "dpo", "chat_template": str(model_folders["llama"])}))
    with pytest.raises(ConfigError, match="chat_template = .*: the tokenizer of .* has no chat template"):
        train(path, write=lambda line: None)
