"""What reading a clip costs, ours beside other readers, in CPU time (user + system, children included).

python benchmarks/decode.py DIR --decoders all --frames 16 --stride 1,4
python benchmarks/decode.py --files 1000 --decoders ours --resize 224
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import Any

import av
import numpy as np

from cogvideo.video import Clip, probe, read_clip

# (path, start, frames, stride) -> uint8 (T, H, W, 3)
Reader = Callable[[Path, int, int, int], Clip]
UCF101_FILES = 13_320
SUFFIXES = {".avi", ".mp4", ".mkv", ".mov", ".webm", ".gif"}


def ours(path: Path, start: int, frames: int, stride: int) -> Clip:
    return read_clip(path, start=start, frames=frames, stride=stride)


def pyav_loop(path: Path, start: int, frames: int, stride: int) -> Clip:
    """The loop of PyAV's own documentation: every frame from the beginning, default threads."""
    with av.open(str(path)) as container:
        wanted = islice(container.decode(video=0), start, start + frames * stride, stride)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in wanted])


def pyav_one_thread(path: Path, start: int, frames: int, stride: int) -> Clip:
    """The same loop with one thread for decoding and one for conversion: the floor without leaving Python."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        wanted = islice(container.decode(video=0), start, start + frames * stride, stride)
        return np.stack([frame.reformat(format="rgb24", threads=1).to_ndarray() for frame in wanted])


def readers() -> dict[str, Reader]:
    """Every reader that can be imported here."""
    found: dict[str, Reader] = {"ours": ours, "pyav": pyav_loop, "pyav-1-thread": pyav_one_thread}
    for name, make in (("torchcodec", _torchcodec), ("decord", _decord), ("opencv", _opencv), ("ffmpeg", _ffmpeg)):
        try:
            found[name] = make()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} left out: {str(error).strip().splitlines()[0][:100]}", file=sys.stderr)
    return found


def _torchcodec() -> Reader:
    import torch

    decoders = import_module("torchcodec.decoders")
    torch.set_num_threads(1)

    def read(path: Path, start: int, frames: int, stride: int) -> Clip:
        decoder = decoders.VideoDecoder(
            str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate", device="cpu"
        )
        clip: Clip = decoder.get_frames_in_range(start, start + (frames - 1) * stride + 1, stride).data.numpy()
        return clip

    return read


def _decord() -> Reader:
    decord = import_module("decord")

    def read(path: Path, start: int, frames: int, stride: int) -> Clip:
        reader = decord.VideoReader(str(path), num_threads=1)
        clip: Clip = reader.get_batch(list(range(start, start + frames * stride, stride))).asnumpy()
        return clip

    return read


def _opencv() -> Reader:
    cv2 = import_module("cv2")

    cv2.setNumThreads(1)

    def read(path: Path, start: int, frames: int, stride: int) -> Clip:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        pictures = []
        for index in range(start + (frames - 1) * stride + 1):
            capture.grab()
            if index >= start and (index - start) % stride == 0:
                pictures.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        capture.release()
        return np.stack(pictures)

    return read


def _ffmpeg() -> Reader:
    program = shutil.which("ffmpeg")
    if program is None:
        program = import_module("imageio_ffmpeg").get_ffmpeg_exe()

    def read(path: Path, start: int, frames: int, stride: int) -> Clip:
        with av.open(str(path)) as container:
            height, width = container.streams.video[0].height, container.streams.video[0].width
        chosen = f"select=between(n\\,{start}\\,{start + (frames - 1) * stride})*not(mod(n-{start}\\,{stride}))"
        command = [program, "-v", "error", "-threads", "1", "-noautorotate", "-i", str(path), "-map", "0:v:0"]
        command += ["-vf", chosen, "-fps_mode", "passthrough", "-frames:v", str(frames), "-f", "rawvideo"]
        raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)

    return read


def synthetic(folder: Path, n_files: int, n_frames: int = 180) -> None:
    """Files as UCF-101 has them: 320x240, MPEG-4 with the tag XVID in AVI, a key frame every 12."""
    y, x = np.mgrid[:240, :320]
    for number in range(n_files):
        rng = np.random.default_rng(number)
        texture = rng.integers(0, 60, (300, 400, 3), dtype=np.uint8)
        with av.open(str(folder / f"v_{number:05d}.avi"), "w") as out:
            stream: Any = out.add_stream("mpeg4", rate=25, options={"g": "12", "qscale": "4"})
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            stream.codec_context.codec_tag = "XVID"
            for t in range(n_frames):
                wave = 90 + 80 * np.sin((x + 3 * t) / 40) * np.cos((y - 2 * t) / (30 + number % 7))
                picture = texture[t % 60 : t % 60 + 240, t % 80 : t % 80 + 320] + wave[..., None].astype(np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())


def cpu_s() -> float:
    """CPU seconds of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def resizer(size: int) -> Callable[[Clip], object]:
    """Float bilinear to size x size, on the layout in which the frames lie already."""
    import torch
    from torch.nn.functional import interpolate

    torch.set_num_threads(1)

    def resize(clip_THWC: Clip) -> object:
        frames_TCHW = torch.from_numpy(clip_THWC).permute(0, 3, 1, 2).float()
        return interpolate(frames_TCHW, (size, size), mode="bilinear", align_corners=False)

    return resize


def measure(
    chosen: dict[str, Reader], files: list[Path], window: tuple[int, int, int], rounds: int, resize: int
) -> Iterator[dict[str, Any]]:
    """Median CPU milliseconds a file of each reader; the rounds are interleaved, so that a busy machine hits all."""
    after = resizer(resize) if resize else None
    costs: dict[str, list[float]] = {name: [] for name in chosen}
    difference: dict[str, int] = dict.fromkeys(chosen, 0)
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):
        spent = dict.fromkeys(chosen, 0.0)
        for number, path in enumerate(files):
            reference = None
            # Each in turn is the first to touch the file.
            first = (turn + number) % len(chosen) if turn else 0
            for name in (list(chosen) * 2)[first : first + len(chosen)]:
                if name in failed:
                    continue
                read = chosen[name]
                began = cpu_s()
                try:
                    clip = read(path, *window)
                    if after is not None:
                        after(clip)
                except Exception as error:  # noqa: BLE001 - other people's readers fail in their own ways
                    failed[name] = f"{path.name}: {error}".splitlines()[0][:120]
                    continue
                spent[name] += cpu_s() - began
                if turn == 0:
                    reference = clip if reference is None else reference
                    same = clip.shape == reference.shape
                    gap = int(np.abs(clip.astype(int) - reference).max()) if same else 255
                    difference[name] = max(difference[name], gap)
        if turn:
            # The first round fills caches and looks at the pixels.
            for name in chosen:
                costs[name].append(spent[name] / len(files) * 1e3)
    base = statistics.median(costs["ours"]) if costs.get("ours") else None
    for name in chosen:
        if name in failed:
            yield {"decoder": name, "failed": failed[name]}
            continue
        ms = statistics.median(costs[name])
        yield {
            "decoder": name,
            "cpu_ms": round(ms, 2),
            "lowest_ms": round(min(costs[name]), 2),
            "of_ours": round(ms / base, 2) if base else None,
            "largest_pixel_difference": difference[name],
            "ucf101_cpu_minutes": round(ms * UCF101_FILES / 60_000, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, help="videos (all folders below); drawn here if not given")
    parser.add_argument("--decoders", default="all", help="names with commas, or all")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--stride", default="1,4", help="one or more, with commas")
    parser.add_argument("--start", default="0", help="one or more, with commas")
    parser.add_argument("--files", type=int, default=8, help="at most so many files")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--resize", type=int, default=0, metavar="PIXELS", help="and resize as the detectors want it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()

    known = readers()
    names = list(known) if args.decoders == "all" else args.decoders.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown or missing decoders: {', '.join(unknown)}; here: {', '.join(known)}")
    with tempfile.TemporaryDirectory() as temporary:
        if args.folder is None:
            # A few contents, copied: a thousand different ones would take longer to write than to read.
            made = Path(temporary)
            synthetic(made, min(args.files, 8))
            for number in range(8, args.files):
                shutil.copy(made / f"v_{number % 8:05d}.avi", made / f"v_{number:05d}.avi")
        folder = args.folder or Path(temporary)
        files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES][: args.files]
        if not files:
            parser.error(f"no videos in {folder}")
        for start, stride in product(map(int, args.start.split(",")), map(int, args.stride.split(","))):
            fitting = [path for path in files if probe(path).n_frames > start + (args.frames - 1) * stride]
            if not fitting:
                parser.error(f"no video in {folder} has {args.frames} frames from {start} at stride {stride}")
            if not args.json:
                print(
                    f"\n{args.frames} frames from {start} at stride {stride}; "
                    f"{len(fitting)} files, {args.rounds} rounds"
                )
                print(f"{'decoder':15}{'cpu ms':>9}{'lowest':>9}{'/ ours':>8}{'max diff':>10}{'UCF-101, cpu min':>18}")
            chosen = {name: known[name] for name in names}
            for row in measure(chosen, fitting, (start, args.frames, stride), args.rounds, args.resize):
                if args.json:
                    print(json.dumps({"start": start, "stride": stride, "frames": args.frames, **row}))
                elif "failed" in row:
                    print(f"{row['decoder']:15} failed: {row['failed']}")
                else:
                    print(
                        f"{row['decoder']:15}{row['cpu_ms']:9.2f}{row['lowest_ms']:9.2f}{row['of_ours'] or 0:8.2f}"
                        f"{row['largest_pixel_difference']:10}{row['ucf101_cpu_minutes']:18.2f}"
                    )


if __name__ == "__main__":
    main()
