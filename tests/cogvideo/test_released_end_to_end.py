"""A folder laid out as the release's, from the files that were published to a video, as it is and converted.

Random weights in half precision, the release's names, a text model trained here: everything but its size is the same.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

import cogeval
from cogvideo import CogVideo
from cogvideo.checkpoint.cards import Card, Source, write_card
from cogvideo.checkpoint.parts import find_parts
from cogvideo.config import ModelConfig
from cogvideo.network import Network, initialise_
from cogvideo.tokenizer import IceTokenizer
from cogvideo.video import read_clip
from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer

FOLDERS = {
    "stage1": ("cogvideo-stage1", "video"),
    "stage2": ("cogvideo-stage2", "video"),
    "superres": ("cogview2-dsr", "superres"),
    "iterative": ("cogview2-itersr", "iterative"),
}
CORPUS = ["一只猫在跳舞 4.0秒", "夜晚的城市 高清摄影 视频", "2.0秒 1.0秒 0.5秒 视频", "孩子在公园里玩"] * 40
PROMPT = "夜晚的城市"


def text_model():
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=content,
        vocab_size=60,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        user_defined_symbols=["<n>"],
    )
    return content.getvalue()


def settings_of(part, config):
    """What the release's model_config.json has, and under our names what is a constant in its code."""
    text, frame, fine = config.text_len, config.frame_len, config.superres_grid**2
    settings = {
        "tokenizer_type": "icetk",
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "vocab_size": config.vocab_size,
        "max_sequence_length": config.max_sequence_length,
        "layernorm_order": "sandwich",
        "model_parallel_size": 1,
    }
    if part in ("stage1", "stage2"):
        settings |= {"layout": [text, text + frame, text + config.frames * frame]}
        settings |= {"cogvideo_stage": int(part[-1]), "window_size": config.window if part == "stage2" else -1}
        settings |= {"additional_seqlen": config.extra_positions}
    if part == "superres":
        slots = config.superres_text_len
        settings["layout"] = f"{slots},{slots + frame},{slots + frame + fine}"
    if part == "iterative":
        settings["layout"] = [config.iterative_text_len, config.iterative_text_len + fine]
    return {**config.layout(), **settings}


def spread(network, seed):
    """Weights whose tokens show the prompt."""
    initialise_(network, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            usual = parameter.shape[1] ** -0.5 if parameter.dim() == 2 else 0.3
            loud = 0.2 if "word_embeddings" in name else 0.8 if "position_embeddings" in name else usual
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=loud)
    return network.half()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "ice_text.model"
    path.write_bytes(text_model())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size()
    return ModelConfig(
        num_layers=3,
        hidden_size=32,
        num_attention_heads=2,
        num_image_tokens=40,
        text_pieces=pieces,
        vocab_size=40 + pieces + 10,
        grid=4,
        text_len=20,
        spare_text_len=4,
        max_sequence_length=64,
        image_position_offset=32,
        extra_positions=64,
        window=2,
        superres_text_len=20,
        iterative_text_len=6,
    ), path.read_bytes()


def write_network(folder, part, config, seed=0):
    """One network as the release's trainer saved it."""
    place = folder / FOLDERS[part][0]
    (place / "27000").mkdir(parents=True)
    (place / "latest").write_text("27000")
    (place / "model_config.json").write_text(json.dumps(settings_of(part, config)))
    network = spread(Network(config, FOLDERS[part][1]), seed)
    module = OrderedDict(network.state_dict())
    saved = {"iteration": 27000, "module": module, "np_rng_state": np.random.RandomState(1).get_state()}
    torch.save(saved, place / "27000" / "mp_rank_00_model_states.pt")


@pytest.fixture(scope="module")
def released(config, tmp_path_factory):
    """SAT_HOME with all networks, the image tokenizer, the text model and the table of clusters."""
    sizes, text = config
    folder = tmp_path_factory.mktemp("sat") / "SAT_HOME"
    for seed, part in enumerate(FOLDERS):
        write_network(folder, part, sizes, seed)
    torch.manual_seed(0)
    image_tokenizer = ImageTokenizer(replace(IMAGE_TOKENIZERS["tiny"], num_codes=40))
    torch.save({"module": image_tokenizer.state_dict()}, folder / "ice_image.pt")
    (folder / "ice_text.model").write_bytes(text)
    np.save(folder / "cluster_label2.npy", np.arange(40) % 7)
    return folder


@pytest.fixture(scope="module")
def converted(released, tmp_path_factory):
    """The same through `cogeval convert`."""
    folder = tmp_path_factory.mktemp("ours") / "converted"
    assert cogeval.main(["convert", str(released), str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def door(capsys, monkeypatch, tmp_path, tmp_path_factory):
    monkeypatch.chdir(tmp_path)
    # No file that another test has fetched.
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path_factory.mktemp("home")))

    def run(*arguments):
        code = cogeval.main(["generate", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer, code, *parts):
    got, out, err = answer
    assert (got, out) == (code, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def pixels(folder):
    return {path.name.split("-0-")[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.mp4")}


@pytest.mark.parametrize("extra", [(), ("--dtype", "float32", "--refine")], ids=["half", "float32"])
def test_as_released_and_converted_the_video_is_the_same(door, released, converted, tmp_path, extra):
    for name, folder in (("released", released), ("converted", converted)):
        code, out, err = door(PROMPT, "--checkpoint", folder, "--out", name, *extra)
        assert code == 0, err
        assert read_clip(tmp_path / out.strip()).shape == (33, 96, 96, 3)
        assert "trained weights" in err
    assert pixels(tmp_path / "released") == pixels(tmp_path / "converted")
    (one,), (other,) = (
        [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / name).glob("*.json")]
        for name in ("released", "converted")
    )
    # Half precision is bfloat16 on a CPU: there is no fast float16.
    assert one["dtype"] == other["dtype"] == ("float32" if extra else "bfloat16")
    assert one["settings"] == other["settings"]
    assert one["model"]["sizes"] == other["model"]["sizes"]
    roles = {"stage1", "stage2", "superres", "image_tokenizer", "clusters", "text_model"}
    assert set(one["model"]["parts"]) == set(other["model"]["parts"]) == roles | ({"iterative"} if extra else set())


def test_a_released_folder_is_told_in_chinese(released, config):
    """Templates of the release: its suffixes, its word for second, its guider."""
    model = CogVideo.load(released, dtype=torch.float32)
    sizes, text = config
    assert model.networks.language == "zh"
    prompts, tokenizer = model.networks.prompts, model.networks.prompts.tokenizer
    assert isinstance(tokenizer, IceTokenizer)
    plain = sentencepiece.SentencePieceProcessor(model_proto=text)

    def ids(*parts):
        """The parts with the id of a line break between."""
        joined = []
        for part in parts:
            joined += [*([sizes.newline_id] if joined else []), *(40 + piece for piece in plain.encode(part))]
        return joined

    assert prompts.first_frame(PROMPT) == ids(f"{PROMPT} 高清摄影")
    assert prompts.key_frames(PROMPT, 4.0, True) == ids("4.0秒", f"{PROMPT} 视频")
    assert prompts.key_frames_guider(4.0) == ids("4.0秒", "视频")
    assert prompts.between(PROMPT, 0.5) == ids("0.5秒", PROMPT)
    assert prompts.superres(PROMPT) == ids(PROMPT)


@pytest.mark.parametrize(("pieces", "language"), [(130000, "zh"), (48, "en")])
def test_networks_converted_one_by_one_keep_their_language(tmp_path, pieces, language):
    """There is no card of the whole then: the text pieces of stage 1 tell whose it is."""
    (tmp_path / "image_tokenizer").mkdir()
    (tmp_path / "stage1").mkdir()
    origin = Source(name="cogvideo-stage1")
    sizes = {"text_pieces": pieces}
    card = Card(kind="stage1", sizes=sizes, dtype="float16", tensors=0, parameters=0, files={}, source=origin)
    write_card(tmp_path / "stage1", card)
    assert find_parts(tmp_path).card.language == language


def test_the_published_clusters_are_the_ones_that_are_drawn_from(released, converted):
    for folder in (released, converted):
        clusters = CogVideo.load(folder, superres=False).networks.clusters
        assert clusters.labels.tolist() == [token % 7 for token in range(40)]


def without(source, folder, *names):
    """A copy made of links, but for some names."""
    folder.mkdir()
    for part in source.iterdir():
        if part.name not in names:
            (folder / part.name).symlink_to(part)
    return folder


def test_without_stage_2_there_are_five_frames(door, released, tmp_path):
    folder = without(released, tmp_path / "sat", "cogvideo-stage2")
    refused(door(PROMPT, "--checkpoint", folder), 2, "33 frames need the network of stage 2", "at most 5 frames")
    code, out, err = door(PROMPT, "--checkpoint", folder, "--frames", 5, "--fps", 1)
    assert code == 0, err
    assert read_clip(tmp_path / out.strip()).shape == (5, 96, 96, 3)


@pytest.mark.parametrize("form", ["released", "converted"])
def test_absent_files_are_named_with_the_way_to_get_them(door, released, converted, tmp_path, form):
    source = released if form == "released" else converted
    folder = without(source, tmp_path / "a", "ice_text.model")
    fetch = "cogeval weights fetch ice-text-model"
    refused(door(PROMPT, "--checkpoint", folder), 3, "has no text_model", "ice_text.model", fetch)
    folder = without(source, tmp_path / "b", "ice_image.pt", "image_tokenizer")
    refused(door(PROMPT, "--checkpoint", folder), 3, "image_tokenizer", "cogeval weights fetch ice-image-tokenizer")
    folder = without(source, tmp_path / "c", "cogview2-dsr", "superres")
    refused(door(PROMPT, "--checkpoint", folder), 3, "super-resolution is on", "cogview2-dsr")
    folder = without(source, tmp_path / "d", "cogvideo-stage1", "stage1")
    refused(door(PROMPT, "--checkpoint", folder), 3, "stage1", "cogeval weights fetch cogvideo-stage1")


def test_no_other_clusters_are_made_up_for_a_released_network(door, released, tmp_path):
    """It would draw something else than it learned to."""
    folder = without(released, tmp_path / "sat", "cluster_label2.npy")
    refused(door(PROMPT, "--checkpoint", folder), 3, "clusters", "cogeval weights fetch cogview2-clusters")


def test_what_was_released_for_another_purpose_is_refused(door, released, config, tmp_path):
    sizes, _ = config
    folder = without(released, tmp_path / "swapped", "cogvideo-stage1")
    (folder / "cogvideo-stage1").symlink_to(released / "cogvideo-stage2")
    refused(door(PROMPT, "--checkpoint", folder), 2, "holds stage2, expected stage1")
    folder = without(released, tmp_path / "larger", "cogvideo-stage2")
    write_network(folder, "stage2", replace(sizes, hidden_size=48))
    refused(door(PROMPT, "--checkpoint", folder), 2, "cogvideo-stage2", "hidden_size is 48, expected 32")
    folder = without(released, tmp_path / "short", "cogvideo-stage1")
    write_network(folder, "stage1", sizes)
    file = folder / "cogvideo-stage1" / "27000" / "mp_rank_00_model_states.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(door(PROMPT, "--checkpoint", folder), 2, "mp_rank_00_model_states.pt", "cut short")
    refused(door(PROMPT, "--checkpoint", released / "cogvideo-stage1"), 2, "no folder of CogVideo networks")
    assert not (tmp_path / "videos").exists()


def test_a_prompt_too_long_says_how_long_it_may_be(door, released, config):
    limit = config[0].max_text_len
    refused(door("猫城园" * 20, "--checkpoint", released), 2, "too long", "tokens", f"at most {limit} fit")


def test_another_text_model_does_not_fit(door, released, tmp_path):
    folder = without(released, tmp_path / "sat", "ice_text.model")
    (folder / "ice_text.model").write_bytes(b"\x00\x01")
    refused(door(PROMPT, "--checkpoint", folder), 2, "ice_text.model", "no SentencePiece model")


def test_chinese_prompts_have_chinese_names(door, released):
    Path("prompts.txt").write_bytes("\ufeff夜晚的城市\r\n\r\n一只猫在跳舞\r\n".encode())
    code, out, err = door("--file", "prompts.txt", "--checkpoint", released, "--frames", 2, "--no-super-resolution")
    assert code == 0, err
    assert [Path(line).name.split("-")[0] for line in out.splitlines()] == ["夜晚的城市", "一只猫在跳舞"]


def test_the_release_is_not_allocated_to_be_refused(door, monkeypatch):
    """46 GB with random weights: the text model is missed, or the memory, before anything is built."""
    monkeypatch.setattr("cogvideo.assembly.Network", lambda *_: pytest.fail("work has begun"))
    refused(door(PROMPT, "--size", "release"), 3, "ice-text-model")
