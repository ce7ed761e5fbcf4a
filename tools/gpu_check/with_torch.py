"""Access to torch for the parts that need it, so that every part can list its cases without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .outcome import NotRun
from .plan import Settings

if TYPE_CHECKING:
    import torch


def torch_device(settings: Settings) -> torch.device:
    """The GPU, or the CPU in a rehearsal.

    Raises:
        NotRun: torch is not installed, or sees no GPU.
    """
    try:
        import torch
    except ImportError:
        raise NotRun("torch is not installed") from None
    if not settings.emulated and not torch.cuda.is_available():
        raise NotRun("torch sees no GPU")
    return torch.device("cpu" if settings.emulated else "cuda")


def open_checks(settings: Settings) -> Any:
    """Instance of torch_checks.Checks. Raises NotRun as torch_device does."""
    device = torch_device(settings)
    from .torch_checks import Checks

    return Checks(settings.library, device)
