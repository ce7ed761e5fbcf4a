"""Programs for building, inspecting and checking the kernels, run from the repository's root."""
