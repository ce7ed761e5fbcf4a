"""What `tools/gpu_check.sh` runs. Every part is a list of cases that one process of its own works through."""
