"""Measurements of the CUDA kernels beside their peers, as parts of `tools/gpu_check.sh`."""
