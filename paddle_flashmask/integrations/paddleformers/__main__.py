"""`python -m paddle_flashmask.integrations.paddleformers` prints the path for the key `custom_register_path`."""

from __future__ import annotations

from pathlib import Path

if __name__ == "__main__":
    print(Path(__file__).with_name("plugin.py"))
