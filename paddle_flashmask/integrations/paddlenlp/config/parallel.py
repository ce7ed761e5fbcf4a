"""Ways to divide a run over several processes: which are refused, and what they imply for other keys."""

from __future__ import annotations

import contextlib
from typing import Any

from ..errors import ConfigError, UnsupportedConfigError
from .arguments import BACKENDS, PADDLENLP_AVERAGE, Arguments
from .machine import uses_gpu
from .value_types import is_on

STAGES = ("stage1", "stage2", "stage3")
PARALLEL_KEYS = (
    "tensor_parallel_degree",
    "pipeline_parallel_degree",
    "sharding_parallel_degree",
    "context_parallel_degree",
    "sep_parallel_degree",
    "expert_parallel_degree",
)
_REFUSED = {
    "pipeline_parallel_degree": "PaddleNLP's pipeline takes the mean of each micro-batch inside its last stage, where "
    "the number of all tokens of the step is not known",
    "expert_parallel_degree": "experts are not divided over processes here",
}
CONTEXT_KEYS = ("context_parallel_degree", "sep_parallel_degree")
"""Two keys with one meaning: the number of processes that hold parts of the same sequences."""
_WITHOUT_CONTEXT = {
    "sequence_parallel": "it divides the rows that context parallelism has divided",
    "use_fused_rope": "its kernel takes as many positions as rows",
}


def check_parallel(values: dict[str, Any]) -> None:
    """Reject what PaddleNLP cannot divide over these processes, before it sets groups up.

    values: the keys that the configuration sets. One process divides nothing, and everything passes.
    """
    import paddle.distributed

    processes = paddle.distributed.get_world_size()
    if processes == 1:
        return
    for key, reason in _REFUSED.items():
        if degree_of(values, key) > 1:
            raise UnsupportedConfigError(
                f"{key} = {values[key]!r} on {processes} processes is not supported in this release: {reason}"
            )
    tensor, sharding = degree_of(values, "tensor_parallel_degree"), degree_of(values, "sharding_parallel_degree")
    context = _check_context_parallel(values)
    stages = str(values.get("sharding") or "").split()
    if len(stages) > 1 or not set(stages) <= set(STAGES):
        raise UnsupportedConfigError(
            f"sharding = {values['sharding']!r} on {processes} processes: one of {', '.join(STAGES)} is supported"
        )
    if sharding > 1 and not stages:
        raise ConfigError(f"sharding_parallel_degree = {sharding} needs sharding, one of {', '.join(STAGES)}")
    if context > 1 and stages in (["stage2"], ["stage3"]):
        raise UnsupportedConfigError(
            f"{_context_name(values)} with sharding = {stages[0]!r}: Paddle adds up no gradients of a context parallel "
            "group there; use stage1"
        )
    if stages == ["stage3"] and tensor > 1:
        raise UnsupportedConfigError(
            f"sharding = 'stage3' with tensor_parallel_degree = {tensor}: PaddleNLP joins tensor parallelism with "
            "stage1 and stage2 only"
        )
    if stages == ["stage3"] and is_on(values.get("load_best_model_at_end", False)):
        raise UnsupportedConfigError(
            "load_best_model_at_end = true with sharding = 'stage3': PaddleNLP cannot load weights into its slices"
        )
    if processes % (tensor * sharding * context):
        degrees = f"tensor_parallel_degree = {tensor} times sharding_parallel_degree = {sharding}"
        if context > 1:
            degrees += f" times the context parallel degree, {context}"
        raise ConfigError(f"{processes} processes cannot be divided by {degrees}")


def _check_context_parallel(values: dict[str, Any]) -> int:
    """Return the degree. Reject what does not go with more than one process of a context parallel group."""
    degrees = [degree for key in CONTEXT_KEYS if (degree := degree_of(values, key)) > 1]
    if not degrees:
        return 1
    if len(degrees) > 1:
        raise ConfigError(f"{' and '.join(CONTEXT_KEYS)} mean the same: give one of them")
    name = _context_name(values)
    if not is_on(values.get("flash_mask", False)):
        raise UnsupportedConfigError(f"{name} needs flash_mask = true: dense masks are not divided")
    for other, reason in _WITHOUT_CONTEXT.items():
        if is_on(values.get(other, False)):
            raise UnsupportedConfigError(
                f"{name} with {other} = {values[other]!r} is not supported in this release: {reason}"
            )
    if values.get("loss_average") == PADDLENLP_AVERAGE:
        raise UnsupportedConfigError(
            f"{name} with loss_average = {PADDLENLP_AVERAGE!r}: PaddleNLP takes the mean of each process alone"
        )
    return degrees[0]


def _context_name(values: dict[str, Any]) -> str:
    return next(f"{key} = {values[key]}" for key in CONTEXT_KEYS if degree_of(values, key) > 1)


def context_parallel_degree(training: Any) -> int:
    """The number of processes that hold parts of the same sequences. training: PaddleNLP's training arguments."""
    return max(*(getattr(training, key) for key in CONTEXT_KEYS), 1)


def is_tensor_parallel(values: dict[str, Any]) -> bool:
    """Whether a layer is divided over several processes."""
    import paddle.distributed

    return paddle.distributed.get_world_size() > 1 and degree_of(values, "tensor_parallel_degree") > 1


def parallel_setup(values: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """What must hold while PaddleNLP parses the values, when it joins the processes."""
    import paddle.distributed

    if paddle.distributed.get_world_size() == 1 or uses_gpu(values):
        return contextlib.nullcontext()
    from ..gloo import gloo_groups

    return gloo_groups()


def settle_parallel(arguments: Arguments, values: dict[str, Any], length_key: str) -> None:
    """Apply what the degrees imply for other keys, with notes.

    values: the keys that the configuration sets. length_key: of the tokens in a pack.
    """
    training, notes = arguments.training, arguments.notes
    if training.world_size == 1:
        for key in PARALLEL_KEYS:
            if degree_of(values, key) > 1:
                notes.append(f"{key} = {values[key]} has no effect: there is one process")
        if values.get("sharding"):
            notes.append(f"sharding = {values['sharding']!r} has no effect: there is one process")
        return
    _check_groups(training)
    notes.append(_division(training))
    if values.get("sharding") and not training.sharding:
        notes.append(f"sharding = {values['sharding']!r} has no effect: sharding_parallel_degree is 1")
    if is_on(values.get("unified_checkpoint", False)) and not training.unified_checkpoint:
        notes.append("unified_checkpoint is switched off: PaddleNLP has none for sharding stage3")
    training.split_inputs_sequence_dim = False  # models divide their batches themselves
    if context_parallel_degree(training) > 1 and arguments.backend != BACKENDS[0]:
        raise UnsupportedConfigError(
            f"{_context_name(values)} with flashmask_backend = {arguments.backend!r}: Paddle's operator takes whole "
            "sequences"
        )
    if training.sequence_parallel and training.tensor_parallel_degree > 1:
        _settle_sequence_parallel(arguments, length_key)


def _check_groups(training: Any) -> None:
    """Raise ConfigError where an earlier run in this process set other groups up: fleet keeps the first ones."""
    from ..processes import hybrid_groups

    groups = hybrid_groups()
    if groups is None:
        return
    kept = {
        "tensor_parallel_degree": groups.get_model_parallel_world_size(),
        "sharding_parallel_degree": groups.get_sharding_parallel_world_size(),
        "context_parallel_degree": groups.get_sep_parallel_world_size(),
    }
    asked = {key: max(getattr(training, key), 1) for key in kept}
    asked["context_parallel_degree"] = context_parallel_degree(training)
    if kept != asked:
        names = ", ".join(f"{key} = {degree}" for key, degree in asked.items())
        raise ConfigError(
            f"{names}: an earlier run in this process had {', '.join(map(str, kept.values()))}, which fleet keeps; "
            "start new processes"
        )


def _settle_sequence_parallel(arguments: Arguments, length_key: str) -> None:
    """PaddleNLP's models then take every batch to be as long as a full pack."""
    length, degree = getattr(arguments.data, length_key), arguments.training.tensor_parallel_degree
    if length % degree:
        raise ConfigError(
            f"{length_key} = {length} is not a multiple of tensor_parallel_degree = {degree}, over which "
            "sequence_parallel divides it"
        )
    if not arguments.pads_to_max_length:
        arguments.data.pad_to_max_length = True
        arguments.notes.append("pad_to_max_length is switched on: sequence_parallel needs batches of one length")


def _division(training: Any) -> str:
    processes = training.world_size
    if not training.use_hybrid_parallel:
        return f"{processes} processes, data parallel: each takes batches of its own"
    degrees = {
        "tensor parallel": training.tensor_parallel_degree,
        "".join(f"sharding {option.value}" for option in training.sharding): training.sharding_parallel_degree,
        "context parallel": context_parallel_degree(training),
        "data parallel": training.data_parallel_degree,
    }
    ways = " x ".join(f"{degree} {way}" for way, degree in degrees.items() if degree > 1)
    return f"{processes} processes: {ways}; {training.dataset_world_size} of them take batches of their own"


def degree_of(values: dict[str, Any], key: str) -> int:
    """The degree that a key asks for, at least 1."""
    try:
        return max(int(values.get(key, 1)), 1)
    except (TypeError, ValueError):  # the parser reports it with the expected type
        return 1
