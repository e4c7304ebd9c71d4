"""What cogvideo-tiny draws, as the embedded detectors see it: shape, colour and motion, all three, and its captions.

python benchmarks/embedded_model.py                       # the model that comes with the package, 128 clips
python benchmarks/embedded_model.py --pipeline DIR --clips 64 --set guidance_scale=3 --sheet sheet.png
python benchmarks/embedded_model.py --run runs/ucf101/cogvideo-tiny-44f6bb67   # the clips of a run of `cogeval ucf101`

Rows: real clips, the same through the image tokenizer, generated ones, and generated ones of the pairs of shape and
motion that no training clip had; --style plain for a model that learnt from plain clips. A first frame is judged by
the network for single frames (shape and colour). Motion may also be called "still" or "jumbled"; in the column "of 9"
the likeliest of the nine counts that a prompt can ask for.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cogvideo.pipeline import CogVideo
from cogvideo.settings import GenerationSettings, suited, unlike_release
from cogvideo.shipped import FOLDER
from cogvideo.video import read_clip
from eval.datasets.shapes_drawing import MOTIONS, STYLES, ShapeClass, classes, draw_clip
from eval.detectors.shapes import FRAME_HEADS, I3D_HEADS, load_clip, load_frames, load_i3d
from eval.records import read_manifest, read_samples

WEIGHTS = Path(__file__).parents[1] / "eval" / "embedded"
FRAMES = 17
# Of a clip, what the detectors read.
SCORED = 16
COLUMNS = ("shape", "colour", "motion", "of 9", "all", "first", "clip", "mixed")


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.run:
        _show_run(options.run)
        return
    model = CogVideo.load(options.pipeline, dtype=getattr(torch, options.dtype), superres=False)
    settings = _settings(model.networks.settings, options.set)
    print(f"{model.networks.name}, {options.dtype}, settings {unlike_release(settings)}")
    judge = Judge()
    known, held_out = classes("benchmark"), tuple(set(classes("all")) - set(classes("training")))
    held_out = tuple(sorted(held_out, key=lambda one: one.name))
    wanted = [known[number % len(known)] for number in range(options.clips)]
    print(f"{'clips':<24}{'n':>5}" + "".join(f"{name:>8}" for name in COLUMNS))
    real = [draw_clip(of.shape, of.colour, of.motion, f"model/{k}", style=options.style) for k, of in enumerate(wanted)]
    judge.show("real", real, wanted)
    judge.show("reconstructed", [model.decode(model.encode(clip)) for clip in real], wanted)
    clips = _made(model, settings, wanted, options.seed)
    judge.show("generated", clips, wanted, is_by_name=options.by_name)
    if options.held_out:
        unseen = [held_out[number % len(held_out)] for number in range(options.held_out)]
        made = _made(model, settings, unseen, options.seed)
        judge.show("generated, held out", made, unseen, is_by_name=options.by_name)
    if options.sheet:
        _sheet(clips, options.sheet)


class Judge:
    """The embedded detectors."""

    def __init__(self) -> None:
        self.video = load_i3d(WEIGHTS / "i3d-shapes.safetensors")
        self.frame = load_frames(WEIGHTS / "frame-shapes.safetensors")
        self.clip = load_clip(WEIGHTS / "clip-shapes.safetensors")

    def right(self, clips: list[Any], wanted: list[ShapeClass]) -> dict[str, torch.Tensor]:
        """For each clip, whether each part is named as it was asked for."""
        batch = torch.from_numpy(np.stack([clip[:SCORED] for clip in clips])).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        logits = self.video(batch)["logits"]
        found = _named(logits, I3D_HEADS, wanted)
        # The motions come first in their head, which is the last one.
        motions = logits[:, -len(I3D_HEADS["motion"]) :][:, : len(MOTIONS)]
        found["of 9"] = _named(motions, {"motion": MOTIONS}, wanted)["motion"]
        found["all"] = torch.stack([found[head] for head in I3D_HEADS]).all(0)
        first = _named(self.frame.engine(batch[:, :, 0])["logits"], FRAME_HEADS, wanted)
        found["first"] = torch.stack(list(first.values())).all(0)
        pictures = torch.nn.functional.normalize(self.clip(batch)["embedding"].mean(1), dim=-1)
        words = torch.nn.functional.normalize(self.clip.encode_text([one.caption for one in wanted]), dim=-1)
        found["clip"] = (pictures * words).sum(1)
        found["mixed"] = (pictures * words.roll(7, 0)).sum(1)
        return found

    def show(self, what: str, clips: list[Any], wanted: list[ShapeClass], *, is_by_name: bool = False) -> None:
        found = self.right(clips, wanted)
        numbers = "".join(f"{found[name].float().mean():>8.3f}" for name in COLUMNS)
        print(f"{what:<24}{len(clips):>5}{numbers}", flush=True)
        if not is_by_name:
            return
        for head in ("shape", "motion"):
            for value in dict.fromkeys(getattr(one, head) for one in wanted):
                rows = torch.tensor([getattr(one, head) == value for one in wanted])
                part, nine, whole = (found[name][rows].float().mean() for name in (head, "of 9", "all"))
                print(f"  {head} {value:<12} {part:.2f}  of 9 {nine:.2f}  all {whole:.2f}")


def _named(
    logits: torch.Tensor, heads: dict[str, tuple[str, ...]], wanted: list[ShapeClass]
) -> dict[str, torch.Tensor]:
    found, first = {}, 0
    for head, values in heads.items():
        asked = torch.tensor([values.index(getattr(one, head)) for one in wanted])
        found[head] = logits[:, first : first + len(values)].argmax(1) == asked
        first += len(values)
    return found


def _made(model: CogVideo, settings: GenerationSettings, wanted: list[ShapeClass], seed: int) -> list[Any]:
    since, cpu = time.perf_counter(), time.process_time()
    videos = model.generate(
        [one.caption for one in wanted],
        frames=FRAMES,
        superres=False,
        seeds=[seed * 100_003 + number for number in range(len(wanted))],
        settings=settings,
    )
    took = f"{time.perf_counter() - since:.0f} s, {time.process_time() - cpu:.0f} CPU s"
    print(f"  {len(videos)} clips made in {took}: { ({phase: round(s) for phase, s in model.seconds.items()}) }")
    return [video.clip for video in videos]


def _show_run(run: Path) -> None:
    """The samples of a run on embedded data, as they lie in its folder."""
    samples, by_name = read_samples(run), {one.name: one for one in classes("all")}
    planned = [one for one in read_manifest(run).planned if one.id in samples and samples[one.id].ok]
    print(f"{'clips':<24}{'n':>5}" + "".join(f"{name:>8}" for name in COLUMNS))
    clips = [read_clip(run / samples[one.id].file) for one in planned]
    Judge().show(run.name[:23], clips, [by_name[one.label] for one in planned])


def _settings(own: GenerationSettings, changes: list[str]) -> GenerationSettings:
    """The model's own with what --set says: `guidance_scale=3`, `video.temperature=0.9`."""
    values = unlike_release(own)
    for change in changes:
        name, _, text = change.partition("=")
        value = None if text == "off" else float(text)
        head, _, part = name.partition(".")
        if part:
            value = int(value) if part.startswith("top") else value  # type: ignore[arg-type]
            values[head] = {**values.get(head, {}), part: value}
        else:
            values[head] = value
    return replace(suited(values, "--set"), is_parallel=True)


def _sheet(clips: list[Any], path: Path) -> None:
    """Every second frame of sixteen clips as rows."""
    from PIL import Image

    rows = [np.concatenate(list(clip[::2]), axis=1) for clip in clips[:16]]
    Image.fromarray(np.concatenate(rows)).save(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=FOLDER)
    parser.add_argument("--run", type=Path, help="judge the samples of a run folder instead of making some")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--held-out", type=int, default=0, help="clips of pairs that training never had")
    parser.add_argument("--style", choices=tuple(STYLES), default="textured", help="of the real clips")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of generation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--by-name", action="store_true", help="each shape and motion apart")
    parser.add_argument("--sheet", type=Path, help="a picture of sixteen clips")
    return parser.parse_args()


if __name__ == "__main__":
    main()
