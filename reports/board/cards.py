"""Model cards: a YAML file of what is known of models beside their numbers, by id or by generator specification.

models:
  model-a:
    title: Model A
    generators: ["folder:samples/model-a"]     # runs of these are this model
    aliases: [old-id]                          # former ids; their pages lead here
    type: Diffusion
    parameters: 5.1B
    open_weights: true
    bibtex: "@article{...}"
    not_allowed: {"fvd/tats-16f-2048": the licence forbids it}
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ConfigDict, Field, ValidationError

from cogvideo.errors import UserError
from reports.board.document import Card, Id, Part


class GivenCard(Card):
    """A card as written by a person."""

    title: str = ""
    generators: list[str] = Field(default_factory=list)
    aliases: list[Id] = Field(default_factory=list)

    @property
    def card(self) -> Card:
        return Card(**{name: getattr(self, name) for name in Card.model_fields})


class CardFile(Part):
    """The file. `measured_by` is who stands behind runs that are built here; the rest is said on every page."""

    model_config = ConfigDict(extra="forbid")
    title: str = ""
    about: str = ""
    address: str = ""
    data_licence: str = ""
    measured_by: str = ""
    models: dict[Id, GivenCard] = Field(default_factory=dict)


def read_cards(path: Path) -> CardFile:
    """Raises UserError with the place of the first mistake."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = CardFile.model_validate(values or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the cards {path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise UserError(f"{path}: {where}: {first['msg']}; docs/leaderboard.md has the fields of a card") from None
    if found.address and not found.address.startswith(("https://", "http://")):
        raise UserError(f"{path}: address has to start with https://, as the feed and the site map print it")
    for name, card in found.models.items():
        for field in ("link", "paper"):
            if (link := getattr(card, field)) and not link.startswith(("https://", "http://")):
                raise UserError(f"{path}: models.{name}.{field} has to start with https://")
    return found
