"""Measurements, each run as `python -m benchmarks.<name>` from the repository's root."""
