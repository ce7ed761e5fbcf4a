"""FlexAttention of cuDNN's front end as a peer: masks as intervals of keys per query row, in a plan made beforehand."""

from __future__ import annotations

import torch

from .packages import import_first
from .paper_masks import PaperMask
from .peer import INPUTS, Peer, Tensors, checked_backward, of_autograd
from .row_intervals import row_endpoints

MODULE = "cudnn.flex_attention"  # of nvidia-cudnn-frontend


def peer(mask: PaperMask, inputs: Tensors, scale: float) -> Peer:
    """Raises NotRun where the package is absent, and ValueError or NotImplementedError where it refuses the problem."""
    module = import_first(MODULE)
    query, key, value = (inputs[name] for name in INPUTS)
    endpoints = row_endpoints(mask, query.device).repeat(1, query.shape[0])[None]  # [heads of the mask, n, B * S]
    plan = module.create_mask_plan(endpoints, query, key, value, build_backward=True)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return module.flex_attn_func(query, key, value, mask_plan=plan, softmax_scale=scale)

    return checked_backward(of_autograd(attend, inputs, heads_first=False))
