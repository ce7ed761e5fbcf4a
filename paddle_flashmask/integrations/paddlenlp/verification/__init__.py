"""Checks that a model, a configuration and its data leak nothing between documents. `verify` is the entry point."""
