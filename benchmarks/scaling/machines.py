"""Inputs of the predictions: speeds of a machine. None was measured by this project."""

from __future__ import annotations

from dataclasses import dataclass

NODE = 8  # GPUs


@dataclass(frozen=True)
class Machine:
    """Speeds of one GPU and of its links.

    Attributes:
        matmul: FLOP/s of large bfloat16 products.
        attention: FLOP/s of visible pairs in the forward and in the backward pass.
        near: bytes/s in each direction to GPUs of the node.
        far: bytes/s in each direction to other nodes.
        message: seconds before the first byte of a message.
        memory: bytes.
    """

    matmul: float = 790e12
    attention: tuple[float, float] = (584e12, 425e12)
    near: float = 450e9
    far: float = 50e9
    message: float = 10e-6
    memory: float = 80e9


# matmul, attention: published figures in benchmarks/gpu/gates.py (a product of 8192 cubed; causal_document, head_dim
# 128). near: NVLink of an H100, 900 GB/s in both directions together. far: one 400 Gb/s InfiniBand port for each GPU of
# a DGX H100. memory: H100 SXM (NVIDIA's data sheets of both). message: an assumption.
H100 = Machine()
