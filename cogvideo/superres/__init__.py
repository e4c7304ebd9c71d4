"""Super-resolution of frames of image tokens (CogView2): direct, as CogVideo uses it, and iterative."""
