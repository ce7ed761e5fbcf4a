"""PaddleNLP: its models on the operator, and packed training from its configuration files."""
