"""One network a file: clips -> features or logits. Pixels are prepared by `eval.preprocess` alone."""
