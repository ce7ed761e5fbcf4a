"""What is learned of a conversation that a Jinja chat template renders: the answers and their end tokens."""

from __future__ import annotations

import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import CHATML, GEMMA, LLAMA2, PLAIN, QWEN3, R1, TEMPLATES, Template
from support.piece_tokenizer import PieceTokenizer, as_messages

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.jinja_chat import encode_messages
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto, rm

LEARNED = "<think>\nt u\n</think>\n\nan<|im_end|>"
WORDS = ["yes", "no", "B", "<", "<b>", "assistant", "user", "PROBE", "s", " ", "\n", "Is it A or B", "</s", "[/INST]"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map("".join)
FILLED = TEXTS.filter(str.strip)
ANSWERS = FILLED.filter(lambda text: not text.startswith("\n"))


def conversation(turns, system=None) -> list[tuple[str, str]]:
    start = [] if system is None else [("system", system)]
    return start + [message for user, bot in turns for message in (("user", user), ("assistant", bot))]


def decoded(template: Template, messages) -> tuple[str, list[str], str]:
    """Text of all tokens, of the learned tokens of every round, and the rendering of the conversation."""
    tokenizer = PieceTokenizer(template)
    rounds = encode_messages(tokenizer, as_messages(messages), {}, "train.json:1")
    everything = tokenizer.decode([token for user, bot in rounds for token in user + bot])
    return everything, [tokenizer.decode(bot) for _, bot in rounds], tokenizer.render(as_messages(messages))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=300)
@given(turns=st.lists(st.tuples(FILLED, FILLED), min_size=1, max_size=4), system=st.none() | TEXTS | st.just(""))
def test_learned_is_the_answer_and_its_end_token(name, turns, system):
    template = TEMPLATES[name]
    everything, learned, rendering = decoded(template, conversation(turns, system if template.system else None))
    assert rendering[: len(everything)] == everything and not rendering[len(everything) :].strip()
    for text, (_, answer) in zip(learned, turns, strict=True):
        assert text.endswith(template.end)
        written = text.removesuffix(template.end)
        if template.trims:
            assert written.strip() == answer.strip()
        else:  # a token that begins with the blank before the answer is the answer's
            assert written in (answer, " " + answer)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "qwen3"])
def test_the_work_grows_with_the_length_of_the_conversation(name):
    """Not with its square."""
    template = TEMPLATES[name]
    work = []
    for rounds in (4, 40):
        tokenizer = PieceTokenizer(template)
        render = Mock(wraps=tokenizer.chat_template.render)
        tokenizer.chat_template = SimpleNamespace(render=render, environment=tokenizer.chat_template.environment)
        talk = as_messages(conversation([("Is it A or B", f"no {n}") for n in range(rounds)]))
        assert len(encode_messages(tokenizer, talk, {}, "train.json:1")) == rounds
        work.append((render.call_count, tokenizer.characters / rounds))
    assert work[1][0] == work[0][0] and work[1][1] < 1.2 * work[0][1]


def test_tool_turns_are_not_learned():
    messages = [("user", "2+2?"), ("assistant", "call add"), ("tool", "4"), ("assistant", "4")]
    everything, learned, rendering = decoded(CHATML, messages)
    assert everything == rendering.rstrip() and learned == ["call add<|im_end|>", "4<|im_end|>"]


@pytest.mark.parametrize(
    "answer", ["<think>t u</think>an", "<think>\nt u\n</think>\nan", " <think>\n\nt u</think>\n\n\nan"]
)
def test_blanks_around_thinking_are_those_of_the_template(answer):
    """As in data distilled from DeepSeek-R1, with Qwen3's template."""
    tokenizer = PieceTokenizer(QWEN3)
    talk = as_messages([("user", "q"), ("assistant", answer), ("user", "r"), ("assistant", answer)])
    (_, first), (_, last) = encode_messages(tokenizer, talk, {}, "train.json:1")
    assert (tokenizer.decode(first), tokenizer.decode(last).rstrip()) == ("", LEARNED)


def test_thinking_that_later_rounds_lack_is_not_learned_there():
    think = "<think>\nhm\n</think>\n\n"
    everything, learned, rendering = decoded(QWEN3, conversation([("a", think + "b"), ("c", think + "d")]))
    assert learned == ["", think + "d<|im_end|>"]
    assert everything == rendering.rstrip() and everything.count("hm") == 1


THINKING = st.none() | st.sampled_from(["hm", "yes", "<b>", "PROBE\nno"])


@settings(max_examples=300)
@given(turns=st.lists(st.tuples(FILLED, THINKING, ANSWERS), min_size=1, max_size=4))
def test_thinking_is_learned_where_it_is_written(turns):
    talk = [(user, answer if t is None else f"<think>\n{t}\n</think>\n\n{answer}") for user, t, answer in turns]
    everything, learned, rendering = decoded(QWEN3, conversation(talk))
    assert everything == rendering.rstrip()
    last = len(turns) - 1
    for place, (text, (_, thinking, _)) in enumerate(zip(learned, turns, strict=True)):
        dropped = thinking is not None and place < last
        assert text == ("" if dropped else talk[place][1] + "<|im_end|>")


@pytest.mark.parametrize(
    ("template", "messages", "reason"),
    [
        (GEMMA, conversation([("a", "b")], system="c"), "refuses the conversation: System role not supported"),
        (R1, conversation([("a", "<think>b</think>c")]), "answer 1: the chat template changes its text"),
        (
            QWEN3,
            conversation([("a", "b"), ("a", "d<think>b</think>c")]),
            "answer 2: the chat template changes its text",
        ),
        (
            Template("{% for m in messages %}{{ m['content'] }}{% endfor %}", ""),
            conversation([("a", "b")]),
            "writes no end token after an answer",
        ),
        (
            Template("{% for m in messages %}{{ m['content'] | upper }}\n{% endfor %}", ""),
            conversation([("a", "b")]),
            "answer 1: the chat template changes its text",
        ),
        (
            Template("{% for m in messages %}{{ m['content'] * 2 }}\n{% endfor %}", ""),
            conversation([("a", "b")]),
            "answer 1: the chat template does not write the text of answers, once and unchanged",
        ),
        (
            Template(
                "{% for m in messages %}{{ m['content'] }}{% if loop.last %}{{ eos_token }}{% endif %}{% endfor %}", ""
            ),
            conversation([("a", "b"), ("c", "d")]),
            "answer 1: the chat template ends it differently from the last answer",
        ),
    ],
)
def test_a_conversation_that_the_template_does_not_follow_is_named(template, messages, reason):
    with pytest.raises(DataError, match=f"train.json:1: .*{reason}"):
        decoded(template, messages)


EACH = "<{{ m['role'] }}>{{ m['content'] }}</s>"
REVERSED = f"{{% for m in messages | reverse %}}{EACH}{{% endfor %}}"
ROUNDS = conversation([("q1", "a1"), ("q2", "a2")], system="c")


def only(condition: str) -> str:
    return f"{{% for m in messages if {condition} %}}{EACH}{{% endfor %}}"


@pytest.mark.parametrize(
    ("source", "messages", "reason"),
    [
        (REVERSED, ROUNDS, "answer 2: the chat template writes it before an earlier answer"),
        (REVERSED, ROUNDS[1:3], "the chat template writes the messages in another order"),
        (only("m.role == 'assistant'") + only("m.role != 'assistant'"), ROUNDS, "messages in another order"),
        (only("m.role == 'user'").replace("messages", "messages|reverse") + only("m.role != 'user'"), ROUNDS, "order"),
        (only("m.role != 'system'"), ROUNDS, r"does not write the text of message 1 \(system\)"),
        (only("m.role != 'user'"), ROUNDS, r"does not write the text of message 2 \(user\)"),
        (only("m.role != 'user'") + "{{ messages[1].content }}", ROUNDS[:3], "messages in another order"),
    ],
)
def test_every_message_is_written_in_order(source, messages, reason):
    """Else what is learned is not what the file holds."""
    with pytest.raises(DataError, match=f"train.json:1: .*{reason}"):
        decoded(Template(source, "</s>"), messages)


def write(folder, *lines: dict):
    (folder / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "train.json"


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40)
@given(turns=st.lists(st.tuples(FILLED, FILLED), min_size=1, max_size=3))
def test_every_task_has_the_tokens_of_the_rendering(name, templated, tmp_path, turns):
    """SFT and preference rows of a SentencePiece tokenizer, which puts a blank before the beginning of a text."""
    template = TEMPLATES[name]
    tokenizer = templated(template.source)
    messages = conversation(turns)
    write(tmp_path, {"messages": as_messages(messages)})
    (row,) = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 2000, 4000)
    whole = [*row["input_ids"], row["labels"][-1]]
    rendering = tokenizer.chat_template.render(messages=as_messages(messages), **tokenizer.special_tokens_map)
    end = len(rendering.rstrip()) if template is not PLAIN else len(rendering)
    assert whole == tokenizer(rendering[:end], add_special_tokens=False)["input_ids"]
    learned = tokenizer.decode([label for label in row["labels"] if label != -100])
    expected = "".join(answer + template.end for _, answer in turns)
    assert "".join(learned.split()) == "".join(expected.split())
    prompt, answer = as_messages(messages[:-1]), messages[-1][1]
    pair = {"prompt": prompt, "chosen": answer, "rejected": "other"}
    wanted = {"prompt": prompt, "completion": answer, "label": True}
    for task, lines in ((dpo, [pair]), (rm, [pair]), (kto, [wanted, {**wanted, "prompt": "another"}])):
        file = write(tmp_path, *lines)
        first = next(iter(PreferenceTokens(PreferenceLines(str(file), task.FORM), tokenizer, 4000, chat=True)))
        parts = _lists(list(first.values()))
        assert any(whole == [*prompt, *answer] for prompt in parts for answer in parts)


def _lists(value) -> list[list[int]]:
    """All lists of tokens in a list."""
    if not isinstance(value, list):
        return []
    if value and isinstance(value[0], int):
        return [value]
    return [found for inner in value for found in _lists(inner)]


def test_rounds_that_do_not_fit_are_left_out_before_rendering(templated, tmp_path):
    """The system text of Llama-2 is part of the first round, whichever that is."""
    tokenizer = templated(LLAMA2.source)
    talk = conversation([("baling " * 9, "chene " * 9)] * 5 + [("dimor", "rix")], system="be kind")
    write(tmp_path, {"messages": as_messages(talk)})
    rows = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 100, 150)
    (row,) = rows
    text = tokenizer.decode(row["input_ids"])
    assert rows.cut_rows == 1 and text.count("be kind") == 1 and 1 < text.count("[INST]") < 6
    file = write(tmp_path, {"prompt": as_messages(talk[:-1]), "chosen": "rix", "rejected": "folrix " * 20})
    pairs = PreferenceTokens(PreferenceLines(str(file), dpo.FORM), tokenizer, 200, chat=True)
    (pair,) = pairs
    text = tokenizer.decode(pair["prompt"])
    assert pairs.cut_rows == 1 and text.count("be kind") == 1 and 1 < text.count("[INST]") < 6
    assert sum(map(len, pair.values())) <= 200


def test_a_round_that_does_not_fit_keeps_the_header_of_its_answer(templated, tmp_path):
    tokenizer = templated(CHATML.source)
    write(tmp_path, {"messages": as_messages(conversation([("baling " * 90, "chene " * 90)], system="be kind"))})
    rows = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 40, 60)
    (row,) = rows
    learned = [label for label in row["labels"] if label != -100]
    assert (rows.cut_rows, len(row["labels"]), len(learned)) == (1, 59, 20)
    before = tokenizer.decode(
        [token for token, label in zip(row["input_ids"][1:], row["labels"], strict=False) if label == -100]
    )
    assert before.rstrip().endswith("assistant") and tokenizer.decode(learned).split()[0] == "chene"


def test_answers_with_different_prompts_are_refused(templated, tmp_path):
    file = write(tmp_path, {"prompt": "a", "chosen": "<think>\nhm\n</think>\n\nb", "rejected": "b"})
    with pytest.raises(DataError, match="train.json:1: with the chat template, the prompts before the answers differ"):
        list(PreferenceTokens(PreferenceLines(str(file), dpo.FORM), templated(QWEN3.source), 400, chat=True))


def test_a_blank_before_an_answer_is_of_the_answer_whatever_follows(templated, tmp_path):
    """The blank is a token of its own before some answers and a part of the first word of others."""
    tokenizer = templated(LLAMA2.source)
    file = write(tmp_path, {"prompt": "baling", "chosen": "chene", "rejected": "\u4e2d"})
    (pair,) = PreferenceTokens(PreferenceLines(str(file), dpo.FORM), tokenizer, 400, chat=True)
    assert tokenizer.decode(pair["prompt"]).endswith("[/INST]")
    assert tokenizer.decode(pair["chosen"]).split() == ["chene", "</s>"]
    assert tokenizer.decode(pair["rejected"]).replace(" ", "") == "\u4e2d</s>"
