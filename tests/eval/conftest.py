"""The invented runs, loaded by path because test folders are no packages; and a size of CogVideo to try things with."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def loaded(name: str, path: Path) -> ModuleType:
    """A module of the tests by its path: their folders are no packages."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def sample_runs() -> ModuleType:
    """`tests/eval/sample_runs.py`: builders of invented results and run folders."""
    return loaded("cogeval_sample_runs", Path(__file__).with_name("sample_runs.py"))


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a miniature pipeline by its name in `tiny_pipelines.py`; each is built when it is asked for."""
    home = tmp_path_factory.mktemp("pipelines")

    def built(name: str) -> Path:
        builders = loaded("cogeval_tiny_pipelines", Path(__file__).with_name("generators") / "tiny_pipelines.py")
        folder: Path = home / name
        return folder if folder.exists() else builders.save(name, folder)

    return built


@pytest.fixture
def dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cogvideo?size=dot`: four tokens a frame, 64 pixels.

    Its codes are as near to each other as the vectors that random weights give, so that pictures have other tokens.
    """
    from cogvideo import assembly
    from cogvideo.config import SIZES, ModelConfig
    from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer, ImageTokenizerConfig, StackConfig

    plain = assembly.random_image_tokenizer

    def with_near_codes(config: ModelConfig, seed: int) -> ImageTokenizer:
        tokenizer = plain(config, seed)
        tokenizer.quantize.embed.weight.data *= 0.1
        return tokenizer

    stack = StackConfig((1, 1, 1, 1, 1, 1), blocks=1, attention_at=())
    tokenizer = ImageTokenizerConfig(
        num_codes=160, code_dim=8, channels=8, encoder=stack, decoders=(stack,), norm_groups=8, name="dot"
    )
    config = ModelConfig(
        name="dot",
        num_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        num_image_tokens=160,
        text_pieces=48,
        vocab_size=216,
        grid=2,
        text_len=8,
        spare_text_len=0,
        max_sequence_length=48,
        image_position_offset=32,
        extra_positions=16,
        window=2,
        superres_text_len=12,
        iterative_text_len=6,
        compress_rate=32,
    )
    monkeypatch.setitem(SIZES, "dot", config)
    monkeypatch.setitem(IMAGE_TOKENIZERS, "dot", tokenizer)
    monkeypatch.setattr(assembly, "random_image_tokenizer", with_near_codes)
