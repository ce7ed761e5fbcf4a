"""Context parallel attention: one sequence whose rows and keys are spread over the ranks of a process group."""

from .agreement import PeerError
from .functional import flashmask_attention

__all__ = ["PeerError", "flashmask_attention"]
