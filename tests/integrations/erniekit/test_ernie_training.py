"""ERNIE 4.5 of PaddleFormers 0.3.1 on SFT packs and DPO pairs: every sample as if alone and as under a dense mask."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle.nn.functional import cross_entropy, log_softmax
from paddleformers.datasets import dpo
from paddleformers.transformers import Ernie4_5Config, Ernie4_5ForCausalLM
from paddleformers.utils.masking_utils import _gen_from_sparse_attn_mask_indices

from paddle_flashmask.packing import SFTCollator, pack_sft

VOCABULARY, SIZE, STEPS = 96, 24, 5
LENGTHS = [5, 9, 7]
PAIRS = [(4, 3, 4), (2, 3, 1)]  # tokens of the prompt, the chosen and the rejected answer


def build(implementation: str = "flashmask") -> Ernie4_5ForCausalLM:
    """The same weights for every implementation: ERNIEKit's two keys select `flashmask`, otherwise `sdpa`."""
    paddle.seed(11)
    config = Ernie4_5Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        _attn_implementation=implementation,
    )
    config.fuse_rms_norm = config.fuse_rope = config.use_cache = False
    return Ernie4_5ForCausalLM(config)


def logits_of(model, **batch) -> paddle.Tensor:
    return model(**batch, return_dict=True).logits


def sft_batch(step: int, mask: str = "columns") -> dict[str, paddle.Tensor]:
    rng = np.random.default_rng(step)
    rows = [rng.integers(3, VOCABULARY, length + 1) for length in LENGTHS]
    packs = pack_sft([{"input_ids": r[:-1], "labels": r[1:]} for r in rows], SIZE, order="sequential")
    made = {key: paddle.to_tensor(value) for key, value in SFTCollator(0, length=SIZE, mask=mask)(packs[:]).items()}
    if mask == "columns":
        made["attn_mask_start_row_indices"] = made.pop("startend_row_indices")  # the key's name in ERNIEKit
    return made


def alone(step: int) -> list[dict[str, paddle.Tensor]]:
    batch = sft_batch(step)
    ends = np.cumsum(LENGTHS)
    keys = ("input_ids", "labels", "position_ids")
    return [{key: batch[key][:, end - n : end] for key in keys} for end, n in zip(ends, LENGTHS, strict=True)]


def sft_losses(implementation: str, batches_of_step) -> list[float]:
    model = build(implementation)
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=model.parameters(), epsilon=1e-6)
    found = []
    for step in range(STEPS):
        total = 0.0
        for batch in batches_of_step(step):
            labels = batch.pop("labels").unsqueeze(-1)
            loss = cross_entropy(logits_of(model, **batch), labels, reduction="sum") / sum(LENGTHS)
            loss.backward()
            total += float(loss)
        optimizer.step()
        optimizer.clear_grad()
        found.append(total)
    return found


def test_sft_steps():
    found = sft_losses("flashmask", lambda step: [sft_batch(step)])
    assert found[-1] != pytest.approx(found[0], rel=1e-3)
    np.testing.assert_allclose(found, sft_losses("sdpa", alone), rtol=1e-5)
    np.testing.assert_allclose(found, sft_losses("eager", lambda step: [sft_batch(step, "dense")]), rtol=1e-5)


def test_sdpa_of_0_3_1_does_not_separate_documents_by_columns():
    """Columns keep only the causal mask there, so the dense side of these tests takes a dense mask."""
    columns = paddle.to_tensor(sft_batch(0)["attn_mask_start_row_indices"]).reshape([1, 1, SIZE, 1])
    visible = _gen_from_sparse_attn_mask_indices(columns, "float32")[0, 0].numpy() == 0
    np.testing.assert_array_equal(visible[: sum(LENGTHS)], np.tri(SIZE, dtype=bool)[: sum(LENGTHS)])


class Pairs(dpo.SequenceDataset):
    """PaddleFormers' data set from the point where a pair has been tokenized."""

    def __init__(self, columns: bool):
        self.use_attn_mask_startend_row_indices = columns
        self.score_delta = 1.0

    def _SequenceDataset__postprocess_before_concat(self, pair):
        prompt, *answers = pair
        lengths = [len(answer) for answer in answers]
        return prompt, answers, answers, lengths, len(prompt) + sum(lengths)


class Pair(tuple):
    score_delta = 1.0


def pairs() -> list[Pair]:
    rng = np.random.default_rng(4)
    return [Pair(rng.integers(3, VOCABULARY, n).tolist() for n in lengths) for lengths in PAIRS]


def dpo_batch(columns: bool) -> dict[str, paddle.Tensor]:
    sequences = [Pairs(columns)._postprocess_sequence(pair) for pair in pairs()]
    labels = ("chosen_labels", "rejected_labels")
    for sequence in sequences:  # lengths of labels are those of the tokenizer, which these tests leave out
        for key in labels:
            setattr(sequence, key, [0] * len(sequence.input_ids))
    batch = dpo.collate_fn([sequences], None, max_seq_len=SIZE)
    keys = ("input_ids", "position_ids", "attention_mask", "attn_mask_startend_row_indices")
    return {key: paddle.to_tensor(batch[key]) for key in keys if key in batch}


def log_probabilities(model, batch) -> list[paddle.Tensor]:
    """The log-probability of the next tokens 3, 4, 5, ... after each token of an answer."""
    logits = log_softmax(logits_of(model, **batch), axis=-1)[0]
    found, start = [], 0
    for prompt, *answers in PAIRS:
        start += prompt
        for length in answers:
            found.append(logits[start : start + length, 3 : 3 + length].trace())
            start += length
    return found


def answers_alone(model) -> list[paddle.Tensor]:
    found = []
    for prompt, *answers in pairs():
        for answer in answers:
            logits = logits_of(model, input_ids=paddle.to_tensor([prompt + answer]))
            logits = log_softmax(logits, axis=-1)[0, len(prompt) :]
            found.append(logits[:, 3 : 3 + len(answer)].trace())
    return found


def dpo_steps(implementation: str, of_model) -> list[list[float]]:
    """Log-probabilities of all answers at every step of training on the reference-free DPO loss."""
    model = build(implementation)
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=model.parameters(), epsilon=1e-6)
    found = []
    for _ in range(STEPS):
        answers = paddle.stack(of_model(model)).flatten()
        loss = -paddle.nn.functional.log_sigmoid(0.1 * (answers[0::2] - answers[1::2])).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        found.append([*answers.tolist(), float(loss)])
    return found


def test_dpo_steps():
    found = dpo_steps("flashmask", lambda model: log_probabilities(model, dpo_batch(True)))
    assert found[-1][-1] < found[0][-1] - 1e-3
    np.testing.assert_allclose(found, dpo_steps("sdpa", answers_alone), rtol=1e-5)
    np.testing.assert_allclose(found, dpo_steps("eager", lambda m: log_probabilities(m, dpo_batch(False))), rtol=1e-5)
