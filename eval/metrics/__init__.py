"""One metric a file: a pure function of features, a `torchmetrics.Metric` around it, and a registered `score`."""
