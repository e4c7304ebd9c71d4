"""Small trainings: rows in memory, tasks of a size that a second is enough for."""

from __future__ import annotations

import pytest
import torch

from cogvideo.network import Network, initialise_
from cogvideo.training.engine import Engine, Options
from cogvideo.training.inherit import freeze_
from cogvideo.training.recipe import Phase, TrainingRecipe
from cogvideo.training.tasks import ImageTask, StageTask


class Rows:
    """Batches that go round through rows in memory."""

    def __init__(self, rows, batch_size):
        self.rows, self.batch_size = rows, batch_size

    def keys(self, step):
        first = (step - 1) * self.batch_size
        return [place % len(self.rows) for place in range(first, first + self.batch_size)]

    def load(self, keys):
        return self.rows[list(keys)]


def make_rows(config, count, frames, seed=5):
    """Records of random texts and frames (count, text_len + frames * F)."""
    generator = torch.Generator().manual_seed(seed)
    low = config.num_image_tokens + 5
    texts = torch.randint(low, config.boi_id, (count, config.text_len), generator=generator)
    texts[:, config.text_len // 2 :] = config.pad_id
    images = torch.randint(0, config.num_image_tokens, (count, frames * config.frame_len), generator=generator)
    return torch.cat([texts, images], 1).int()


def make_task(config, name="stage1", seed=0, trained="temporal", **settings):
    if name == "base":
        return ImageTask(initialise_(Network(config, "image", dropout=settings.pop("dropout", 0.0)), seed), **settings)
    network = initialise_(Network(config, dropout=settings.pop("dropout", 0.0)), seed)
    return StageTask(freeze_(network, trained), 1 if name == "stage1" else 2, None, **settings)


@pytest.fixture(scope="session")
def make_engine(make_config):
    """An engine over rows in memory; `changes` are those of the recipe."""

    def make(folder, name="stage1", *, options=None, rows=None, count=8, task=None, **changes):
        config = make_config()
        settings = {"batch_size": 4, "lr": 1e-2, "warm_up": 2, "dropout": 0.0, "start": "random", "weight_decay": 0.01}
        settings |= {"phases": (Phase(8),), "clip": 1.0} | changes
        recipe = TrainingRecipe("test", name, "", size="tiny", **settings)
        task = make_task(config, name, dropout=recipe.dropout) if task is None else task
        if rows is None:
            rows = make_rows(config, count, 1 if name == "base" else config.frames)
        options = options or Options(save_every=4, log_every=1)
        folder.mkdir(parents=True, exist_ok=True)
        cpu = torch.device("cpu")
        return Engine(task, recipe, Rows(rows, recipe.batch_size), folder, device=cpu, options=options)

    return make


@pytest.fixture(scope="session")
def task_of():
    return make_task


@pytest.fixture(scope="session")
def rows_of():
    return make_rows


@pytest.fixture(scope="session")
def trained_of():
    """Copies of the trained parameters and of their moments, by name."""

    def copies(engine):
        from cogvideo.training.state import tensors_of

        return {name: tensor.clone() for name, tensor in tensors_of(engine.task, engine.optimizer).items()}

    return copies
