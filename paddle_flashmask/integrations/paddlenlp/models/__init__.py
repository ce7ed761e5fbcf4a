"""PaddleNLP's models on the operator."""
