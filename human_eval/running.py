"""A study that is being collected: its design, files, key and clock, and the names that hang on the key.

Every name that a rater sees is a keyed hash of what it stands for: without the key nobody can tell two of them apart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from human_eval.store.clock import Clock
from human_eval.study.building import Stimulus, open_study
from human_eval.study.design import Study


@dataclass(frozen=True)
class Running:
    """What every part of the collection needs to know."""

    folder: Path
    study: Study
    stimuli: dict[str, Stimulus]
    key: bytes
    clock: Clock = field(default_factory=Clock)
    is_simulated: bool = False

    def name_for(self, purpose: str, *parts: object) -> str:
        """128 bits of a keyed hash, as hex."""
        text = "|".join([purpose, *map(str, parts)])
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:32]

    def pseudonym(self, ordinal: int) -> str:
        """A rater's name in the data. It hangs on the place in the order, not on who they are elsewhere.

        A synthetic rater has another one than the person with the same place, so that the two are never mixed up.
        """
        if self.is_simulated:
            return "s-" + self.name_for("simulated rater", ordinal)[:10]
        return ("p-" if ordinal < 0 else "r-") + self.name_for("rater", ordinal)[:10]

    def outside_hash(self, source: str, outside_id: str) -> str:
        """What is kept of a panel's identifier."""
        return self.name_for("outside", source, outside_id)

    def trial_token(self, ordinal: int, position: int) -> str:
        return self.name_for("simulated trial" if self.is_simulated else "trial", ordinal, position)

    def media_name(self, token: str, slot: int) -> str:
        """The last part of a video's address: another one for each rater, page and place."""
        return self.name_for("media", token, slot)

    def number_name(self, ordinal: int, attempt: int = 0) -> str:
        """The address of the environment check's video."""
        return self.name_for("number", ordinal, attempt)

    def code(self, kind: str, pseudonym: str = "") -> str:
        """The code for a panel: complete, screened_out or no_consent."""
        given = getattr(self.study.codes, kind)
        code = given or _letters(self.name_for("code", kind), 8)
        if self.study.codes.per_rater and pseudonym:
            code += "-" + _letters(self.name_for("code", kind, pseudonym), 4)
        return str(code)

    def withdrawal_key(self, pseudonym: str) -> str:
        """What a rater needs to have the answers deleted: 80 bits in four groups."""
        return _letters(self.name_for("withdraw", pseudonym), 16)

    @property
    def key_check(self) -> str:
        """Tells whether a database belongs to this key, without telling the key."""
        return self.name_for("key-check")

    def media_path(self, stimulus_id: str) -> Path:
        return self.folder / "media" / self.stimuli[stimulus_id].file


def open_running(folder: Path, clock: Clock | None = None) -> Running:
    """The study of a folder, with every file checked. Raises UserError."""
    study, stimuli, key = open_study(folder)
    return Running(folder, study, stimuli, key, clock or Clock())


def _letters(name: str, count: int) -> str:
    """Letters and digits that are not taken for each other (no 0, 1, 8, 9), in groups of four."""
    letters = base64.b32encode(bytes.fromhex(name)).decode()[:count]
    return "-".join(letters[at : at + 4] for at in range(0, count, 4))
