"""Rows of PaddleNLP's and Hugging Face's data files to tokens and packs."""
