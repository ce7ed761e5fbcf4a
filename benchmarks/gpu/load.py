"""Load of the GPU during a measurement, as nvidia-smi reports it: clock, power, temperature."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time

_LOAD = ("clocks.sm", "power.draw", "temperature.gpu")
_SAMPLE_MILLISECONDS = 200


class LoadSampler:
    """Context manager that samples clock, power and temperature in the background."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, list[float]]] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LoadSampler:
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu={','.join(_LOAD)}", "--format=csv,noheader,nounits"]
            command.append(f"--loop-ms={_SAMPLE_MILLISECONDS}")
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def _read(self) -> None:
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            try:
                self._samples.append((time.monotonic(), [float(word) for word in line.split(",")]))
            except ValueError:  # "[N/A]"
                continue

    def median_since(self, begin: float) -> dict[str, float]:
        """Median of each quantity since `begin` (time.monotonic), or {} without samples."""
        taken = [values for moment, values in list(self._samples) if moment >= begin]
        if not taken:
            return {}
        return {name: statistics.median(column) for name, column in zip(_LOAD, zip(*taken, strict=True), strict=True)}
