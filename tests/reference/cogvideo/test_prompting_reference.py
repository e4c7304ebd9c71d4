"""Our templates against the texts that the release encoded and the sequences that it made of them."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load_file

from cogvideo.config import ModelConfig
from cogvideo.prompting import CHINESE, Prompts

CASES = ("pipeline_greedy", "pipeline_greedy_regionmask")


class Recorded:
    """The tokenizer of the fixtures: a table. A text that the release never encoded is an error."""

    def __init__(self, table):
        self.table = table
        self.encoded = set()

    def encode(self, text):
        self.encoded.add(text)
        return list(self.table[text])


def config_of(path):
    sizes = json.loads(path.read_text(encoding="utf-8"))
    images, special = sizes["num_image_tokens"], sizes["special_tokens"]
    config = ModelConfig(
        hidden_size=sizes["hidden_size"],
        num_attention_heads=sizes["num_attention_heads"],
        num_image_tokens=images,
        text_pieces=special["<start_of_image>"] - images,
        vocab_size=sizes["vocab_size"],
        frames=sizes["frames"],
        grid=sizes["frame_resolution"],
        text_len=sizes["text_len_train"],
        spare_text_len=min(10, sizes["image_position_offset"] - sizes["text_len_train"]),
        max_sequence_length=sizes["max_sequence_length"],
        image_position_offset=sizes["image_position_offset"],
        extra_positions=sizes["additional_seqlen"],
        window=sizes["window_size"],
    )
    assert (config.pad_id, config.newline_id) == (special["<pad>"], special["<n>"])
    return config


@pytest.mark.parametrize("case", CASES)
def test_templates_give_the_sequences_of_the_release(cogvideo_dir, item, case):
    folder = cogvideo_dir / "tiny"
    if not (folder / f"{case}.io.json").is_file():
        pytest.skip(f"this reference set has no tiny/{case}.io.json")
    recorded = json.loads((folder / f"{case}.io.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / f"{case}.io.safetensors")
    tokenizer = Recorded(item(recorded, "encode_calls"))
    config = config_of(folder / "config.json")
    prompts, prompt, calls = Prompts(tokenizer, config, CHINESE), recorded["prompt"], recorded["calls"]
    settings = recorded["settings"]

    texts = [
        prompts.first_frame(prompt),
        prompts.key_frames(prompt, 4.0, guided=settings["use_guidance_stage1"]),
        *(prompts.between(prompt, 4.0 / 2**k) for k in range(1, len(calls) - 1)),
    ]
    for number, (text, call) in enumerate(zip(texts, calls, strict=True)):
        sequence = item(tensors, f"call{number}.seq_in")
        sequence = sequence.reshape(-1, sequence.shape[-1])[0]
        assert len(text) == call["text_len"], number
        assert sequence[: len(text) + 1].tolist() == [*text, config.boi_id], number
    for number, guider in ((1, prompts.key_frames_guider(4.0)), (2, prompts.between_guider(2.0))):
        assert calls[number]["guider_text_len"] in (0, len(guider))
        if calls[number]["guider_text_len"]:
            sequence = item(tensors, f"call{number}.guider_seq_in").reshape(-1)
            assert sequence[: len(guider) + 1].tolist() == [*guider, config.boi_id]
    assert prompts.superres(prompt) == item(tensors, "dsr.text_tokens")[0].tolist()
    assert tokenizer.encoded == set(tokenizer.table)
