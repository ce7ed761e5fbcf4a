"""PaddleNLP 3.0.0b: attention through the operator (`patch`), packed fine-tuning from its own configs (`sft`)."""
