"""Videos to trustworthy numbers. Always `from eval.x import y`: the bare name would hide Python's own `eval`."""
