"""For PaddleFormers' configuration key `custom_register_path`, which executes the file it names."""

from __future__ import annotations

from paddle_flashmask.integrations.paddleformers import register

register()
