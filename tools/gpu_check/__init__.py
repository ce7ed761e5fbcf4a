"""Checks of the kernels on a GPU, run by `tools/gpu_check.sh`. Each part is a list of cases and has its own process."""
