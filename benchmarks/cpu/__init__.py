"""Forward and backward of the operator on the CPU beside PyTorch's: `make bench-cpu`."""
