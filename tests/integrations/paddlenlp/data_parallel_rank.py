"""One process of a launch that trains from several configurations: `python data_parallel_rank.py CONFIG...`."""

from __future__ import annotations

import os
import sys

import paddle.distributed as dist
from paddlenlp.utils.log import logger

from paddle_flashmask.integrations.paddlenlp.train import train

if __name__ == "__main__":
    logger.set_level("ERROR")
    for config in sys.argv[1:]:
        train(config, write=lambda line: print(line, flush=True))
    dist.barrier()
    os._exit(0)  # Gloo's threads sometimes abort while the interpreter ends
