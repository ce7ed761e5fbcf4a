"""Shared parts of tests, tools/gpu_check and benchmarks: the C ABI, dense attention, random masks, the error rule."""
