"""Tool calls are learned as the chat template writes them, results of tools are not; else the row is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import CHATML, HERMES, MISTRAL_TOOLS, PLAIN, TOOL_TEMPLATES, Template
from support.piece_tokenizer import PieceTokenizer

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.jinja_chat import encode_messages
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo

WORDS = st.sampled_from(["yes", "B", "4", "assistant", "<tool_call>", "[TOOL_CALLS] [", "add", "2 + 2"])
CALLS = st.lists(st.tuples(st.sampled_from(["add", "yes"]), st.dictionaries(WORDS, WORDS, max_size=2)), min_size=1)
# A turn: a question, any number of calls with the text beside them and their results, and the last answer.
TURNS = st.tuples(WORDS, st.lists(st.tuples(st.sampled_from(["", "B"]), CALLS), max_size=2), WORDS)
ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str | None, calls=()) -> dict:
    entry = {"role": "assistant", "content": text}
    if calls:
        entry["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
    return entry


def result(text: str) -> dict:
    return {"role": "tool", "content": text}


@pytest.mark.parametrize("name", TOOL_TEMPLATES)
@settings(max_examples=150)
@given(turns=st.lists(TURNS, min_size=1, max_size=3), tools=st.booleans())
def test_learned_are_the_calls_and_answers_with_their_end_tokens(name, turns, tools):
    template = TOOL_TEMPLATES[name]
    messages, expected = [], []
    for question, steps, answer in turns:
        messages.append(user(question))
        for text, calls in steps:
            text = text if template.text else ""
            messages += [assistant(text, calls), *(result("4") for _ in calls)]
            expected.append(template.learned(text, calls))
        messages.append(assistant(answer))
        expected.append(template.learned(answer, []))
    tokenizer = PieceTokenizer(template)
    context = {"tools": [ADD]} if tools else {}
    rounds = encode_messages(tokenizer, messages, context, "train.json:1")
    learned = [tokenizer.decode(tokens) for _, tokens in rounds]
    assert [text.lstrip(" ") for text in learned] == [text.lstrip(" ") for text in expected]
    everything = tokenizer.decode([token for before, after in rounds for token in before + after])
    assert everything == tokenizer.render(messages, **context).rstrip()


CALL = [user("2 + 2"), assistant(None, [("add", {"a": 2})]), result("4"), assistant("yes")]


@pytest.mark.parametrize(
    ("template", "messages", "context", "reason"),
    [
        (CHATML, [CALL[0], {**CALL[1], "content": "B"}], {}, "answer 1: the chat template does not write its tool"),
        (CHATML, [user("B"), assistant("yes")], {"tools": [ADD]}, "the chat template does not write 'tools'"),
        (
            MISTRAL_TOOLS,
            [CALL[0], {**CALL[1], "content": "B"}],
            {},
            "answer 1: the chat template writes it differently",
        ),
        (
            Template(HERMES.source.replace("{% endfor %}{{ '<|im_end|>\n' }}", "{% endfor %}{{ '<|call|>' }}"), ""),
            CALL,
            {},
            "answer 1: the chat template writes it differently",
        ),
        (
            Template(HERMES.source.replace("c.function.arguments | tojson", "'{}'"), ""),
            CALL,
            {},
            r"does not write the argument 'a' of a tool call in message 2 \(assistant\)",
        ),
        (
            Template(HERMES.source.replace("m.content + '\n</tool_response>", "'\n</tool_response>"), ""),
            CALL,
            {},
            r"does not write the text of message 3 \(tool\)",
        ),
        (PLAIN, CALL, {}, "the chat template refuses the conversation: .*NoneType"),
    ],
)
def test_what_cannot_be_followed_is_refused(template, messages, context, reason):
    with pytest.raises(DataError, match=f"train.json:1: .*{reason}"):
        encode_messages(PieceTokenizer(template), messages, context, "train.json:1")


def test_rows_of_every_task_have_tool_messages(templated, tmp_path):
    tokenizer = templated(HERMES.source)
    (tmp_path / "train.json").write_text(json.dumps({"messages": CALL, "tools": [ADD]}) + "\n")
    (row,) = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 500, 1000)
    learned = tokenizer.decode([label for label in row["labels"] if label != -100])
    assert (
        "".join(learned.split()) == '<tool_call>{"name":"add","arguments":{"a":2}}</tool_call><|im_end|>yes<|im_end|>'
    )
    pair = {"prompt": CALL[:-1], "chosen": "yes", "rejected": "B", "tools": [ADD]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    lines = PreferenceLines(str(tmp_path / "pairs.jsonl"), dpo.FORM)
    (tokens,) = PreferenceTokens(lines, tokenizer, 1000, chat=True)
    assert [*tokens["prompt"], *tokens["chosen"]] == [*row["input_ids"], row["labels"][-1]]
    with pytest.raises(DataError, match="pairs.jsonl:1: messages of tools need a Jinja chat template"):
        list(PreferenceTokens(lines, tokenizer, 1000))


def test_arguments_may_be_a_string_of_json():
    """As OpenAI's interface has them."""
    source = HERMES.source.replace("c.function.arguments | tojson", "c.function.arguments")
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    messages = [CALL[0], {**CALL[1], "tool_calls": [call]}, *CALL[2:]]
    tokenizer = PieceTokenizer(Template(source, ""))
    (_, learned), _ = encode_messages(tokenizer, messages, {}, "train.json:1")
    assert '"arguments": {"a": 2}' in tokenizer.decode(learned)
    with pytest.raises(DataError, match="train.json:1: the chat template does not write the argument 'a' of a tool"):
        encode_messages(
            PieceTokenizer(Template(source.replace("c.function.arguments", "'{}'"), "")), messages, {}, "train.json:1"
        )


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}], ids=str)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("c.function.arguments", '{"a": 2, "b": "\\"c\\""}'),
        ("c.function.arguments | tojson", '{"a": 2, "b": "\\"c\\""}'),
        ("c.function | tojson", '{"name": "add", "arguments": {"a": 2, "b": "\\"c\\""}}'),
        ("c.function.arguments.items() | list | string", """[('a', 2), ('b', '"c"')]"""),
    ],
)
def test_calls_of_openai_are_learned_as_objects(arguments, expected, content):
    """Their arguments are strings of JSON, which templates for objects would quote, and they may lack a `content`."""
    function = {"name": "add", "arguments": '{"a": 2, "b": "\\"c\\""}'}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}], **content}
    (row,) = SFTLines.parse(None, json.dumps({"messages": [CALL[0], call]}).encode(), "train.json:1")
    tokenizer = PieceTokenizer(Template(HERMES.source.replace("c.function.arguments | tojson", arguments), ""))
    ((_, learned),) = encode_messages(tokenizer, row.messages, row.context, row.place)
    assert f'"arguments": {expected}}}\n</tool_call><|im_end|>' in tokenizer.decode(learned)


def test_arguments_of_calls_that_hold_no_object_stay_strings():
    source = HERMES.source.replace("c.function.arguments | tojson", "c.function.arguments | upper")
    calls = [{"name": "add", "arguments": text} for text in ("{", "[2]", "b")]
    tokenizer = PieceTokenizer(Template(source.replace("c.function", "c"), ""))
    ((_, learned),) = encode_messages(tokenizer, [CALL[0], {**CALL[1], "tool_calls": calls}], {}, "train.json:1")
    assert all(f'"arguments": {text}}}' in tokenizer.decode(learned) for text in ("{", "[2]", "B"))


def test_tools_may_be_a_string_of_json(tmp_path):
    given = [{"tools": [ADD]}, {"tools": json.dumps([ADD])}, {"tools": None}, {"tools": ""}, {}]
    (tmp_path / "train.json").write_text("".join(json.dumps({"messages": CALL, **tools}) + "\n" for tools in given))
    lines = SFTLines(str(tmp_path), "train")
    assert [row.context for row in lines] == [{"tools": [ADD]}] * 2 + [{}] * 3
    for tools in ("add", '{"a": 1}', ["add"], 5):
        (tmp_path / "train.json").write_text(json.dumps({"messages": CALL, "tools": tools}))
        with pytest.raises(DataError, match="train.json:1: 'tools' must be a list of objects; got"):
            list(lines)


def test_tools_are_none_where_a_row_has_none():
    """Templates compare them with none, as Hugging Face's transformers pass them."""
    source = "{% if tools is not none %}{{ 'tools' }}{% endif %}" + CHATML.source
    ((before, _),) = encode_messages(tokenizer := PieceTokenizer(Template(source, "")), CALL[::3], {}, "train.json:1")
    assert tokenizer.decode(before).startswith("<|im_start|>")


def test_earlier_turns_that_do_not_fit_are_left_out_with_their_calls(templated, tmp_path):
    tokenizer = templated(HERMES.source)
    lines = [{"messages": messages} for messages in (CALL, [*CALL * 4, user("B"), assistant("yes")])]
    (tmp_path / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole, _ = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 1000, 2000)
    rows = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 1000, int(1.7 * len(whole["input_ids"])))
    assert rows.cut_rows == 0
    for row in rows:
        text = tokenizer.decode(row["input_ids"])
        assert text.count("2 + 2") == text.count("<tool_call>") == text.count("<tool_response>") == 1
    assert rows.cut_rows == 1
