"""PaddleNLP's configuration files: read, parsed by PaddleNLP's own classes, checked and fitted to this machine."""
