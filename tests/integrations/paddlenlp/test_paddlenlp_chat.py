"""PaddleNLP's chat_template.json: variables that no row fills in are refused, never written as nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.paddlenlp_chat import check_template
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError
from paddle_flashmask.integrations.paddlenlp.train import train

ROUND = ["Q{{index}}: {{user}} A:", "{{bot}} end"]


def rows(tokenizer, folder, *lines: dict) -> list[str]:
    (folder / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = SFTTokens(SFTLines(str(folder), "train"), tokenizer, 100, 200)
    return [tokenizer.decode([*row["input_ids"], row["labels"][-1]]) for row in data]


@pytest.mark.parametrize(
    ("template", "variable", "known"),
    [
        ({"conversation": ["{{user}} {{mood}}", "{{bot}}"]}, "mood", "user, bot, index, is_first, is_last"),
        ({"conversation": ["{{user}}", "{{bot}}{% for m in messages %}{{m}}{% endfor %}"]}, "messages", "user, bot"),
        ({"system": "{{sytem}}", "conversation": ROUND}, "sytem", "system, is_training and those"),
    ],
)
def test_a_variable_without_a_value_is_refused(templated, tmp_path, template, variable, known):
    line = {"src": "baling", "tgt": "rix", "context": {"other": 1}}
    with pytest.raises(
        DataError, match=rf"train.json:2: chat_template.json .*'{variable}' is undefined; known are {known}"
    ):
        rows(templated(template), tmp_path, {**line, "context": {variable: "good"}}, line)


def test_variables_that_are_only_tested_may_be_missing(templated, tmp_path):
    template = {"conversation": ["{% if mood %}{{mood}}{% endif %}{{user}}{{ tone | default('!') }}", "{{bot}}"]}
    assert rows(templated(template), tmp_path, {"src": "baling", "tgt": "rix"}) == ["baling! rix"]


def test_the_system_variable_is_empty_without_a_system_message(templated, tmp_path):
    template = {"system": "rules:{{system}};", "conversation": ROUND}
    talk = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    texts = rows(
        templated(template),
        tmp_path,
        {"messages": talk[1:]},
        {"messages": talk},
        {"src": "a", "tgt": "b", "context": {"system": "c"}},
    )
    assert [text.split(";")[0].strip() for text in texts] == ["rules:", "rules:system", "rules:c"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            {"conversation": ["{{question}}", "{{bot}}"]},
            "first template .* write the variable user, and not bot; it uses question",
        ),
        (
            {"conversation": ["{{user}}", "{{answer}}"]},
            "second template .* write the variable bot, and not user; it uses answer",
        ),
        ({"conversation": ["{{user}}{{bot}}", "{{bot}}"]}, "first template .* uses bot, user"),
        ({"conversation": ["{{user}}", "text"]}, "second template .* uses no variable"),
        ({"conversation": "{{user}}{{bot}}"}, "'conversation' must be a list of two templates"),
        ({"query": "{{query}}"}, "'conversation' must be a list of two templates, .*got None"),
        ({"conversation": ["{{user}", "{{bot}}"]}, "'conversation' is not a valid template"),
        ({"chat_template": "x"}, "must be an object with the keys conversation, system, query; got 'chat_template'"),
        (["x"], "must be an object with the keys .*; got list"),
    ],
)
def test_a_template_of_another_form_is_refused(tmp_path, template, reason):
    path = tmp_path / "chat_template.json"
    path.write_text(json.dumps(template))
    with pytest.raises(ConfigError, match=f"chat_template.json.* {reason}"):
        check_template(path)


def test_files_are_checked_before_the_tokenizer_is_loaded(sft_config, model_folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folders["llama"], folder)
    config = {**sft_config, "task": "sft", "model_name_or_path": str(folder)}

    def run(**changes):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        train(tmp_path / "config.json", write=lambda line: None)

    with pytest.raises(ConfigError, match="there is no file .*elsewhere"):
        run(chat_template=str(tmp_path / "elsewhere"))
    (folder / "chat_template.json").write_text("{")
    with pytest.raises(ConfigError, match="chat_template.json is not valid JSON"):
        run()
    shutil.rmtree(config["output_dir"], ignore_errors=True)
