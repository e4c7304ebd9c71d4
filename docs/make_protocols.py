"""Writes docs/protocols.md from the protocols in the code: python docs/make_protocols.py [--check]."""

from __future__ import annotations

import sys
from pathlib import Path

from eval.protocol import MetricSpec, Preprocess, Protocol
from eval.protocols import DEFAULTS, PROTOCOLS

PAGE = Path(__file__).with_name("protocols.md")
HEAD = """# Protocols

A score without its protocol is not a score. Each protocol below is a complete, frozen configuration in
`eval/protocols/`; `--protocol NAME` chooses one, and everything that a flag changes is written into the result, which
is then not comparable with published numbers any more. The fingerprint of a metric is a hash of all that is listed
here, of the weights' SHA-256 and of the list of videos: `cogeval compare` never ranks two that differ.

What is the same in all of them:

- Frames are brought to the protocol's size on both sides alike: largest centred window of the target's shape, then
  an antialiased resize, rounded to whole levels. A size of "own" leaves each video as it is.
- A window starts at a place fixed by the video's name; too short videos are passed over and named.
- Distances are computed in float64. The interval comes from the spread of influence values or of resamples, by source
  video; it is placed around the value at this n, not around the value at infinite n, which stands beside it.
- The floor is the same metric of held-out real clips at the number of the generated ones.
- With `--reference reconstructed`, or `+reconstructed` behind its name, each is a protocol of its own: real clips are
  passed through the model's image tokenizer first (see comparing.md).

This page is written by `python docs/make_protocols.py`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return HEAD + "".join(_section(protocol) for protocol in PROTOCOLS.values())


def _section(protocol: Protocol) -> str:
    rule = protocol.clip
    size = f"{rule.size[0]} x {rule.size[1]} px" if rule.size else "own size"
    given = f", {rule.given} given" if rule.given else ""
    default = [
        f"the default of `cogeval {benchmark}` on {kind}"
        for benchmark, names in DEFAULTS.items()
        for name, kind in zip(names, ("your data", "embedded data"), strict=True)
        if name == protocol.name
    ]
    facts = [
        ("Benchmark", f"`cogeval {protocol.benchmark}`" + (f"; {', '.join(default)}" if default else "")),
        ("Clips", f"{rule.frames} frames{given}, stride {rule.stride}, {rule.choice} window, {size}"),
        ("Generated", f"{protocol.n_fake:,}" if protocol.n_fake else "one for each item"),
        ("Real", (f"{protocol.n_real:,}" if protocol.n_real else "all") + f" of split {protocol.split}"),
        ("Held out", protocol.heldout or "what the reference leaves over"),
        ("Comparable with", protocol.published or "nothing published"),
        ("Comparable with, reconstructed", protocol.published_reconstructed),
        ("Source", protocol.source or "our own"),
    ]
    lines = [f"\n## {protocol.name}\n\n{protocol.title}.\n\n"]
    lines += [f"- {name}: {value}\n" for name, value in facts if value]
    lines.append("\n| metric | network | pixels | settings |\n|---|---|---|---|\n")
    lines += [_row(spec) for spec in protocol.metrics]
    return "".join(lines)


def _row(spec: MetricSpec) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in (*spec.detector_options, *spec.options)) or "none"
    if spec.n_fake:
        settings += f", {spec.n_fake:,} clips"
    return f"| `{spec.id}` | `{spec.weights}`, layer {spec.layer} | {_pixels(spec.preprocess)} | {settings} |\n"


def _pixels(spec: Preprocess | None) -> str:
    if spec is None:
        return "none"
    if spec.size is None:
        return f"{spec.scale}, no resize"
    kernel = f"{spec.kernel}{', antialiased' if spec.antialias or spec.backend == 'pil' else ''}"
    return f"{spec.geometry} to {spec.size[0]}, {kernel}, {spec.grid} grid, {spec.scale}"


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
