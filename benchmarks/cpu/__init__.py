"""Forward and backward of the operator on the CPU beside PyTorch's, in one process: ``make bench-cpu``."""
