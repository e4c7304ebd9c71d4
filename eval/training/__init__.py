"""Training of the embedded detectors. Nothing that scores a video imports it."""
