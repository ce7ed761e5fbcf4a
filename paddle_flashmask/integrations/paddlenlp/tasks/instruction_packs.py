"""What tasks on instruction files share: the keys of their packing."""

from __future__ import annotations

from typing import Any

from ..config.arguments import Arguments
from ..errors import ConfigError


def settle_packing(arguments: Arguments) -> None:
    """Check the packing keys, and switch `zero_padding` on where `flash_mask` needs it, with a note."""
    data = arguments.data
    if arguments.model.flash_mask and not data.zero_padding:
        data.zero_padding = True
        arguments.notes.append("zero_padding is switched on: flash_mask works on packed data")
    if data.greedy_zero_padding and not data.zero_padding:
        raise ConfigError("greedy_zero_padding = true needs zero_padding = true: it selects how to pack")
    if arguments.options.share_prefixes and not data.zero_padding:
        raise ConfigError("share_prefixes = true needs zero_padding = true: rows share a pack")


def packing_order(data: Any) -> str:
    """The order of packing, as `plan_packs` names it. data: PaddleNLP's DataConfig."""
    if not data.zero_padding:
        return "single"
    return "first_fit_decreasing" if data.greedy_zero_padding else "sequential"
