"""A study as people write it: `study.yaml`, its presets, and what it is built from."""
