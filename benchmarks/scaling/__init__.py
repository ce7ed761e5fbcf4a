"""Predictions for many GPUs: memory and step time by formula, from exact counts of the masks."""
