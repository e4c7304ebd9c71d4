"""Any program as a generator: `command:my-program --requests {requests}`, run without a shell.

The program is handed a file of requests (`exchange.py`) and writes a video for each. Each is looked at before it
counts; a run that was stopped keeps what is whole and asks for the rest. Clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cogvideo.errors import MissingPrerequisite, UserError
from eval.generators.command.exchange import FORMATS, Exchange
from eval.generators.command.process import run, tail
from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.spec import check_options, one_of, positive_number, whole_number
from eval.processes import without_torchrun
from eval.protocol import Protocol
from eval.registry import generators

KIND = "command"
NAMES = ("batch", "format", "timeout")
REQUESTS_VARIABLE, VIDEOS_VARIABLE = "COGEVAL_REQUESTS_FILE", "COGEVAL_VIDEOS_DIR"
WHOLE_FILE_BYTES = 64 << 20


class CommandGenerator(Generator):
    """Runs the program for all samples that are still to be made, or for `batch` at a time, and reads its videos."""

    def __init__(self, argument: str, options: Mapping[str, str], context: GeneratorContext) -> None:
        check_options(KIND, options, NAMES)
        self._argv = _argv(argument)
        self._batch = whole_number(KIND, options, "batch", None, least=1)
        self._timeout = positive_number(KIND, options, "timeout")
        self._suffix = "." + one_of(KIND, options, "format", FORMATS, "mp4")
        self._given = {name: value for name, value in sorted(options.items()) if name == "format"}
        self._process, self._device = context.process, context.device
        self._protocol: Protocol | None = None
        self._folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._pending: dict[str, Request] = {}
        self._asked: set[str] = set()
        self._prime: Callable[[Request], Request] = lambda request: request
        self.title = " ".join(_bare(word) for word in self._argv)[:60]
        self.name = f"{KIND}-{Path(self._argv[0]).name}"

    def describe(self) -> dict[str, object]:
        """The words of the command, files by their name alone, with the hashes of those that it names."""
        files = [Path(word) for word in self._argv if Path(word).is_file()]
        small = [path for path in files if path.stat().st_size <= WHOLE_FILE_BYTES]
        return {
            "kind": KIND,
            "argument": shlex.join(_bare(word) for word in self._argv),
            "options": self._given,
            "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in small},
        }

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """Raises MissingPrerequisite if there is no such program, UserError for a protocol that cannot be asked for."""
        self._protocol = protocol
        if shutil.which(self._argv[0]) is None:
            raise MissingPrerequisite(
                f"generator {KIND}: no program {self._argv[0]!r} is found; write its whole path, or put it on PATH"
            )
        if protocol.clip.given and protocol.clip.stride > 1:
            raise UserError(
                f"generator {KIND}: {protocol.name} gives frames {protocol.clip.stride} apart; choose another protocol"
            )

    def begin(self, folder: Path, pending: Sequence[Request], prime: Callable[[Request], Request]) -> None:
        self._folder = folder
        self._pending = {request.id: request for request in pending}
        self._prime = prime

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        exchange = self._exchange()
        made: list[Clip | Rejection] = []
        for request in requests:
            if request.id in self._pending:
                self._ask_from(request.id, exchange)
            clip = exchange.read(request)
            if isinstance(clip, Rejection) and request.id not in self._asked:
                self._run([request], exchange)  # one that was finished before, and whose video was removed
                clip = exchange.read(request)
            made.append(clip)
            if progress:
                progress(len(made) / len(requests))
        return made

    def _exchange(self) -> Exchange:
        if self._protocol is None:
            raise RuntimeError("CommandGenerator.generate before preflight: the protocol is not known")
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="cogeval-command-")
            self._folder = Path(self._temporary.name)
        return Exchange(KIND, self._folder, self._protocol, self._suffix, self._process)

    def _ask_from(self, first: str, exchange: Exchange) -> None:
        """Run the program for the pending requests from this one on, leaving out those whose video is whole."""
        ids = list(self._pending)
        at = ids.index(first)
        batch = [self._pending.pop(name) for name in ids[at : at + (self._batch or len(ids))]]
        lacking = [request for request in batch if isinstance(exchange.read(self._prime(request)), Rejection)]
        if lacking:
            self._run(lacking, exchange)

    def _run(self, requests: Sequence[Request], exchange: Exchange) -> None:
        """The program, once. Raises UserError, with the end of its stderr, if it fails or takes too long."""
        self._asked |= {request.id for request in requests}
        asked = exchange.write(requests[0].id, (self._prime(request) for request in requests))
        places = {"{requests}": str(asked.resolve()), "{videos}": str(exchange.videos.resolve())}
        seconds = self._timeout * len(requests) if self._timeout else None
        try:
            ended = run(
                [_filled(word, places) for word in self._argv],
                environment=self._environment(places),
                stdout=exchange.stdout,
                stderr=exchange.stderr,
                seconds=seconds,
                watch=lambda: self.tell(f"{exchange.written(requests):,} of {len(requests):,} videos written"),
            )
        except OSError as error:
            raise UserError(f"generator {KIND}: {self._argv[0]} cannot be started: {error.strerror or error}") from None
        self.peak_bytes = max(self.peak_bytes, ended.peak_bytes)
        if not (ended.is_overrun or ended.code):
            return
        if ended.is_overrun:
            how = f"took longer than {seconds:g} s for {len(requests):,} samples and was stopped"
        else:
            how = f"ended with exit code {ended.code}" if ended.code > 0 else f"was ended by signal {-ended.code}"
        said = tail(exchange.stderr) or tail(exchange.stdout)
        raise UserError(
            f"generator {KIND}: {self._argv[0]} {how}{f'; it said: {said}' if said else ''} (all of it in"
            f" {exchange.stderr}); videos that are whole are kept: mend it and run the same again"
        )

    def _environment(self, places: Mapping[str, str]) -> dict[str, str]:
        """Ours, with both places. Under `torchrun` a program is no process of ours, and sees its own GPU alone."""
        found = without_torchrun(dict(os.environ))
        if len(found) < len(os.environ) and self._device.startswith("cuda:"):
            visible = [name for name in found.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            index = int(self._device.partition(":")[2])
            found["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) else str(index)
        return found | {REQUESTS_VARIABLE: places["{requests}"], VIDEOS_VARIABLE: places["{videos}"]}


@generators.register(
    KIND,
    "any program that reads a JSONL file of requests and writes videos",
    argument="PROGRAM ARGUMENTS, with {requests} and {videos} for the paths",
    options=", ".join(NAMES),
)
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`command:PROGRAM ARGUMENTS`. Raises UserError for no program, an open quote, or an unknown option or value."""
    return CommandGenerator(argument, options, context)


def _argv(argument: str) -> list[str]:
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise UserError(f"generator {KIND}: cannot split {argument!r} into words: {error}") from None
    if not words:
        raise UserError(f"generator {KIND} needs a program: '{KIND}:my-program --requests {{requests}}'")
    return words


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(name, value)
    return word


def _bare(word: str) -> str:
    """A word of the command; a file by its name alone, so that a run is the same from every folder."""
    return Path(word).name if os.sep in word and Path(word).is_file() else word
