"""Attention in the layouts of tensor, sequence and segment parallelism, and two processes of the first two."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp.transformers.deepseek_v2 import modeling as deepseek_v2
from paddlenlp.transformers.gemma import modeling as gemma
from paddlenlp.transformers.llama import fusion_ops
from paddlenlp.transformers.llama import modeling as llama
from paddlenlp.transformers.mixtral import modeling as mixtral
from paddlenlp.transformers.qwen2 import modeling as qwen2

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddlenlp.models.attention import attention_over

PROGRAM = Path(__file__).with_name("tensor_parallel_rank.py")
B, S, HEADS, KEY_HEADS, HEAD_DIM = 2, 12, 8, 4, 16
DOCUMENTS = masks.causal_document([[5, 7], [3, 4, 5]], S)


def config(**options):
    defaults = {
        "use_flash_attention": True,
        "attention_dropout": 0.0,
        "context_parallel_degree": 1,
        "tensor_parallel_degree": 1,
        "tensor_parallel_rank": 0,
        "sep_parallel_degree": 1,
    }
    return type("Config", (), {**defaults, **options})


def states(heads: int = HEADS, key_heads: int = KEY_HEADS, value_dim: int = HEAD_DIM, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {
        "query_states": [B, S, heads, HEAD_DIM],
        "key_states": [B, S, key_heads, HEAD_DIM],
        "value_states": [B, S, key_heads, value_dim],
    }
    return {name: paddle.to_tensor(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}


def two_ranks_alike(out, split_axis, concat_axis):
    """What ReshardLayer gives one of two ranks that hold the same: half the rows, twice the heads."""
    half = out.split(2, axis=split_axis)[0]
    return paddle.concat([half, half], axis=concat_axis)


@pytest.mark.parametrize(
    ("sequence_parallel", "reshard_layer", "output_attentions", "shape"),
    itertools.product([False, True], [None, two_ranks_alike], [False, True], [[B, S], [B, 1, S]]),
)
def test_every_layout_is_the_one_of_paddlenlp(sequence_parallel, reshard_layer, output_attentions, shape):
    """PaddleNLP's own function runs on the same operator here: while enabled, it is in the place of Paddle's."""
    given = {
        **states(),
        "config": config(sep_parallel_degree=2),
        "attention_mask": None,
        "output_attentions": output_attentions,
        "attn_mask_startend_row_indices": DOCUMENTS.to_paddle().reshape(shape),
        "sequence_parallel": sequence_parallel,
        "reshard_layer": reshard_layer,
    }
    with paddle_flashmask.enabled():
        ours = fusion_ops.fusion_flash_attention(**given)
        theirs = fusion_ops.fusion_flash_attention.__wrapped__(**given)
    if output_attentions:
        assert ours[1] is theirs[1] is None
        ours, theirs = ours[0], theirs[0]
    assert ours.shape == theirs.shape
    assert len(ours.shape) == (2 if sequence_parallel else 3)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


FUNCTIONS = {
    "llama": (llama, ["sequence_parallel", "reshard_layer"]),
    "qwen2": (qwen2, ["sequence_parallel"]),
    "gemma": (gemma, ["sequence_parallel", "reshard_layer"]),
    "mixtral": (mixtral, ["sequence_parallel"]),
    "deepseek_v2": (deepseek_v2, ["sequence_parallel"]),
}
TAKES_INDICES = ("llama", "qwen2", "deepseek_v2")


def columns_among(given: dict):
    return given.get("attn_mask_startend_row_indices", given["attention_mask"])


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name in FUNCTIONS for layout in FUNCTIONS[name][1]])
def test_the_functions_of_the_models_keep_their_layout(name, layout, flash):
    """Against the eager function of the model with a dense mask, which goes through the same layouts."""
    attention = FUNCTIONS[name][0].scaled_dot_product_attention
    given = {
        **states(key_heads=HEADS, value_dim=HEAD_DIM // 2 if name == "deepseek_v2" else HEAD_DIM),
        "output_attentions": False,
        layout: True if layout == "sequence_parallel" else two_ranks_alike,
    }
    if name == "deepseek_v2":
        given["softmax_scale"] = 0.3
    dense = paddle.to_tensor(np.where(DOCUMENTS.to_dense(), np.float32(0), np.finfo(np.float32).min))
    eager = config(use_flash_attention=False, sep_parallel_degree=2)
    if layout == "reshard_layer":  # PaddleNLP's eager functions then forget the dense mask
        expected = two_ranks_alike(
            attention(config=eager, attention_mask=dense, **{**given, layout: None}).reshape([B, S, HEADS, HEAD_DIM]),
            split_axis=1,
            concat_axis=2,
        ).reshape([B, S // 2, 2 * HEADS * HEAD_DIM])
    else:
        expected = attention(config=eager, attention_mask=dense, **given)
    columns = DOCUMENTS.to_paddle()
    mask = (
        {"attention_mask": None, "attn_mask_startend_row_indices": columns}
        if name in TAKES_INDICES
        else {"attention_mask": columns}
    )
    routed = attention_over(attention, columns_among)
    found = routed(config=config(use_flash_attention=flash, sep_parallel_degree=2), **mask, **given)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("mask_heads", [1, 2, 4, 8])
@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("flash", [True, False])
def test_tensor_parallel_ranks_together_are_the_whole(flash, degree, mask_heads):
    """Heads are split before attention; every rank gets the columns of all."""
    rng = np.random.default_rng(mask_heads)
    ends = rng.integers(np.arange(S) + 1, S + 1, (B, mask_heads, S))
    columns = paddle.to_tensor(ends[..., None].astype(np.int32))
    whole = states()

    def attend(given: dict, settings) -> paddle.Tensor:
        given = {**given, "config": settings, "attention_mask": None, "output_attentions": False}
        if flash:
            return fusion_ops.fusion_flash_attention(**given, attn_mask_startend_row_indices=columns)
        routed = attention_over(llama.scaled_dot_product_attention, columns_among)
        return routed(**given, attn_mask_startend_row_indices=columns)

    with paddle_flashmask.enabled():
        expected = attend(whole, config(use_flash_attention=flash))
        ranks = [
            attend(
                {name: state.split(degree, axis=2)[rank] for name, state in whole.items()},
                config(use_flash_attention=flash, tensor_parallel_degree=degree, tensor_parallel_rank=rank),
            )
            for rank in range(degree)
        ]
    np.testing.assert_allclose(paddle.concat(ranks, axis=-1).numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"tensor_parallel_degree": 3}, ValueError, "2 masks of heads .* tensor_parallel_degree = 3"),
        ({"sep_parallel_degree": 2}, NotImplementedError, "2 masks of heads .* sep_parallel_degree = 2"),
        ({"context_parallel_degree": 2}, NotImplementedError, "ring attention takes no mask"),
    ],
)
@pytest.mark.parametrize("flash", [True, False])
def test_what_cannot_be_split_is_refused(settings, error, message, flash):
    given = {
        **states(),
        "config": config(use_flash_attention=flash, **settings),
        "attention_mask": None,
        "output_attentions": False,
        "attn_mask_startend_row_indices": DOCUMENTS.to_paddle().expand([B, 2, S, 1]),
    }
    with paddle_flashmask.enabled(), pytest.raises(error, match=message):
        if flash:
            fusion_ops.fusion_flash_attention(**given)
        else:
            attention_over(llama.scaled_dot_product_attention, columns_among)(**given)


CASES = ["llama", "llama+sequence", "llama+heads", "qwen2+sequence", "mistral", "gemma"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_tensor_parallel_processes_are_one(tmp_path):
    """Whole models, with the shares of a model that is not split: its dense mask, its loss, its gradients."""
    endpoints = [f"127.0.0.1:{port}" for port in free_ports(2)]
    running = []
    for rank in range(2):
        settings = {
            "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_TRAINERS_NUM": "2",
            "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
            "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
            "PADDLE_DISTRI_BACKEND": "gloo",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(tmp_path / f"{rank}.json"), *CASES]
        log = (tmp_path / f"{rank}.log").open("w")
        running.append(subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log))
    try:
        codes = [process.wait(timeout=240) for process in running]
    finally:
        for process in running:
            process.kill()
    assert codes == [0, 0], (tmp_path / "0.log").read_text()[-3000:]
    for rank in range(2):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert list(result) == CASES
        for case, (loss, expected, difference) in result.items():
            assert loss == pytest.approx(expected, rel=1e-6), case
            assert difference < 1e-5, case
