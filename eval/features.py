"""Detectors over clips: streamed in fixed shards, each written whole, so that nothing finished is computed twice.

Shapes: N clips, T frames, H x W pixels, D features. A shard holds SHARD clips in id order whatever the batch size,
the workers or the interruptions were, because a network's last bits may depend on what else is in its batch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout

from cogvideo.errors import UserError
from cogvideo.weights import WeightFile, cache_home
from eval.decoding import DecodePool
from eval.generators.contract import Clip, ClipRef, Reconstruction
from eval.plan import RealClip
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol, jsonable, short_hash
from eval.records import whole_file
from eval.registry import detectors
from eval.scoring import FeatureSet

if TYPE_CHECKING:
    from eval.detectors.contract import Detector

SHARD = 16
PAUSE_S = 0.2
FEATURES_VERSION = 1
Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


@dataclass(frozen=True)
class Need:
    """One pass of one detector: what `MetricSpec.feature_key` stands for, with every layer that a metric asks for."""

    key: str
    detector: str
    weights: str
    preprocess: Preprocess
    options: tuple[tuple[str, Any], ...]
    layers: tuple[str, ...]


def needs_of(protocol: Protocol) -> list[Need]:
    """The distinct passes of a protocol; metrics on the same network and pixels share one."""
    grouped: dict[str, list[MetricSpec]] = {}
    for spec in protocol.metrics:
        if spec.detector:
            grouped.setdefault(spec.feature_key, []).append(spec)
    needs = []
    for key, specs in grouped.items():
        first = specs[0]
        assert first.preprocess is not None, f"{first.id} names a detector and no preprocessing"
        layers = tuple(sorted({spec.layer for spec in specs}))
        needs.append(Need(key, first.detector, first.weights, first.preprocess, first.detector_options, layers))
    return needs


class Extractor:
    """All detectors of a protocol on one device; loaded when the first clip comes.

    `files` maps each weight name to its file (the preprocessing's mean clip too). `device` and `dtype` as torch
    names them; `backend` "eager" or "inductor".
    """

    def __init__(
        self,
        needs: Sequence[Need],
        rule: ClipRule,
        files: Mapping[str, WeightFile],
        *,
        device: str = "cpu",
        dtype: str = "float32",
        backend: str = "eager",
    ) -> None:
        self.needs = list(needs)
        self.rule = rule
        self.files = files
        self.device = device
        self.dtype = dtype
        self.backend = backend
        self._loaded: dict[str, Detector] = {}

    def detector(self, need: Need) -> Detector:
        """The network of a need, loaded once. Raises UserError if its weights do not fit."""
        if need.key not in self._loaded:
            load = detectors.get(need.detector).make
            file = self.files.get(need.weights)
            self._loaded[need.key] = load(
                file.path if file else None,
                device=self.device,
                dtype=self.dtype,
                backend=self.backend,
                options=dict(need.options),
            )
        return self._loaded[need.key]

    def check(self) -> None:
        """Load every network and hold its layers and least length against the protocol, before any work is done."""
        for need in self.needs:
            network = self.detector(need)
            missing = [layer for layer in need.layers if layer not in network.layers]
            if missing:
                raise UserError(
                    f"detector {need.detector} has no layer {missing[0]!r}; it has {', '.join(network.layers)}"
                )
            if self.rule.frames < network.min_frames:
                raise UserError(
                    f"detector {need.detector} needs clips of at least {network.min_frames} frames,"
                    f" the protocol has {self.rule.frames}; choose a protocol with longer clips"
                )

    def __call__(self, clips: Sequence[Clip], ids: Sequence[str], needs: Sequence[Need]) -> Arrays:
        """Features of at most SHARD clips, as "key:layer" -> (n, ...) float32. Raises UserError on a NaN."""
        import torch

        from eval.preprocess import apply, stacked, to_protocol_size

        sized = [to_protocol_size(clip, self.rule) for clip in clips]
        paths = {name: file.path for name, file in self.files.items()}
        found: Arrays = {}
        for need in needs:
            network = self.detector(need)
            rows: dict[str, list[np.ndarray[Any, np.dtype[np.float32]]]] = {layer: [] for layer in need.layers}
            for at in range(0, len(sized), network.chunk):
                prepared = [apply(clip, need.preprocess, files=paths) for clip in sized[at : at + network.chunk]]
                batch = stacked(prepared + [torch.zeros_like(prepared[0])] * (network.chunk - len(prepared)))
                with torch.inference_mode():
                    layers = network(batch.to(self.device))
                for layer in need.layers:
                    rows[layer].append(layers[layer][: len(prepared)].float().cpu().numpy())
            for layer in need.layers:
                values = np.concatenate(rows[layer])
                _refuse_non_finite(values, ids, need, layer)
                found[f"{need.key}:{layer}"] = values
        return found

    def warnings(self) -> list[str]:
        """What the networks in use found worth telling, e.g. captions that were cut off."""
        return [text for network in self._loaded.values() for text in network.warnings]

    def reads_text(self, need: Need) -> bool:
        """Whether the network of a need has a text side."""
        from eval.detectors.contract import Detector

        return type(self.detector(need)).encode_text is not Detector.encode_text

    def encode_text(self, need: Need, captions: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Embeddings (N, D) of captions, each computed once, in one order whatever the samples were."""
        import torch

        unique = sorted(set(captions))
        with torch.inference_mode():
            encoded = self.detector(need).encode_text(unique).float().cpu().numpy()
        row = {caption: index for index, caption in enumerate(unique)}
        return np.asarray(encoded[[row[caption] for caption in captions]], dtype=np.float32)


class ShardFolder:
    """Feature shards on disk: `00000.npz`, ... each with its ids; a shard exists whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, number: int) -> Path:
        return self.path / f"{number:05d}.npz"

    def lock(self, number: int) -> Path:
        """What a process locks that makes a shard which others may want too."""
        return self.path / f".{number:05d}.lock"

    def write(self, number: int, ids: Sequence[str], arrays: Arrays) -> None:
        with whole_file(self.file(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, ids=np.array(ids, dtype=np.str_), **arrays)  # type: ignore[arg-type]

    def ids(self, number: int) -> list[str] | None:
        """Ids of a finished shard, or None. A damaged one is taken away, to be made again."""
        path = self.file(number)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file) as stored:
                return [str(name) for name in stored["ids"]]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            path.unlink()
            return None

    def load(self, name: str) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float32]]]:
        """All ids and the values of "key:layer" in shard order. Raises UserError if there is none."""
        ids: list[str] = []
        values = []
        for path in sorted(self.path.glob("[0-9]*.npz")):
            with np.load(path) as stored:
                if name not in stored:
                    known = ", ".join(n for n in stored if n != "ids")
                    raise UserError(f"{path} has no features {name}; it has {known}")
                ids += [str(i) for i in stored["ids"]]
                values.append(stored[name])
        if not values:
            raise UserError(f"no features in {self.path}; run the benchmark again to make them")
        return ids, np.concatenate(values)


class _Claim:
    """The shard that this process makes, with the locks that keep others from making it as well."""

    def __init__(self, number: int, ids: list[str]) -> None:
        self.number, self.ids = number, ids
        self.needs: list[Need] = []
        self._locks: list[FileLock] = []

    def take(self, path: Path) -> bool:
        """False if another process has it."""
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise UserError(
                f"cannot write {path.parent}: {error.strerror or error}; make room, or set COGEVAL_HOME to another"
            ) from None
        self._locks.append(lock)
        return True

    def let_go(self, *, is_made: bool = False) -> None:
        """Once the shard is there nobody needs the files of its locks: who gets one looks for the shard first."""
        for lock in self._locks:
            if is_made:
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
            lock.release()
        self._locks = []


def load_features(run: Path, key: str, layer: str) -> FeatureSet:
    """Features of a run's good samples in id order; `key` is `MetricSpec.feature_key`. Raises UserError.

    Shards also hold those that were rejected beside others (repetitions, other sizes): these are left out here.
    """
    from eval.records import read_samples

    found, values = ShardFolder(run / "features").load(f"{key}:{layer}")
    samples = read_samples(run)
    rows = [row for row, name in enumerate(found) if samples[name].ok]
    ids = tuple(found[row] for row in rows)
    return FeatureSet(ids, ids, tuple(samples[name].label for name in ids), values[rows])


class RealFeatures:
    """Features of real clips, kept in the cache by everything that they depend on, and finished shard by shard.

    With `reconstruction` the clips are first what that image tokenizer makes of them.
    """

    def __init__(self, extractor: Extractor, pool: DecodePool, reconstruction: Reconstruction | None = None) -> None:
        self.extractor = extractor
        self.pool = pool
        self.reconstruction = reconstruction

    def compute(
        self, clips: Sequence[RealClip], advance: Callable[[int], None], pause: Callable[[], None] | None = None
    ) -> None:
        """See that every shard of every need exists; `advance` takes the number of clips that are done.

        Each shard is made by one process, whoever else wants it: processes of one run and of others claim shards by
        file locks, and wait for what others have claimed. A claim ends with its process. `pause` is called in between.
        """
        folders = {need.key: self.folder(need, clips) for need in self.extractor.needs}
        waiting = [(at // SHARD, clips[at : at + SHARD]) for at in range(0, len(clips), SHARD)]
        while waiting:
            before = len(waiting)
            waiting = self._one_pass(waiting, folders, advance)
            if len(waiting) == before:
                (pause or _pause)()

    def _one_pass(
        self,
        shards: Sequence[tuple[int, Sequence[RealClip]]],
        folders: Mapping[str, ShardFolder],
        advance: Callable[[int], None],
    ) -> list[tuple[int, Sequence[RealClip]]]:
        """Make every shard that can be claimed; gives those that others are making."""
        left: list[tuple[int, Sequence[RealClip]]] = []
        claims: deque[_Claim] = deque()

        def refs() -> Iterator[ClipRef]:
            # Drawn from as decoding goes on, so that a shard is claimed shortly before it is made.
            for number, shard in shards:
                claim = self._claim(number, shard, folders)
                if claim is None:
                    left.append((number, shard))
                elif claim.needs:
                    claims.append(claim)
                    yield from (clip.ref for clip in shard)
                else:
                    advance(len(shard))

        try:
            frames: list[Clip] = []
            for clip in self.pool.clips(refs()):
                frames.append(clip if self.reconstruction is None else self.reconstruction.apply(clip))
                if len(frames) == len(claims[0].ids):
                    claim = claims[0]
                    arrays = self.extractor(frames, claim.ids, claim.needs)
                    for need in claim.needs:
                        own = {name: values for name, values in arrays.items() if name.startswith(f"{need.key}:")}
                        folders[need.key].write(claim.number, claim.ids, own)
                    claims.popleft().let_go(is_made=True)
                    advance(len(claim.ids))
                    frames = []
        finally:
            for claim in claims:
                claim.let_go()
        return left

    def _claim(self, number: int, shard: Sequence[RealClip], folders: Mapping[str, ShardFolder]) -> _Claim | None:
        """This process' claim on what is missing of a shard (with no needs: nothing is); None if others have it."""
        ids = [clip.id for clip in shard]
        claim = _Claim(number, ids)
        for need in self.extractor.needs:
            folder = folders[need.key]
            if folder.ids(number) == ids:
                continue
            if not claim.take(folder.lock(number)):
                claim.let_go()
                return None
            if folder.ids(number) != ids:  # else made while we asked
                claim.needs.append(need)
        if not claim.needs:
            claim.let_go(is_made=True)
        return claim

    def load(self, clips: Sequence[RealClip], need: Need, layer: str) -> FeatureSet:
        ids, values = self.folder(need, clips).load(f"{need.key}:{layer}")
        groups = tuple(clip.group for clip in clips)
        return FeatureSet(tuple(ids), groups, tuple(clip.label for clip in clips), values)

    def folder(self, need: Need, clips: Sequence[RealClip]) -> ShardFolder:
        """A folder named by all that the values depend on: clips with file sizes, pixels, network, device."""
        file = self.extractor.files.get(need.weights)
        extra = self.extractor.files.get(need.preprocess.subtract)
        sizes: dict[str, int] = {}
        described = hashlib.sha256()
        for clip in clips:
            size = sizes.setdefault(clip.ref.path, -1)
            if size < 0:
                size = sizes[clip.ref.path] = Path(clip.ref.path).stat().st_size
            described.update(json.dumps([clip.id, clip.ref.frames, clip.ref.stride, clip.ref.fps, size]).encode())
        rest = {
            "version": FEATURES_VERSION,
            "detector": need.detector,
            "weights": file.sha256 if file else "",
            "subtract": extra.sha256 if extra else "",
            "options": need.options,
            "layers": need.layers,
            "preprocess": jsonable(need.preprocess),
            "rule": jsonable(self.extractor.rule),
            "device": self.extractor.device.split(":")[0],
            "dtype": self.extractor.dtype,
            "backend": self.extractor.backend,
        }
        if self.reconstruction is not None:
            rest["reconstruction"] = self.reconstruction.identity
        return ShardFolder(cache_home() / "features" / short_hash([rest, described.hexdigest()], 32))


def _pause() -> None:
    time.sleep(PAUSE_S)


def _refuse_non_finite(
    values: np.ndarray[Any, np.dtype[np.float32]], ids: Sequence[str], need: Need, layer: str
) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        bad = [name for name, good in zip(ids, finite, strict=True) if not good]
        raise UserError(
            f"features {layer} of {need.detector} are not finite for {len(bad)} of {len(ids)} clips, first {bad[0]};"
            f" check the weights {need.weights} with `cogeval weights verify {need.weights}` and use --dtype float32"
        )
