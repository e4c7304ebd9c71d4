"""A person's own function as a generator: `python:package.module.function`, or `python:path/to/file.py:function`.

def make(prompts: list[str], seeds: list[int], *, frames: int, height: int, width: int) -> list[numpy.ndarray]

It is given prompts and seeds, and by name what it has a parameter for; it gives a clip for each prompt.
Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from cogvideo.errors import UserError
from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.fitting import Offer, fit, frames_needed
from eval.generators.spec import json_or_text, positive_number, whole_number
from eval.protocol import Protocol
from eval.registry import did_you_mean, generators

KIND = "python"
OWN = ("batch", "timeout")
# What a function may have a parameter for, by name, behind prompts and seeds.
OFFERED = ("frames", "height", "width", "fps", "ids", "labels", "priming", "device")


class _OverrunError(Exception):
    """A call took longer than its person allows."""


class FunctionGenerator(Generator):
    """Asks a function for clips, `batch` at a time, and looks at each before it counts."""

    def __init__(self, argument: str, options: Mapping[str, str], context: GeneratorContext) -> None:
        self._function, self._file = _load(argument)
        self._where = argument if ".py:" not in argument else f"{self._file.name}:{argument.rpartition(':')[2]}"
        self._batch = whole_number(KIND, options, "batch", None, least=1)
        self._timeout = positive_number(KIND, options, "timeout")
        self._device = context.device
        self._protocol: Protocol | None = None
        self._extra = {
            name.replace("-", "_"): json_or_text(value) for name, value in options.items() if name not in OWN
        }
        self._given = {name: value for name, value in sorted(options.items()) if name != "timeout"}
        self._parameters = _check_signature(self._function, self._where, self._extra)
        if self._timeout and not hasattr(signal, "setitimer"):
            raise UserError(f"generator {KIND}: this system has no timer for 'timeout'; leave it out")
        self.title = self._where
        self.name = f"{KIND}-{self._where.rpartition(':')[2].rpartition('.')[2]}"

    def describe(self) -> dict[str, object]:
        """Names, options, and the hash of the file that the function stands in: what it imports is not in it."""
        return {
            "kind": KIND,
            "argument": self._where,
            "options": self._given,
            "source_sha256": hashlib.sha256(self._file.read_bytes()).hexdigest(),
        }

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """Raises UserError if the protocol gives frames that the function has no parameter for."""
        self._protocol = protocol
        if protocol.clip.given and "priming" not in self._parameters:
            raise UserError(
                f"generator {KIND}: {protocol.name} gives {protocol.clip.given} frames to continue; {self._where} has"
                " no parameter 'priming' to take them"
            )
        if protocol.clip.given and protocol.clip.stride > 1:
            raise UserError(
                f"generator {KIND}: {protocol.name} gives frames {protocol.clip.stride} apart; choose another"
            )

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        if self._protocol is None:
            raise RuntimeError("FunctionGenerator.generate before preflight: the protocol is not known")
        made: list[Clip | Rejection] = []
        step = self._batch or len(requests)
        for at in range(0, len(requests), step):
            made += self._ask(requests[at : at + step], self._protocol)
            if progress:
                progress(len(made) / len(requests))
        return made

    def _ask(self, requests: Sequence[Request], protocol: Protocol) -> list[Clip | Rejection]:
        first = requests[0]
        priming = [request.priming for request in requests if request.priming is not None]
        offered = {
            "frames": frames_needed(protocol.clip, first.fps),
            "height": first.height,
            "width": first.width,
            "fps": first.fps,
            "ids": [request.id for request in requests],
            "labels": [request.label for request in requests],
            "priming": priming or None,
            "device": self._device,
        }
        named = {name: value for name, value in offered.items() if name in self._parameters} | self._extra
        prompts, seeds = [request.prompt for request in requests], [request.seed for request in requests]
        clips = self._called(prompts, seeds, named, f"sample {first.id}")
        if not isinstance(clips, Sequence | np.ndarray) and not hasattr(clips, "__len__"):
            raise UserError(
                f"generator {KIND}: expected a list of clips from {self._where}, got {type(clips).__name__}"
            )
        if len(clips) != len(requests):
            raise UserError(
                f"generator {KIND}: {self._where} gave {len(clips)} clips for {len(requests)} prompts; expected one"
                " each"
            )
        return [self._checked(clip, request, protocol) for clip, request in zip(clips, requests, strict=True)]

    def _called(self, prompts: list[str], seeds: list[int], named: Mapping[str, Any], at: str) -> Any:
        """The function's answer. What it prints goes to stderr: stdout is ours."""
        seconds = self._timeout * len(prompts) if self._timeout else None
        try:
            with redirect_stdout(sys.stderr), _time_limit(seconds):
                return self._function(prompts, seeds, **named)
        except _OverrunError:
            raise UserError(
                f"generator {KIND}: {self._where} took longer than {seconds:g} s for {len(prompts)} samples, at {at};"
                " finished samples are kept: raise 'timeout', or mend it and run again"
            ) from None
        except UserError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"generator {KIND}: {self._where} raised {type(error).__name__}: {error}, at {at}, in"
                f" {Path(place.filename).name} line {place.lineno}; finished samples are kept"
            ) from error

    def _checked(self, answer: Any, request: Request, protocol: Protocol) -> Clip | Rejection:
        """The protocol's frames of a clip that a person's code made, or why it is none."""
        video_THWC = _as_array(answer)
        if isinstance(video_THWC, Rejection):
            return video_THWC
        frames, height, width, _ = video_THWC.shape
        offer = Offer(frames, height, width, request.fps, overlap=protocol.clip.given)
        try:
            return fit(KIND, offer, protocol).clip(video_THWC, request.priming)
        except UserError as error:
            return Rejection(str(error))


@generators.register(
    KIND,
    "your own function from prompts and seeds to clips",
    argument="MODULE.FUNCTION or FILE.py:FUNCTION",
    options="batch, timeout, and the function's own",
)
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`python:package.module.function` or `python:file.py:function`.

    Raises UserError if there is no such function, it cannot be imported, or it has no parameter for an option.
    """
    if not argument:
        raise UserError(f"generator {KIND} needs a function: {KIND}:package.module.function or {KIND}:file.py:function")
    return FunctionGenerator(argument, options, context)


def _load(argument: str) -> tuple[Callable[..., Any], Path]:
    """The function and the file that it stands in."""
    if ".py:" in argument:
        place, _, name = argument.rpartition(":")
        module = _module_of_file(Path(place).expanduser())
    else:
        dotted, _, name = argument.rpartition(".")
        if not dotted or not all(part.isidentifier() for part in argument.split(".")):
            raise UserError(f"generator {KIND}: expected package.module.function or file.py:function, got {argument!r}")
        try:
            module = importlib.import_module(dotted)
        except Exception as error:
            raise UserError(
                f"generator {KIND}: {dotted} cannot be imported: {type(error).__name__}: {error}; install it here, or"
                " put its folder on PYTHONPATH"
            ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise UserError(f"generator {KIND}: {argument}: there is no function {name!r}{did_you_mean(name, known)}")
    return function, Path(module.__file__ or "")


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"generator {KIND}: no such file: {path}")
    name = f"cogeval_function_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a file may import what lies beside it
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise UserError(f"generator {KIND}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _check_signature(function: Callable[..., Any], where: str, extra: Mapping[str, Any]) -> frozenset[str]:
    """Names of what may be handed over by name. Raises UserError if the function cannot be called as we do."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise UserError(f"generator {KIND}: {where} does not say what it takes; write a function around it") from None
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    takes_two = len(by_place) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in by_place)
    if not takes_two:
        raise UserError(f"generator {KIND}: expected {where}(prompts, seeds, ...), it takes {len(by_place)} by place")
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p not in by_place[:2]]
    names = {p.name for p in named}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names |= {*OFFERED, *extra}
    for name in extra:
        if name not in names or name in OFFERED:
            known = sorted(names - set(OFFERED)) + list(OWN)
            raise UserError(f"generator {KIND}: {where} has no option {name!r}{did_you_mean(name, known)}")
    needed = [p.name for p in named if p.default is p.empty and p.name not in {*OFFERED, *extra}]
    if needed:
        raise UserError(f"generator {KIND}: {where} needs {', '.join(needed)}; say it as '?{needed[0]}=...'")
    return frozenset(names)


def _as_array(answer: Any) -> Clip | Rejection:
    """uint8 (T, H, W, 3) of an array, a tensor or a list of frames."""
    if answer is None:
        return Rejection("the function gave None instead of a clip")
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu().numpy()
    try:
        found = np.asarray(answer)
    except ValueError:
        return Rejection("the function gave frames of several sizes")
    if found.dtype != np.uint8 or found.ndim != 4 or found.shape[-1] != 3 or 0 in found.shape:
        return Rejection(
            f"expected a uint8 clip (frames, height, width, 3) from the function, got {found.dtype} {found.shape}"
        )
    return found


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raises inside the block when the time is over: Python code at once, compiled code when it returns."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _OverrunError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
