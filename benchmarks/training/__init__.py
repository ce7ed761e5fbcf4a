"""SFT, DPO and a reward model through PaddleNLP on the example data: convergence and throughput of packed batches."""
