"""Ids that are names of pages: from titles, from bytes, and from texts; plain letters whatever the title holds."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST = 48


def slug(text: str, fallback: str) -> str:
    """Lower-case letters, digits, dots and hyphens; `fallback` and a hash where nothing is left of the text.

    >>> slug("Model A, 5.1B", "model"), slug("水", "model")[:6]
    ('model-a-5.1b', 'model-')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:LONGEST].strip("-.")
    return words if re.search("[a-z0-9]", words) else f"{fallback}-{short(text)}"


def short(text: str | bytes, digits: int = 8) -> str:
    """The first hex digits of the SHA-256."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:digits]


def prompt_page(benchmark: str, sample: str, prompt: str) -> str:
    """The page of a prompt: its sample id, and a hash of everything that makes it this prompt."""
    return f"{slug(sample, 'prompt')}-{short(f'{benchmark}/{sample}/{prompt}', 6)}"


def metric_page(metric_id: str) -> str:
    """`fvd/tats-16f-2048` -> `fvd-tats-16f-2048`; ids that would share a page get a hash."""
    name = slug(metric_id.replace("/", "-"), "metric")
    return name if name == metric_id.replace("/", "-") else f"{name}-{short(metric_id, 4)}"
