"""Context parallel training: the rows of a batch's sequences are spread over a group of processes."""
