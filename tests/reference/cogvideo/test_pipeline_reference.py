"""A whole generation against the released driver, sequence by sequence: every id of every frame, greedily decoded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cogvideo import hierarchy
from cogvideo.clusters import read_clusters
from cogvideo.forward import RELEASE
from cogvideo.network import Network
from cogvideo.pipeline import CogVideo, Networks, random_image_tokenizer
from cogvideo.prompting import CHINESE, Prompts
from cogvideo.sampling import SamplerSettings
from cogvideo.settings import GenerationSettings

# A choice closer than this may go either way in float32.
TIE = 1e-4


@pytest.fixture(scope="module")
def folder(cogvideo_dir):
    path = cogvideo_dir / "tiny"
    if not path.is_dir():
        pytest.skip("this reference set has no tiny")
    return path


@pytest.fixture(scope="module", params=["pipeline_greedy", "pipeline_greedy_regionmask"])
def case(request, folder, tensors, settings):
    facts = settings(folder / f"{request.param}.io.json")
    if min(facts["min_cluster_log_margin"], facts["min_token_logit_margin"]) < TIE:
        pytest.skip("a choice in this set is too close to be decided in float32")
    return facts, tensors(folder / f"{request.param}.io.safetensors")


class WrittenDown:
    """A tokenizer that knows the strings of the set and no others."""

    def __init__(self, known):
        self.known = known
        self.asked = set()

    def encode(self, text):
        self.asked.add(text)
        return list(self.known[text])


@pytest.fixture(scope="module")
def pipeline(folder, tensors, settings, fixture_config):
    """The public pipeline on the set's weights; pixels are of no interest here."""
    config = fixture_config(folder)
    stage1 = tensors(folder / "stage1.weights.safetensors")
    base = {name: tensor for name, tensor in stage1.items() if name.startswith("transformer.")}

    def network(kind, state):
        made = Network(config, kind).eval()
        made.load_state_dict(state)
        return made.requires_grad_(False)

    clusters = settings(folder / "strategy_video.io.json")["num_clusters"]
    networks = Networks(
        network("video", stage1),
        network("video", base | tensors(folder / "stage2.mixins.safetensors")),
        random_image_tokenizer(config, 0),
        Prompts(WrittenDown({}), config, CHINESE),
        read_clusters(folder / "cluster_labels.safetensors", config, clusters),
        superres=network("superres", base | tensors(folder / "dsr.mixins.safetensors")),
    )
    return CogVideo(networks)


def generate(pipeline, case, **changes):
    """The videos, the sequences of every phase in order, the tokens that were decoded to pixels, the strings."""
    facts, _ = case
    its, first = facts["settings"], facts["settings"]["first_frame_strategy"]
    # The set decodes with one cluster: how many are kept says nothing where the best one is taken.
    chosen = GenerationSettings(
        first_frame=SamplerSettings(first["temperature"], first["top_k"], first["temperature2"]),
        video=SamplerSettings(its["temperature"], its["top_k"], its["temperature2"]),
        guidance_scale=its["guidance_alpha"] if its["use_guidance_stage1"] else None,
        between_guidance_scale=its["guidance_alpha"] if its["use_guidance_stage2"] else None,
        text_bonus=next(call["log_text_attention_weights"] for call in facts["calls"] if not call["guider_text_len"]),
        quirks=replace(RELEASE, seam_in_prefill=facts["stage2_prefill_region_mask"]),
        is_greedy=True,
    )
    tokenizer = WrittenDown(facts["encode_calls"])
    pipeline.networks.prompts.tokenizer = tokenizer
    calls, fine = [], []
    decode = hierarchy.decode

    def watched(network, text, frames, plan, *args, **kwargs):
        made = decode(network, text, frames, plan, *args, **kwargs)
        calls.append(SimpleNamespace(network=network, text=text, frames=frames, plan=plan, made=made))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hierarchy, "decode", watched)
        patch.setattr(pipeline, "decode", lambda tokens: fine.append(tokens) or tokens.numpy())
        videos = pipeline.generate(
            [facts["prompt"]],
            frames=facts["frames_out"],
            fps=8.0,
            samples=facts["batch_size"],
            settings=replace(chosen, **changes),
        )
    return SimpleNamespace(videos=videos, calls=calls, fine=torch.stack(fine), asked=tokenizer.asked)


@pytest.fixture(scope="module")
def run(pipeline, case):
    return generate(pipeline, case)


def real(text, rows):
    """The ids of one row of a text, which all rows of the set share."""
    lists = [ids[mask].tolist() for ids, mask in zip(text.ids[rows], text.is_real[rows], strict=True)]
    assert all(ids == lists[0] for ids in lists)
    return lists[0]


def test_every_string_is_encoded_as_the_release_does(case, run):
    facts, _ = case
    assert run.asked == set(facts["encode_calls"])


def test_calls_are_those_of_the_release(case, run, pipeline):
    """Network, batch, guidance, text bonus and the channel that the first frame leaves out."""
    facts, _ = case
    assert len(run.calls) == len(facts["calls"])
    for ours, theirs in zip(run.calls, facts["calls"], strict=True):
        assert len(ours.frames) == theirs["batch"]
        assert ours.network is (pipeline.networks.stage1 if theirs["stage"] == 1 else pipeline.networks.stage2)
        assert (ours.plan.guidance_scale is not None) == (theirs["guider_text_len"] > 0)
        assert ours.plan.text_bonus == theirs["log_text_attention_weights"]
        assert ours.plan.has_plus != theirs["enforce_no_swin"]
        assert len(real(ours.text, slice(0, theirs["batch"]))) == theirs["text_len"]


def test_sequences_that_go_in(case, run, pipeline):
    """Text, BOI, given frames and wanted ones, for the prompt and for the guider."""
    facts, expected = case
    for number, (ours, theirs) in enumerate(zip(run.calls, facts["calls"], strict=True)):
        B = theirs["batch"]
        pairs = [("seq_in", slice(0, B))]
        if theirs["guider_text_len"]:
            pairs.append(("guider_seq_in", slice(B, 2 * B)))
        for name, rows in pairs:
            row = [*real(ours.text, rows), pipeline.config.boi_id]
            made = torch.cat([torch.tensor(row).expand(B, -1), ours.frames.flatten(1)], 1)
            sequences = expected[f"call{number}.{name}"]
            assert torch.equal(made, sequences.expand(B, -1)), (number, name)


def test_sequences_that_come_out(case, run):
    facts, expected = case
    for number, (ours, theirs) in enumerate(zip(run.calls, facts["calls"], strict=True)):
        made = expected[f"call{number}.tokens_out"][:, theirs["text_len"] + 1 :]
        assert torch.equal(ours.made.flatten(1), made), number


def test_final_frames(case, run):
    """Every frame of every sample in its place in time."""
    _, expected = case
    assert torch.equal(
        torch.stack([torch.from_numpy(video.tokens) for video in run.videos]).long(), expected["final_frames"]
    )
    assert torch.equal(expected["final_frames"].flatten(0, 1), expected["dsr.image_tokens"])


def test_super_resolved_frames(case, run, folder, settings):
    _, expected = case
    direct = settings(folder / "dsr.io.json")
    if direct["kernel_size"] != direct["kernel_size2"]:
        pytest.skip("this set has patches of two sizes, which no network of CogVideo has")
    assert torch.equal(run.fine.flatten(0, 1), expected["dsr.tokens_out"])


@pytest.mark.parametrize("changes", [{"is_parallel": True}, {"is_parallel": True, "max_rows": 3}], ids=str)
def test_another_order_or_batch_gives_the_same(changes, case, run, pipeline):
    """Two frames side by side, and sequences in small batches."""
    again = generate(pipeline, case, **changes)
    for ours, theirs in zip(again.videos, run.videos, strict=True):
        assert (ours.tokens == theirs.tokens).all()
