"""PaddleNLP: its models on the operator, and packed training, `train`, from its configurations.

Importing this imports neither Paddle nor PaddleNLP.
"""

from .errors import ConfigError, DataError, RunError, UnsupportedConfigError
from .train import train

__all__ = ["ConfigError", "DataError", "RunError", "UnsupportedConfigError", "train"]
