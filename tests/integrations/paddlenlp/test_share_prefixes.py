"""share_prefixes: SFT on prefix trees takes the steps of SFT on documents, with fewer tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentences import write_rows
from support.chat_templates import TEMPLATES

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.packing import pack_tree

ROWS = [
    {"src": f"baling {question} mor gra rix fol", "tgt": f"{answer} {end}"}
    for question in ("dimor chene", "hupash")
    for answer in ("grane folmor", "bapash")
    for end in ("rix", "chemor dine", "hu")
]


@pytest.fixture
def run(sft_config, tmp_path):
    """Train on all rows in every step; return the result and the lines written."""
    data = tmp_path / "shared"
    data.mkdir()
    for split in ("train", "dev"):
        (data / f"{split}.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(**changes):
        lines = []
        config = {
            **sft_config,
            "dataset_name_or_path": str(data),
            "gradient_accumulation_steps": 1,
            "src_length": 200,
            "max_length": 480,
            "lazy": False,
            "max_steps": 5,
            "overwrite_output_dir": True,
            "load_best_model_at_end": False,
            **changes,
        }
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return train(path, write=lines.append), lines

    return run


def losses(result) -> list[float]:
    return [loss for _, loss in result.losses]


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize("changes", [{}, {"lora": True}, {"flash_mask": False, "use_flash_attention": False}])
def test_losses_are_those_of_documents(run, model_folders, name: str, changes: dict) -> None:
    changes = {"model_name_or_path": str(model_folders[name]), **changes}
    documents, _ = run(**changes)
    trees, lines = run(**changes, share_prefixes=True)
    assert documents.packing.packs == trees.packing.packs == 1
    assert len(trees.losses) == 5
    np.testing.assert_allclose(losses(trees), losses(documents), rtol=1e-5)
    assert trees.packing.sequence_tokens == documents.packing.tokens > 1.5 * trees.packing.tokens
    assert any(f"{trees.packing.sequence_tokens} tokens shared in 1 tree" in line for line in lines)


def test_split_trees_and_streams_have_the_same_loss(run) -> None:
    """Several packs in one step, some of which repeat a prefix."""
    whole, _ = run(max_steps=1)
    split, lines = run(max_steps=1, share_prefixes=True, src_length=14, max_length=22, per_device_train_batch_size=9)
    assert split.packing.packs > 1 and any("1 tree split" in line for line in lines)
    np.testing.assert_allclose(losses(split), losses(whole), rtol=1e-5)
    stream, _ = run(max_steps=1, share_prefixes=True, lazy=True)
    np.testing.assert_allclose(losses(stream), losses(whole), rtol=1e-5)


def test_evaluation_counts_every_row(run) -> None:
    documents, _ = run(do_train=False, do_eval=True)
    trees, _ = run(do_train=False, do_eval=True, share_prefixes=True)
    for name in ("eval_loss", "eval_accuracy"):
        np.testing.assert_allclose(trees.evaluations[0][name], documents.evaluations[0][name], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attention_mask_type": "document"}, UnsupportedConfigError, "needs attention_mask_type = 'causal_document'"),
        ({"loss_average": "paddlenlp"}, ConfigError, "needs loss_average = 'tokens'"),
        ({"zero_padding": False, "greedy_zero_padding": False, "flash_mask": False}, ConfigError, "needs zero_padding"),
    ],
)
def test_what_trees_do_not_support(run, changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(share_prefixes=True, **changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"num_experts": 4}, "mixture-of-experts"), ({"num_nextn_predict_layers": 1}, "multi-token prediction")],
)
def test_models_that_trees_do_not_support(run, model_folders, tmp_path: Path, config: dict, message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in Path(model_folders["llama"]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    with pytest.raises(UnsupportedConfigError, match=message):
        run(share_prefixes=True, model_name_or_path=str(folder))


def test_answers_of_a_row_are_rows_of_their_own(run, tmp_path: Path) -> None:
    alone, _ = run(share_prefixes=True)
    rows = {}
    for row in ROWS:
        rows.setdefault(row["src"], []).append(row["tgt"])
    lines = [{"prompt": prompt, "answers": answers} for prompt, answers in rows.items()]
    (tmp_path / "shared" / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    together, _ = run(share_prefixes=True)
    assert losses(together) == losses(alone)


def test_answers_learn_the_rounds_of_their_prompt_as_conversations_do(templated, tmp_path: Path) -> None:
    """A label that two answers share counts twice, with both weights."""
    tokenizer = templated(TEMPLATES["chatml"].source)
    prompt = [
        {"role": "user", "content": "baling"},
        {"role": "assistant", "content": "chene"},
        {"role": "user", "content": "dimor"},
    ]
    answers, weights = ["folmor", "grarix"], [2.0, -0.5]
    talks = [
        {"messages": [*prompt, {"role": "assistant", "content": answer}], "weight": weight}
        for answer, weight in zip(answers, weights, strict=True)
    ]
    found = []
    for name, rows in (("talks", talks), ("answers", [{"prompt": prompt, "answers": answers, "weights": weights}])):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "train.json", rows)
        found.append(list(SFTTokens(SFTLines(str(tmp_path / name), "train"), tokenizer, 64, 128, weighted=True)))
    assert found[0] == found[1]
    (pack,) = pack_tree(found[1], 128)
    shared = pack.label_counts == 2
    assert "chene" in tokenizer.decode(pack.labels[shared].tolist())
    assert (pack.label_weights[shared] == 1.5).all()


def test_a_weight_is_the_factor_of_the_loss(run, tmp_path: Path) -> None:
    """The loss is linear in the weights."""
    halves = [ROWS[:6], ROWS[6:]]

    def loss_of(weights: tuple[float, float]) -> float:
        rows = [{**row, "weight": weight} for half, weight in zip(halves, weights, strict=True) for row in half]
        (tmp_path / "shared" / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return losses(run(share_prefixes=True, max_steps=1)[0])[0]

    first, second = loss_of((1, 0)), loss_of((0, 1))
    np.testing.assert_allclose(loss_of((0.75, -2)), 0.75 * first - 2 * second, rtol=1e-5)
    np.testing.assert_allclose(loss_of((1, 1)), first + second, rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"src": "a", "tgt": "b", "weight": "1"}, "train.json:1: 'weight' must be a finite number in float32; got '1'"),
        ({"src": "a", "tgt": "b", "weight": 1e39}, "train.json:1: 'weight' must be a finite number in float32; got 1e"),
        ({"src": "a", "tgt": "b", "weight": 10**400}, "train.json:1: 'weight' must be a finite number in float32"),
        ({"src": "a", "tgt": "b", "weight": True}, "'weight' must be a finite number in float32; got True"),
        ({"prompt": "a", "answers": ["b", "c"], "weights": [1]}, "'weights' must be a list of 2 numbers"),
        ({"prompt": "a", "answers": []}, "'answers' must be a list of at least one answer"),
        ({"answers": ["b"]}, "no 'prompt'"),
        ({"prompt": "a", "answers": ["b", " "]}, r"answer 1 of 'prompt' with answers\[1\] is empty"),
        ({"prompt": "a", "answers": [["b"]]}, r"answers\[0\]\[0\] must be a \{role, content\} message; got 'b'"),
        ({"prompt": "a", "answers": [5]}, r"'answers\[0\]' must be a string or a list of messages; got 5"),
    ],
)
def test_bad_weights_and_answers(run, tmp_path: Path, row: dict, message: str) -> None:
    (tmp_path / "shared" / "train.json").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        run(share_prefixes=True)


def test_weights_need_trees(run, tmp_path: Path) -> None:
    (tmp_path / "shared" / "train.json").write_text(json.dumps({**ROWS[0], "weight": 2}) + "\n")
    with pytest.raises(DataError, match="train.json:1: a weight needs share_prefixes = true"):
        run()
