"""Rows as other toolkits have them: one conversation has the same tokens and labels in every form and file format."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from data_files import WRITERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.chat_templates import HERMES

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto, rm
from paddle_flashmask.packing import IGNORED_LABEL

FORMS = {"dpo": dpo.FORM, "rm": rm.FORM, "kto": kto.FORM}
ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def turn(speaker: str, value: str) -> dict:
    return {"from": speaker, "value": value}


def turns(messages: list[dict]) -> list[dict]:
    return [turn(ROLES[entry["role"]], entry["content"]) for entry in messages]


def parsed(row: dict, place: str = "file:1") -> tuple[list, dict, int | None]:
    """The messages, the context and how many answers are learned, of a row of SFT."""
    (found,) = SFTLines.parse(None, json.dumps(row).encode(), place)
    return found.messages, found.context, found.learned


def preference(row: dict, task: str = "dpo"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(row))
        (found,) = PreferenceLines(str(path), FORMS[task])
    return found.prompt, found.answers, found.desirable, found.context


class Words:
    """A tokenizer of words."""

    chat_template, eos_token_id = None, 2

    def __call__(self, text: str, add_special_tokens: bool, **cut) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [3 + sum(map(ord, word)) for word in text.split(" ")]}


TEXT = st.text("abc\n\"',é7", min_size=1, max_size=8).filter(str.strip)
ROUNDS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


def sft_forms(system: str | None, rounds: list[tuple[str, str]], part: str | None) -> dict[str, dict]:
    """One conversation in every form that holds it. part: of the last question, in Alpaca's `input`."""
    *earlier, (question, answer) = rounds
    whole = question if part is None else f"{question}\n{part}"
    start = [] if system is None else [message("system", system)]
    before = [entry for pair in earlier for entry in map(message, ("user", "assistant"), pair)]
    talk = [*start, *before, message("user", whole), message("assistant", answer)]
    no_system = {} if system is None else {"system": system}
    forms = {
        "messages": {"messages": talk},
        "sharegpt": {"conversations": turns(talk)},
        "sharegpt with system": {"conversations": turns(talk[len(start) :]), **no_system},
        "alpaca": {
            "instruction": question,
            **({} if part is None else {"input": part}),
            "output": answer,
            "history": [list(pair) for pair in earlier],
            **no_system,
        },
    }
    if not earlier:
        forms["prompt and completion"] = {"prompt": talk[:-1], "completion": talk[-1:]}
        if system is None:
            forms["texts"] = {"prompt": whole, "completion": answer}
    texts = [[entry["content"] for entry in talk if entry["role"] == role] for role in ("user", "assistant")]
    forms["src"] = {**dict(zip(("src", "tgt"), texts, strict=True)), **no_system}
    return forms


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(system=st.none() | TEXT, rounds=ROUNDS, part=st.none() | TEXT)
def test_a_conversation_has_the_same_tokens_in_every_form_and_file(system, rounds, part, templated):
    tokenizers = [templated(HERMES.source), *([Words()] if len(rounds) == 1 else [])]
    expected = None
    for form, row in sft_forms(system, rounds, part).items():
        read = {}
        for ending, write in WRITERS.items():
            if ending == ".csv" and form in ("prompt and completion", "src"):
                continue  # cells of `prompt` and `src` are texts
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / f"train{ending}", [row])
                lines = SFTLines(folder, "train")
                (found,) = lines
                read[ending] = (found.messages, found.context, found.learned)
                if ending == ".jsonl":
                    tokens = [list(SFTTokens(lines, tokenizer, 200, 400)) for tokenizer in tokenizers]
        assert all(found == read[".jsonl"] for found in read.values()), (form, read)
        expected = expected or tokens
        assert tokens == expected, form


def learned_text(tokenizer, row: dict, folder) -> list[str]:
    (folder / "train.json").write_text(json.dumps(row))
    (tokens,) = SFTTokens(SFTLines(str(folder), "train"), tokenizer, 200, 400)
    parts, part = [], []
    for label in [*tokens["labels"], IGNORED_LABEL]:
        if label != IGNORED_LABEL:
            part.append(label)
        elif part:
            parts.append(tokenizer.decode(part).strip())
            part = []
    return parts


TALK = [message("user", "ba"), message("assistant", "che"), message("user", "di"), message("assistant", "fol")]
WEIGHED = [*TALK[:1], {**TALK[1], "weight": 0}, *TALK[2:]]
END = "<|im_end|>"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "di", "output": "fol", "history": [["ba", "che"]]}, ["che", "fol"]),
        ({"conversations": turns(TALK)}, ["che", "fol"]),
        ({"messages": TALK}, ["che", "fol"]),
        ({"prompt": TALK[:3], "completion": TALK[3:]}, ["fol"]),
        ({"src": ["ba", "di"], "tgt": ["che", "fol"], "label": [0, 1]}, ["fol"]),
        ({"src": ["ba", "di"], "tgt": ["che", "fol"], "label": 2}, ["che", "fol"]),
        ({"prompt": TALK[:1], "completion": TALK[1:]}, ["che", "fol"]),
        ({"messages": TALK, "label": [0, 1]}, ["fol"]),
        ({"messages": TALK, "label": True}, ["che", "fol"]),
        ({"messages": WEIGHED}, ["fol"]),
        ({"messages": WEIGHED, "label": [1, 1]}, ["fol"]),
        ({"prompt": TALK[:1], "completion": WEIGHED[1:]}, ["fol"]),
        ({"prompt": WEIGHED[:3], "completion": TALK[3:]}, ["fol"]),
        ({"conversations": turns(TALK), "label": [0, 1]}, ["fol"]),
        ({"conversations": [{**entry, "weight": int(entry["value"] == "fol")} for entry in turns(TALK)]}, ["fol"]),
        ({"conversations": turns(TALK), "system": "s"}, ["che", "fol"]),
    ],
)
def test_answers_of_history_are_learned_and_those_of_a_prompt_are_not(row, expected, templated, tmp_path):
    assert learned_text(templated(HERMES.source), row, tmp_path) == [f"{text}{END}" for text in expected]


CALL = {"name": "add", "arguments": {"a": 2}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("value", [json.dumps(CALL), json.dumps([CALL]), CALL])
@pytest.mark.parametrize("tools", [json.dumps([TOOL["function"]]), [TOOL["function"]], [TOOL], json.dumps([TOOL])])
def test_functions_of_sharegpt_are_tools(value, tools, templated, tmp_path):
    talk = [turn("human", "ba"), turn("function_call", value), turn("observation", "4"), turn("gpt", "fol")]
    messages = [
        message("user", "ba"),
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
        message("tool", "4"),
        message("assistant", "fol"),
    ]
    row = {"conversations": talk, "tools": tools}
    assert parsed(row) == parsed({"messages": messages, "tools": [TOOL]}) == (messages, {"tools": [TOOL]}, None)
    call, answer = learned_text(templated(HERMES.source), row, tmp_path)
    assert "add" in call and call.endswith(END) and answer == f"fol{END}"


def test_texts_that_are_missing_or_blank(tmp_path):
    answer = message("assistant", "b")
    for blank in ({"input": ""}, {"system": " "}, {"history": []}, {"history": None, "tools": "", "input": None}):
        assert parsed({"instruction": "a", "output": "b", **blank})[0] == [message("user", "a"), answer]
    assert parsed({"instruction": "", "input": "a", "output": "b"})[0] == [message("user", "a"), answer]
    assert parsed({"instruction": "a\n", "input": " c ", "output": "b"})[0] == [message("user", "a\n\n c "), answer]
    row = {"instruction": "a", "output": "b", "weight": 0.5, "context": {"x": 1}}
    (found,) = SFTLines.parse(None, json.dumps(row).encode(), "line")
    assert (found.weight, found.context) == (0.5, {"x": 1})


GPT = turn("gpt", "b")
HUMAN = turn("human", "a")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instruction": "a"}, "no 'output'; the row has 'instruction'"),
        (
            {"input": "a", "output": "b"},
            "no 'instruction'; rename 'input' to 'instruction'; the row has 'input', 'output'",
        ),
        ({"instruction": "a", "outptu": "b"}, r"no 'output' \(is 'outptu' meant to be it\?\)"),
        ({"instruction": "a", "output": "b", "histroy": []}, "unknown key 'histroy'; is 'history' meant?"),
        ({"instruction": " ", "output": "b"}, "question 1 of 'instruction' is empty"),
        ({"instruction": "a", "output": " "}, "answer 1 of 'instruction' is empty"),
        ({"instruction": "a", "output": 5}, "'output' must be a text; got 5"),
        ({"instruction": "a", "output": "b", "system": ["c"]}, r"'system' must be a text; got \['c'\]"),
        ({"instruction": "a", "output": "b", "history": "c"}, "'history' must be a list of rounds; got 'c'"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, r"history\[0\] must be a list of a question and an"),
        ({"instruction": "a", "output": "b", "history": [["c", ""]]}, "answer 1 of 'instruction' is empty"),
        ({"conversations": "a"}, "'conversations' must be a list of {from, value} turns; got 'a'"),
        ({"conversations": []}, "'conversations' must alternate"),
        ({"conversations": ["a"]}, r"conversations\[0\] must be a {from, value} turn; got 'a'"),
        ({"conversations": [{"from": "human"}]}, r"conversations\[0\] has no 'value'; it has 'from'"),
        (
            {"conversations": [turn("User", "a"), GPT]},
            "unknown role 'User' in 'from'; the roles are system, human",
        ),
        ({"conversations": [turn("human", 5), GPT]}, r"conversations\[0\]: 'value' must be a text; got 5"),
        ({"conversations": [HUMAN]}, "'conversations' must alternate .* end with the assistant's"),
        ({"conversations": [GPT, HUMAN]}, "'conversations' must alternate"),
        ({"conversations": [HUMAN, turn("gpt", "")]}, "answer 1 of 'conversations' is empty"),
        ({"conversations": [turn("system", "s"), HUMAN, GPT], "system": "t"}, "a row has one system text"),
        ({"conversations": [HUMAN, turn("function_call", "add(2)")]}, "must be JSON of {name, arguments}"),
        ({"conversations": [HUMAN, turn("function_call", '{"name": "x"}')]}, "must be JSON of {name, arguments}"),
        ({"conversations": [HUMAN, turn("function_call", "[]")]}, "must be JSON of {name, arguments}"),
        (
            {"conversations": [HUMAN, turn("function_call", json.dumps(CALL)), GPT]},
            "messages of tools after",
        ),
        (
            {"conversations": [HUMAN, turn("function_call", r'{"name": "x", "arguments": {"a": "\ud83d"}}')]},
            "of 'value' is half",
        ),
        (
            {"conversations": [HUMAN, GPT], "tools": '[{"name": "x", "name": "y"}]'},
            "'name' occurs twice in one object of",
        ),
        ({"conversations": [HUMAN, GPT], "tools": "add"}, "'tools' must be a list of objects; got 'add'"),
        ({"completion": "b"}, "no 'prompt'; the row has 'completion'"),
        ({"prompt": "a", "completion": " "}, "answer 1 of 'prompt' with 'completion' is empty"),
        ({"prompt": "a", "completion": 5}, "'completion' must be a string or a list of messages; got 5"),
        ({"prompt": "a", "completion": TALK[:1]}, "'prompt' with 'completion' must alternate"),
        ({"prompt": "a"}, "no 'messages', 'conversations', 'instruction', 'completion' or 'src'; the row has 'prompt'"),
        ({"mesages": TALK}, r"\(is 'mesages' meant to be 'messages'\?\)"),
        ({"messages": TALK, "instruction": "a"}, "'messages' and 'instruction' do not go together"),
        ({"messages": TALK, "conversations": []}, "'messages' and 'conversations' do not go together"),
        ({"src": "a", "tgt": "b", "system": 5}, "'system' must be a text; got 5"),
        ({"messages": TALK, "system": "s"}, "'system' and 'messages' do not go together"),
        ({"conversations": [HUMAN, GPT], "output": "c"}, "'conversations' and 'output' do not go together"),
        ({"instruction": "a", "output": "b", "tgt": "c"}, "'instruction' and 'tgt' do not go together"),
        ({"prompt": "a", "completion": "b", "src": "c"}, "'completion' and 'src' do not go together"),
        ({"prompt": "a", "answers": ["b"], "completion": "c"}, "'answers' and 'completion' do not go together"),
        ({"instruction": "a", "output": "b", "kto_tag": False}, "'kto_tag' is for the key task = 'kto'"),
        (
            {"conversations": [HUMAN, GPT], "images": ["a.png"]},
            "'images' cannot be used: the models here take text alone",
        ),
        ({"prompt": "a", "answers": ["b"], "videos": ["a.mp4"]}, "'videos' cannot be used"),
        ({"instruction": "a", "output": "b", "weights": [1]}, "'weights' and 'instruction' do not go together"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(row, text):
    with pytest.raises(DataError, match=f"^file:1: .*{text}|^file:1: {text}"):
        parsed(row)


PROMPT = [message("system", "s"), message("user", "a"), message("assistant", "b"), message("user", "c")]
GOOD, BAD = message("assistant", "good"), message("assistant", "bad")
ALPACA = {"instruction": "c", "system": "s", "history": [["a", "b"]]}


@pytest.mark.parametrize("task", ["dpo", "rm"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
        {**ALPACA, "chosen": "good", "rejected": "bad"},
        {"src": ["a", "c"], "tgt": ["b"], "system": "s", "response": ["bad", "good"], "sort": [0, 1]},
        {"conversations": turns(PROMPT), "chosen": turn("gpt", "good"), "rejected": turn("gpt", "bad")},
        {
            "conversations": turns(PROMPT[1:]),
            "system": "s",
            "chosen": turn("gpt", "good"),
            "rejected": turn("gpt", "bad"),
        },
    ],
)
def test_a_pair_is_the_same_in_every_form(task, row):
    assert preference(row, task) == (PROMPT, [GOOD, BAD], None, {})


@pytest.mark.parametrize("label", [{"label": True}, {"kto_tag": True}, {"kto_tag": 1}])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "completion": "good"},
        {"prompt": PROMPT, "completion": [GOOD]},
        {"messages": [*PROMPT, GOOD]},
        {**ALPACA, "output": "good"},
        {"conversations": turns([*PROMPT, GOOD])},
    ],
)
def test_a_marked_answer_is_the_same_in_every_form(row, label):
    assert preference({**row, **label}, "kto") == (PROMPT, [GOOD], True, {})
    assert preference({**row, next(iter(label)): False}, "kto")[2] is False


@pytest.mark.parametrize("ending", [".json", ".csv", ".parquet", ""])
def test_preference_rows_have_the_same_tokens_in_every_form_and_file(ending, tokenizer, tmp_path):
    words = ("baling", "chene", "dimor")
    pairs = [
        {"prompt": words[0], "chosen": words[1], "rejected": words[2]},
        {"instruction": words[0], "chosen": words[1], "rejected": words[2]},
    ]
    marked = [
        {"prompt": words[0], "completion": words[1], "label": False},
        {"instruction": words[0], "output": words[1], "kto_tag": False},
    ]
    for task, forms in (("dpo", pairs), ("kto", marked)):
        found = []
        for number, row in enumerate(forms):
            path = tmp_path / f"{task}{number}{ending}"
            other = {key: "rix" if isinstance(value, str) else True for key, value in row.items()}
            WRITERS[ending](path, [row, {**other, **({"rejected": "mor"} if task == "dpo" else {})}])
            found.append(list(PreferenceTokens(PreferenceLines(str(path), FORMS[task]), tokenizer, 64)))
        assert found[0] == found[1] and len(found[0]) == 2


def test_functions_of_preference_rows_are_tools():
    row = {"conversations": [HUMAN], "chosen": turn("function_call", json.dumps(CALL)), "rejected": GPT}
    prompt, answers, _, context = preference({**row, "tools": [TOOL["function"]], "context": {"x": 1}})
    assert answers[0]["tool_calls"] == [{"type": "function", "function": CALL}]
    assert (prompt, context) == ([message("user", "a")], {"x": 1, "tools": [TOOL]})


@pytest.mark.parametrize(
    ("task", "row", "text"),
    [
        ("dpo", {"instruction": "a", "output": "b"}, "no 'chosen'; the row has 'instruction', 'output'"),
        ("dpo", {"instruction": "a", "chosen": "b", "rejected": ""}, "an answer is empty"),
        ("dpo", {"instruction": "", "chosen": "b", "rejected": "c"}, "question 1 of the prompt .* is empty"),
        ("dpo", {**ALPACA, "chosen": ["b"], "rejected": "c"}, r"chosen\[0\] must be a \{role, content\} message"),
        ("dpo", {**ALPACA, "sytem": "s", "system": None, "chosen": "b", "rejected": "c"}, "is 'system' meant?"),
        ("dpo", {"conversations": [HUMAN], "chosen": GPT}, "no 'rejected'; the row has 'conversations', 'chosen'"),
        ("dpo", {"conversations": [HUMAN], "chosen": "b", "rejected": GPT}, "chosen must be a {from, value} turn"),
        ("rm", {"conversations": [HUMAN], "chosen": turn("bot", "b"), "rejected": GPT}, "chosen: unknown role 'bot'"),
        ("rm", {"conversations": [HUMAN], "chosen": HUMAN, "rejected": GPT}, "'chosen' must end with a message of the"),
        ("dpo", {"conversations": [HUMAN, GPT], "chosen": GPT, "rejected": GPT}, "must alternate user, assistant"),
        ("dpo", {**ALPACA, "prompt": "a", "chosen": "b", "rejected": "c"}, "'instruction' and 'prompt' do not go"),
        ("dpo", {**ALPACA, "conversations": [], "chosen": "b", "rejected": "c"}, "do not go together"),
        ("dpo", {"conversations": [HUMAN], "src": "a", "chosen": GPT, "rejected": GPT}, "'conversations' and 'src' do"),
        ("dpo", {"prompt": PROMPT, "system": "s", "chosen": "d", "rejected": "e"}, "'system' and 'prompt' do not go"),
        ("dpo", {"chosen": "The sky is blue.", "rejected": "The sky is green."}, "no 'prompt', 'messages' or 'src'"),
        ("kto", {"instruction": "a", "output": "b"}, "no 'label'; the row has 'instruction', 'output'"),
        ("kto", {"conversations": [HUMAN, GPT], "id": 5}, "no 'label'; the row has 'conversations', 'id'"),
        ("kto", {"conversations": [HUMAN, GPT], "kto_tga": 1}, r"no 'kto_tag' \(is 'kto_tga' meant to be it"),
        ("kto", {"messages": TALK}, "no 'label'; the row has 'messages'$"),
        ("dpo", {"prompt": "a", "chosen": "b", "rejected": "c", "images": ["a.png"]}, "'images' cannot be used"),
        ("kto", {"instruction": "a", "output": "b", "kto_tag": "yes"}, "'kto_tag' must be true or false; got 'yes'"),
        ("kto", {"instruction": "a", "output": "b", "kto_tag": True, "label": True}, "'label' and 'kto_tag' do not go"),
        ("kto", {"conversations": [GPT, HUMAN], "kto_tag": True}, "'conversations' must end with the answer of gpt"),
        ("kto", {"messages": [], "label": True}, "'messages' must end with a message of the assistant"),
    ],
)
def test_preference_rows_that_contradict_themselves_are_refused(task, row, text):
    with pytest.raises(DataError, match=f"rows.jsonl:1: .*{text}|rows.jsonl:1: {text}"):
        preference(row, task)
