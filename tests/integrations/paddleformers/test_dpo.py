"""DPO pairs: the columns of PaddleFormers' data set, and batches of this package for its trainer."""

from __future__ import annotations

import types

import numpy as np
import paddle
import paddleformers.datasets.DPODataset as dpo_data
import pytest
from paddleformers.cli.hparams import FinetuningArguments
from paddleformers.cli.train.dpo.dpo_argument import DPOConfig
from paddleformers.cli.train.dpo.dpo_trainer import DPOTrainer
from paddleformers.datasets.collate import dpo_collate_fn
from paddleformers.nn.criterion.interface import CriterionLayer
from tiny_models import VOCABULARY, build

import paddle_flashmask
from paddle_flashmask.integrations.paddleformers.dpo import DPOBatches, dpo_columns
from paddle_flashmask.packing import pack_preference

ARGUMENTS = types.SimpleNamespace(
    context_parallel_size=1, tensor_model_parallel_size=1, sequence_parallel=False, fp8=False
)
LENGTHS = [(4, 4, 4), (1, 3, 1), (6, 1, 5), (3, 1, 1)]


class Pairs(dpo_data.BaseDPODataSet):
    """PaddleFormers' data set from the point where a pair has been tokenised."""

    def __init__(self, columns: bool, filtered: bool = False):
        self.use_attn_mask_startend_row_indices = columns
        self.use_filtered_label_loss = filtered

    def _preprocess_dpo_example(self, example):
        return {**example, "score_delta": 1.0, "has_mm": [False, False]}

    def _BaseDPODataSet__postprocess_before_concat(self, example):
        answers = [example["chosen"], example["rejected"]]
        total = len(example["prompt"]) + sum(map(len, answers))
        return list(example["prompt"]), [list(a) for a in answers], [len(a) for a in answers], total, {}


def pairs(lengths=LENGTHS) -> list[dict]:
    rng = np.random.default_rng(4)
    keys = ("prompt", "chosen", "rejected")
    return [{k: rng.integers(3, VOCABULARY, n).tolist() for k, n in zip(keys, row, strict=True)} for row in lengths]


def sequences(columns: bool, filtered: bool = False, lengths=LENGTHS) -> list:
    data_set = Pairs(columns, filtered)
    return [data_set._postprocess_sequence(pair) for pair in pairs(lengths)]


def dense_of(columns) -> np.ndarray:
    """[S, S] of causal columns, one bound each."""
    rows = np.arange(len(columns))[:, None]
    return (rows >= rows.T) & (rows < np.asarray(columns)[None])


def test_the_stock_columns_are_one_key_off():
    (columns,) = (s.attn_mask_startend_row_indices for s in sequences(True, lengths=LENGTHS[:1]))
    (dense,) = (s.attention_mask for s in sequences(False, lengths=LENGTHS[:1]))
    assert columns == [11] * 4 + [7] * 3 + [11] * 4
    assert np.argwhere(dense_of(columns) != dense).tolist() == [[row, 3] for row in range(7, 11)]


@pytest.mark.parametrize("filtered", [False, True])
def test_the_corrected_columns_are_the_dense_mask(registered, filtered):
    corrected = sequences(True, filtered)
    assert corrected[0].attn_mask_startend_row_indices == [11] * 3 + [7] * 4 + [11] * 4
    for mine, dense in zip(corrected, sequences(False, filtered), strict=True):
        np.testing.assert_array_equal(dense_of(mine.attn_mask_startend_row_indices), dense.attention_mask)
        assert mine.response_index == dense.response_index


def test_enable_corrects_and_disable_takes_it_back():
    stock = sequences(True)[0].attn_mask_startend_row_indices
    with paddle_flashmask.enabled():
        assert sequences(True)[0].attn_mask_startend_row_indices != stock
    assert sequences(True)[0].attn_mask_startend_row_indices == stock


def test_lengths_below_one_are_refused():
    with pytest.raises(ValueError, match=r"at least one token each; got lengths \(4, 0, 2\)"):
        dpo_columns(4, 0, 2)


def collated(columns: bool, filtered: bool = False) -> dict[str, paddle.Tensor]:
    batch = dpo_collate_fn(
        [sequences(columns, filtered)], None, ARGUMENTS, max_seq_len=40, use_filtered_label_loss=filtered
    )
    return {key: paddle.to_tensor(value) for key, value in batch.items()}


def packed() -> dict[str, np.ndarray]:
    return DPOBatches(0, length=40)(pack_preference(pairs(), 40, order="sequential")[:])


def test_our_batches_are_those_of_the_corrected_data_set(registered):
    theirs, ours = collated(True), packed()
    assert ours.keys() == theirs.keys()
    for key in ("input_ids", "position_ids", "response_labels", "response_indexs"):
        np.testing.assert_array_equal(ours[key], theirs[key].numpy(), err_msg=key)
    key = "attn_mask_startend_row_indices"
    assert ours[key].dtype == np.int32 and ours[key].shape == tuple(theirs[key].shape) == (1, 1, 40, 1)
    np.testing.assert_array_equal(dense_of(ours[key].ravel()), dense_of(theirs[key].numpy().ravel()))
    packs = pack_preference(pairs(), 40, order="sequential")[:]
    dense = DPOBatches(0, length=40, mask="dense")(packs)["attention_mask"]
    np.testing.assert_array_equal(dense[0, 0] > 0, dense_of(ours[key].ravel()))


def criterion_and_model(implementation: str, **options):
    dpo_config = DPOConfig(beta=0.1, loss_type="sigmoid", reference_free=True)
    model = build("llama", implementation, dpo_config=dpo_config, **options)
    return CriterionLayer(model.config), model


def losses_and_gradients(implementation: str, batch: dict, **options):
    """(log-probabilities of the chosen answers, of the rejected ones, loss, gradients) by PaddleFormers' criterion."""
    criterion, model = criterion_and_model(implementation, **options)
    masks = {key: value for key, value in batch.items() if "mask" in key}
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], **masks)
    zero = paddle.zeros([1])
    labels = (batch["response_labels"], batch["response_indexs"], zero, zero)
    chosen, rejected, _, _, loss = criterion(logits, labels)
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    return chosen.numpy().ravel(), rejected.numpy().ravel(), float(loss), gradients


def answers_alone():
    """The same without packing: every answer in a sequence of its own after its prompt, and the loss written out."""
    _, model = criterion_and_model("eager")
    sums = {"chosen": [], "rejected": []}
    for pair in pairs():
        for kind, found in sums.items():
            tokens = paddle.to_tensor([pair["prompt"] + pair[kind]])
            logits = model(input_ids=tokens[:, :-1])[0][0, len(pair["prompt"]) - 1 :]
            log_probabilities = paddle.nn.functional.log_softmax(logits, axis=-1)
            found.append(paddle.take_along_axis(log_probabilities, tokens[0, -len(pair[kind]) :, None], axis=1).sum())
    chosen, rejected = (paddle.stack(sums[kind]) for kind in ("chosen", "rejected"))
    loss = -paddle.nn.functional.log_sigmoid(0.1 * (chosen - rejected)).mean()
    loss.backward()
    return chosen.numpy(), rejected.numpy(), float(loss), {name: p.grad.numpy() for name, p in model.named_parameters()}


def assert_same(found, expected) -> None:
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    for name, gradient in expected[3].items():
        tolerance = 1e-5 * np.abs(gradient).max()
        np.testing.assert_allclose(found[3][name], gradient, rtol=1e-5, atol=tolerance, err_msg=name)


def test_packed_pairs_are_each_answer_alone(registered):
    expected = answers_alone()
    assert_same(losses_and_gradients("paddle_flashmask", collated(True)), expected)
    ours = {key: paddle.to_tensor(value) for key, value in packed().items()}
    assert_same(losses_and_gradients("paddle_flashmask", ours), expected)
    assert_same(losses_and_gradients("eager", collated(False)), expected)


def test_filtered_labels_give_the_same(registered):
    found = losses_and_gradients("paddle_flashmask", collated(True, filtered=True), use_filtered_label_loss=True)
    assert_same(found, answers_alone())


def test_the_stock_columns_change_the_rejected_answers():
    """Without the correction the chosen answers are right and the rejected ones see a token twice."""
    expected = answers_alone()
    found = losses_and_gradients("eager", collated(True))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert np.abs(found[1] - expected[1]).max() > 1e-2


def trainer_losses(implementation: str, mask: str, folder) -> list[float]:
    found = []

    class Trainer(DPOTrainer):
        def compute_loss(self, *arguments, **options):
            loss = super().compute_loss(*arguments, **options)
            found.append(float(loss))
            return loss

    paddle.seed(5)
    config = DPOConfig(beta=0.1, loss_type="sigmoid")
    model, reference = (build("llama", implementation, dpo_config=config) for _ in range(2))
    arguments = FinetuningArguments(
        output_dir=str(folder),
        device="cpu",
        max_steps=6,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        do_train=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        ref_model=reference,
        dpo_config=config,
        args=arguments,
        train_dataset=pack_preference(pairs(LENGTHS * 4), 40),
        data_collator=DPOBatches(0, length=40, mask=mask),
    )
    trainer.set_optimizer_grouped_parameters(model.parameters())
    trainer.train()
    return found


def test_its_trainer_takes_our_batches(registered, tmp_path):
    ours = trainer_losses("paddle_flashmask", "columns", tmp_path / "ours")
    assert len(ours) == 6 and ours[0] == pytest.approx(np.log(2)) and ours[-1] < ours[0] - 0.05
    np.testing.assert_allclose(ours, trainer_losses("eager", "dense", tmp_path / "dense"), rtol=1e-5)
