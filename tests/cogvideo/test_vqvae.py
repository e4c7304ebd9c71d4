"""The image tokenizer without reference numbers: shapes, batches, chunks, the codebook, clips, and its files."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.vqvae import (
    IMAGE_TOKENIZERS,
    ImageTokenizer,
    ImageTokenizerConfig,
    StackConfig,
    build_image_tokenizer,
    clip_to_frames,
    frames_to_clip,
    load_image_tokenizer,
    quantizer,
)
from cogvideo.vqvae.layers import Downsample, Upsample

# The released network's kind, small; the shipped one's codes see their own pixels alone.
TINY = ImageTokenizerConfig(
    name="few",
    num_codes=512,
    code_dim=16,
    channels=24,
    encoder=StackConfig((1, 2, 4), blocks=1, attention_at=(), patch=2),
    decoders=(StackConfig((1, 2, 4), blocks=1, attention_at=(), patch=2),),
    norm_groups=4,
)
# All that the release has (three rates, attention inside a decoder), with few channels.
THREE_RATES = ImageTokenizerConfig(
    num_codes=50,
    code_dim=8,
    channels=8,
    encoder=StackConfig((1, 2, 1), blocks=2),
    decoders=(
        StackConfig((1, 1, 1, 2, 1), blocks=1),
        StackConfig((1, 1, 2, 1), blocks=1),
        StackConfig((1, 2, 1), blocks=1),
    ),
    norm_groups=4,
)


def network(config):
    """Random weights, with codes where the encoder's vectors lie, so that frames need many of them."""
    torch.manual_seed(7)
    tokenizer = ImageTokenizer(config).eval()
    with torch.no_grad():
        noise = torch.rand(16, 3, 64, 64)
        vectors_MD = torch.cat([tokenizer.latents(noise, rate).movedim(1, -1).flatten(0, 2) for rate in config.rates])
        tokenizer.quantize.embed.weight.copy_(vectors_MD[torch.randperm(len(vectors_MD))[: config.num_codes]])
    return tokenizer


@pytest.fixture(scope="module")
def tiny():
    return network(TINY)


@pytest.fixture(scope="module")
def cells():
    return network(IMAGE_TOKENIZERS["tiny"])


@pytest.fixture(scope="module")
def three():
    return network(THREE_RATES)


@pytest.fixture(scope="module")
def frames():
    return torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def random_ids(tokenizer, *shape):
    return torch.randint(0, tokenizer.num_tokens, shape, generator=torch.Generator().manual_seed(2))


def test_tiny_is_small_and_has_the_grids_of_its_size(tiny, frames):
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 1_400_000
    ids = tiny.encode(frames)
    assert ids.shape == (5, 64)
    assert ids.dtype == torch.long
    assert ids.unique().numel() > 100
    assert tiny.decode(ids).shape == (5, 3, 64, 64)
    assert tiny.decode(random_ids(tiny, 1, 576)).shape == (1, 3, 192, 192)


@pytest.mark.parametrize(("rate", "cells"), [(4, 16), (8, 8), (16, 4)])
def test_every_rate_has_its_grid(three, frames, rate, cells):
    ids = three.encode(frames, rate)
    assert ids.shape == (5, cells * cells)
    assert three.decode(ids, rate).shape == frames.shape


def test_any_grid_decodes_when_it_is_given(three):
    ids = random_ids(three, 2, 6)
    assert three.decode(ids, 8, grid=(2, 3)).shape == (2, 3, 16, 24)
    assert three.encode(torch.rand(2, 3, 16, 24), 8).shape == (2, 6)
    with pytest.raises(ValueError, match=r"expected ids \(B, 2 \* 2\), got \(2, 6\)"):
        three.decode(ids, 8)


def test_ids_run_row_by_row(three, frames):
    with torch.no_grad():
        latents_BChw = three.latents(frames[:, :, :32, :48], 8)
    ids_Bhw = three.encode(frames[:, :, :32, :48], 8).view(5, 4, 6)
    for row, column in ((0, 5), (3, 0), (2, 4)):
        assert torch.equal(ids_Bhw[:, row, column], three.quantize.nearest(latents_BChw[:, :, row, column]))
    codes_BChw = three.quantize.codes(ids_Bhw)
    assert torch.equal(codes_BChw[1, :, 2, 4], three.quantize.embed.weight[ids_Bhw[1, 2, 4]])


def test_a_frame_does_not_depend_on_its_batch(tiny, frames):
    ids = tiny.encode(frames)
    decoded = tiny.decode(ids)
    for number in range(len(frames)):
        assert torch.equal(tiny.encode(frames[number : number + 1])[0], ids[number])
        assert (tiny.decode(ids[number : number + 1])[0] - decoded[number]).abs().max() < 1e-5


def test_cells_are_coded_by_their_own_pixels_alone_if_asked(cells, three, frames):
    """So a still background keeps its codes whatever moves in front of it; the released kind sees its surroundings."""
    changed = frames.clone()
    changed[:, :, 8:16, 24:40] = 1 - changed[:, :, 8:16, 24:40]
    with torch.no_grad():
        moved, seen = (
            (one.latents(changed, 8) != one.latents(frames, 8)).any(1).nonzero()[:, 1:].unique(dim=0).tolist()
            for one in (cells, three)
        )
    assert moved == [[1, 3], [1, 4]]
    assert len(seen) > 9


def test_a_norm_of_single_places_is_that_of_a_picture_of_one_place(cells):
    norm = cells.enc.norm_out
    x = torch.randn(2, norm.num_channels, 3, 4)
    other = torch.nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps)
    with torch.no_grad():
        for row, column in ((0, 0), (2, 3)):
            place = x[:, :, row : row + 1, column : column + 1]
            assert torch.allclose(norm(x)[:, :, row : row + 1, column : column + 1], other(place), atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "decoder", "rule"),
    [
        (StackConfig((1, 2), 1, attention_at=(), patch=4, is_cellwise=True), 8, "one resolution and no attention"),
        (StackConfig((1,), 1, patch=8, is_cellwise=True), 8, "one resolution and no attention"),
        (StackConfig((1,), 1, attention_at=(), patch=8, is_cellwise=True), 16, "a down-sampler sees more than a cell"),
    ],
)
def test_cells_that_would_see_one_another_are_refused(encoder, decoder, rule):
    decoders = (StackConfig((1,), 1, attention_at=(), patch=decoder),)
    with pytest.raises(UserError, match=rule):
        ImageTokenizerConfig(encoder=encoder, decoders=decoders)


def test_the_budget_bounds_the_batch_and_changes_nothing(tiny, frames):
    sizes = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
        for module in (tiny.enc, tiny.decs[0])
    ]
    whole, parts = tiny.encode(frames, budget_bytes=1 << 40), tiny.encode(frames, budget_bytes=1)
    decoded, in_parts = tiny.decode(whole, budget_bytes=1 << 40), tiny.decode(whole, budget_bytes=1)
    # Two frames at most: 24 channels at 32 x 32 places in the encoder, 48 in front of the decoder's last block.
    tiny.encode(frames, budget_bytes=2 * 4 * 4 * 48 * 32 * 32)
    tiny.decode(whole, budget_bytes=2 * 4 * 4 * 48 * 32 * 32)
    for hook in hooks:
        hook.remove()
    assert sizes == [5, 1, 1, 1, 1, 1, 5, 1, 1, 1, 1, 1, 2, 2, 1, 2, 2, 1]
    assert torch.equal(whole, parts)
    assert (decoded - in_parts).abs().max() < 1e-5


def test_nothing_gives_nothing(tiny):
    assert tiny.encode(torch.zeros(0, 3, 64, 64)).shape == (0, 64)
    assert tiny.decode(torch.zeros(0, 64, dtype=torch.long)).shape == (0, 3, 64, 64)


def test_frames_stay_between_black_and_white_unless_asked(three):
    ids = random_ids(three, 4, 64)
    # Loud colours, so that there is something to clamp.
    loud = network(THREE_RATES)
    loud.decs[1].conv_out.weight.data.mul_(20)
    raw = loud.decode(ids, 8, is_clamped=False)
    assert raw.min() < 0
    assert raw.max() > 1
    assert torch.equal(loud.decode(ids, 8), raw.clamp(0, 1))


def test_bfloat16_is_close_and_gives_float_frames(three, frames):
    half = network(THREE_RATES).to(torch.bfloat16)
    ids = three.encode(frames, 8)
    decoded = half.decode(ids, 8)
    assert decoded.dtype == torch.float32
    assert (decoded - three.decode(ids, 8)).abs().max() < 0.05
    assert (half.encode(frames, 8) == ids).float().mean() > 0.8


@pytest.mark.parametrize("max_distances", [1, 1000, 1 << 24])
def test_the_nearest_code_is_that_of_double_precision(monkeypatch, max_distances):
    monkeypatch.setattr(quantizer, "MAX_DISTANCES", max_distances)
    codes = quantizer.Quantizer(300, 6)
    vectors = torch.randn(500, 6, generator=torch.Generator().manual_seed(3))
    expected = torch.cdist(vectors.double(), codes.embed.weight.double()).argmin(1)
    assert torch.equal(codes.nearest(vectors), expected)
    assert torch.equal(codes.nearest(codes.embed.weight), torch.arange(300))


def test_the_nearest_code_survives_what_rounding_hides():
    # Two codes far from the origin: |e|^2 - 2 x.e of both agree to all digits that single precision has.
    codes = quantizer.Quantizer(4, 2)
    codes.embed.weight.data = torch.tensor([[0.0, 0.0], [4096.0, 4096.25], [4096.0, 4096.0], [9.0, 9.0]])
    vectors = torch.tensor([[4096.0, 4096.0625], [4096.0, 4096.1875], [4096.0, 4096.125]])
    assert codes.nearest(vectors).tolist() == [2, 1, 1]  # the last lies half-way: the lower id


def test_down_and_up_are_aligned_as_in_the_release():
    x_11HW = torch.arange(1.0, 17).view(1, 1, 4, 4)
    with torch.no_grad():
        down, up = Downsample(1), Upsample(1)
        for module in (down, up):
            module.conv.weight.zero_()
            module.conv.bias.zero_()
        down.conv.weight[0, 0, 2, 2] = 1
        up.conv.weight[0, 0, 1, 1] = 1
        # The last tap lies two cells on, and beyond the border there are zeros.
        assert down(x_11HW)[0, 0].tolist() == [[11, 0], [0, 0]]
        assert torch.equal(up(x_11HW), x_11HW.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_training_goes_through_latents_and_pixels(three, frames):
    trained = network(THREE_RATES).train()
    latents_BChw = trained.latents(frames, 16)
    codes_BChw = trained.quantize.codes(
        trained.quantize.nearest(latents_BChw.movedim(1, -1).flatten(0, 2)).view(5, 4, 4)
    )
    straight_BChw = latents_BChw + (codes_BChw - latents_BChw).detach()
    loss = (trained.pixels(straight_BChw, 16) - frames).square().mean() + (codes_BChw - latents_BChw).square().mean()
    loss.backward()
    used = {name for name, parameter in trained.named_parameters() if parameter.grad is not None}
    other = {name for name, _ in trained.named_parameters() if name.startswith(("decs.1", "decs.2"))}
    assert used == {name for name, _ in trained.named_parameters()} - other
    assert all(torch.isfinite(parameter.grad).all() for parameter in trained.parameters() if parameter.grad is not None)


def test_wrong_calls_are_refused(three, tiny, frames):
    with pytest.raises(UserError, match=r"a compress rate that this image tokenizer has \(4, 8, 16\), got 2"):
        three.encode(frames, 2)
    with pytest.raises(UserError, match=r"\(8\), got 16"):
        tiny.decode(random_ids(tiny, 1, 16), 16)
    with pytest.raises(ValueError, match="sides that are multiples of 8"):
        three.encode(frames[:, :, :60], 8)
    with pytest.raises(ValueError, match="expected image tokens 0 to 49, got 0 to 50"):
        three.decode(torch.tensor([[0, 50, 3, 4]]), 8)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"norm_groups": 3}, "multiple of norm_groups"),
        ({"decoders": ()}, "there must be a decoder"),
        ({"decoders": (StackConfig((1, 2), blocks=1),)}, "must not be finer"),
        ({"decoders": (StackConfig((1, 2, 1), blocks=1),) * 2}, "one decoder"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(change, rule):
    with pytest.raises(UserError, match=rule):
        replace(THREE_RATES, **change)


def test_clips_become_frames_and_come_back():
    clip = np.random.default_rng(4).integers(0, 256, (3, 10, 12, 3), dtype=np.uint8)
    frames = clip_to_frames(clip)
    assert frames.shape == (3, 3, 10, 12)
    assert frames[1, 2, 3, 4] == pytest.approx(clip[1, 3, 4, 2] / 255)
    assert np.array_equal(frames_to_clip(frames), clip)
    assert frames_to_clip(torch.tensor([-0.5, 0.5 / 255 + 1e-4, 2.0]).view(1, 3, 1, 1)).tolist() == [[[[0, 1, 255]]]]
    with pytest.raises(ValueError, match=r"expected a clip \(T, H, W, 3\) in uint8, got \(10, 12, 3\)"):
        clip_to_frames(clip[0])


def test_the_centre_is_cropped():
    clip = np.random.default_rng(5).integers(0, 256, (2, 6, 10, 3), dtype=np.uint8)
    assert np.array_equal(frames_to_clip(clip_to_frames(clip, 6)), clip[:, :, 2:8])
    tall = clip.transpose(0, 2, 1, 3)
    assert np.array_equal(frames_to_clip(clip_to_frames(tall, 6)), tall[:, 2:8])


@pytest.mark.parametrize(("high", "wide", "size"), [(60, 90, 20), (33, 20, 32), (20, 20, 48)])
def test_resizing_is_that_of_pillow(high, wide, size):
    clip = np.random.default_rng(6).integers(0, 256, (1, high, wide, 3), dtype=np.uint8)
    short = min(high, wide)
    resized = Image.fromarray(clip[0]).resize((round(wide * size / short), round(high * size / short)), Image.BILINEAR)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    expected = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=int)
    ours = frames_to_clip(clip_to_frames(clip, size))[0].astype(int)
    assert ours.shape == (size, size, 3)
    assert np.abs(ours - expected).max() <= 1  # Pillow rounds between its two passes


@pytest.mark.parametrize("form", ["safetensors", "pickle", "old pickle"])
def test_files_give_the_same_tokenizer(tmp_path, three, frames, form):
    path = tmp_path / ("vqvae.safetensors" if form == "safetensors" else "ice_image.pt")
    if form == "safetensors":
        save_file(three.state_dict(), path)
    else:
        torch.save({"module": three.state_dict()}, path, _use_new_zipfile_serialization=form == "pickle")
    loaded = load_image_tokenizer(path, THREE_RATES)
    assert torch.equal(loaded.encode(frames, 16), three.encode(frames, 16))
    assert not loaded.training
    assert load_image_tokenizer(path, THREE_RATES, dtype=torch.bfloat16).enc.conv_in.weight.dtype == torch.bfloat16


def test_half_precision_files_stay_half(tmp_path):
    path = tmp_path / "half.pt"
    torch.save({"module": network(THREE_RATES).half().state_dict()}, path)
    loaded = load_image_tokenizer(path, THREE_RATES)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float16}


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(MissingPrerequisite, match="cogeval weights fetch ice-image-tokenizer"):
        load_image_tokenizer(tmp_path / "absent.pt")


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("damage", ["cut pickle", "cut safetensors", "text", "empty", "program", "folder"])
def test_what_is_no_file_of_tensors_is_refused_in_one_line(tmp_path, three, damage, capsys):
    path = tmp_path / ("x.safetensors" if damage == "cut safetensors" else "x.pt")
    if damage == "cut safetensors":
        save_file(three.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "cut pickle":
        torch.save({"module": three.state_dict()}, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "program":
        path.write_bytes(pickle.dumps({"module": Evil()}))
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if damage == "empty" else b"no tensors here")
    with pytest.raises(UserError, match=r"cannot be read as an image tokenizer, or was cut short: .+; run") as caught:
        load_image_tokenizer(path, THREE_RATES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "this ran" not in capsys.readouterr().out


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"epoch": 3, "weights": [1, 2]}, path)
    with pytest.raises(UserError, match=r"holds no state dict .* but a table with epoch, weights"):
        load_image_tokenizer(path, THREE_RATES)


def test_tensors_that_do_not_fit_are_named(three):
    state = three.state_dict()
    state["enc.conv_in.weight"] = state["enc.conv_in.weight"][:4]
    state["decs.9.extra"] = state.pop("quantize.embed.weight")
    with pytest.raises(UserError) as caught:
        build_image_tokenizer(THREE_RATES, state, "here.pt")
    assert str(caught.value) == (
        "the tensors in here.pt do not fit the given image tokenizer: 1 missing (quantize.embed.weight); 1 unexpected "
        "(decs.9.extra); 1 of another shape (enc.conv_in.weight is 4x3x3x3, expected 8x3x3x3)"
    )
    mixed = three.state_dict() | {"enc.conv_in.bias": three.state_dict()["enc.conv_in.bias"].half()}
    with pytest.raises(UserError, match=r"2 types of numbers \(torch.float16, torch.float32\)"):
        build_image_tokenizer(THREE_RATES, mixed, "here.pt")


def test_the_full_size_is_built_without_memory():
    with torch.device("meta"):
        full = ImageTokenizer(IMAGE_TOKENIZERS["release"])
    assert sum(parameter.numel() for parameter in full.parameters()) == 97_439_497
    assert len(full.state_dict()) == 329
    assert all(tensor.is_meta for tensor in full.state_dict().values())
