"""Networks on disk: the released folders, our own folders of safetensors, and the way from one to the other.

load_network(path, "stage1", device="cuda") is in `loading`, convert(source, destination) in `convert`.
"""
