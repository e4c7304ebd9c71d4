"""One source of clips a file: a model, a folder, or a control made from real clips."""
