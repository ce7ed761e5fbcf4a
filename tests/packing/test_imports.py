"""Packing runs in data-loader workers, so importing it imports no framework."""

from __future__ import annotations

import subprocess
import sys


def test_packing_imports_neither_paddle_nor_paddlenlp():
    code = (
        "import sys, paddle_flashmask.packing;"
        "print([m for m in ('paddle', 'paddlenlp', 'torch', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"
