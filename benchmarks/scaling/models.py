"""Dimensions of the models that are planned for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A Llama decoder without biases, whose output layer has weights of its own."""

    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    heads_kv: int
    vocabulary: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of one layer."""
        return self.hidden * (2 * self.hidden + 2 * self.heads_kv * self.head_dim + 3 * self.feed_forward)

    @property
    def parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.hidden
        return self.layers * self.layer_weights + norms + 2 * self.vocabulary * self.hidden


# Llama 3 8B and 70B: config.json of meta-llama/Meta-Llama-3-8B and -70B; table 3 of arXiv 2407.21783.
LLAMA_8B = Model("Llama 3 8B", 32, 4096, 14336, 32, 8, 128256)
LLAMA_70B = Model("Llama 3 70B", 80, 8192, 28672, 64, 8, 128256)
MODELS = (LLAMA_8B, LLAMA_70B)
# What a CPU trains in a second; the memory formulas are checked with these.
TINY = Model("tiny", 1, 256, 704, 8, 2, 1024)
SMALL = Model("small", 4, 512, 1408, 8, 4, 4096)
