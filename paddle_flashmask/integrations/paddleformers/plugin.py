"""The file for PaddleFormers' configuration key `custom_register_path`: PaddleFormers executes it."""

from __future__ import annotations

from paddle_flashmask.integrations.paddleformers import register

register()
