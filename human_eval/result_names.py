"""What aspects and models are called on the result page. No page of a rater names a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from human_eval.study.design import Study, said


@dataclass(frozen=True)
class Names:
    """Words by id; an id without words stands for itself."""

    aspects: Mapping[str, str]
    models: Mapping[str, str]

    def aspect(self, name: str) -> str:
        return self.aspects.get(name, name)

    def model(self, name: str) -> str:
        return self.models.get(name, name)


def names_of(study: Study) -> Names:
    """The names of a study, in English. Models of one title, or of none, are told apart by their id."""
    titles = [model.title.strip() for model in study.models]
    models = {
        model.id: model.id if not title else title if titles.count(title) == 1 else f"{title} ({model.id})"
        for model, title in zip(study.models, titles, strict=True)
    }
    return Names({one.id: said(one.name, "en") for one in study.aspects}, models)
