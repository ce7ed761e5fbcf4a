"""What keeps a run safe to leave unattended: its folder, its checkpoints, its end, signals and NaN."""
