"""Image tokenizer training: the loss, the averages of the codebook, restarts, against sums written out."""

from __future__ import annotations

import pytest
import torch

from cogvideo.training.codebook import TokenizerTask
from cogvideo.training.engine import Engine, Options
from cogvideo.training.log import read_log
from cogvideo.training.recipe import CodebookRules, Phase, TrainingRecipe
from cogvideo.vqvae.config import ImageTokenizerConfig, StackConfig
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

SIZES = ImageTokenizerConfig(
    num_codes=16,
    code_dim=4,
    channels=8,
    encoder=StackConfig((1, 2), blocks=1, attention_at=()),
    decoders=(StackConfig((1, 2), blocks=1, attention_at=()),),
    norm_groups=4,
)


def make(**rules):
    torch.manual_seed(0)
    return TokenizerTask(ImageTokenizer(SIZES), 2, 8, CodebookRules(**{"warm_up": 0} | rules))


def frames(count, seed=1):
    return torch.randint(0, 256, (count, 8, 8, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def step(task, rows, number=1):
    task.before_step(number, torch.Generator().manual_seed(number))
    found = task(task.prepare(rows))
    task.after_step()
    return found


def test_the_loss():
    """2 MSE + 0.25 L1 + 0.25 commitment, of pixels from -1 to 1, through the tokenizer's own ways."""
    task, rows = make(), frames(3)
    tokenizer = task.tokenizer
    task.before_step(1, torch.Generator())
    found = task(task.prepare(rows))
    pixels = rows.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latents = tokenizer.latents(pixels, 2)
        ids = tokenizer.encode(pixels, 2)
        codes = tokenizer.quantize.codes(ids.view(3, 4, 4))
        error = (tokenizer.decode(ids, 2, is_clamped=False) - pixels) * 2
        expected = 2 * (error**2).mean() + 0.25 * error.abs().mean() + 0.25 * ((latents - codes) ** 2).mean()
    assert torch.allclose(found["loss"], expected, atol=1e-5)


def test_gradients_pass_the_codes():
    """Straight through: the encoder gets what the decoder asks of the codes."""
    task = make(commitment=0.0)
    task.before_step(1, torch.Generator())
    task(task.prepare(frames(2)))["loss"].backward()
    assert task.tokenizer.enc.conv_in.weight.grad.abs().sum() > 0
    assert task.tokenizer.quantize.embed.weight.grad is None


def test_averages():
    task, rows = make(decay=0.9, dead_share=0.0), frames(4)
    quantizer = task.tokenizer.quantize
    quantizer.cluster_size.fill_(2.0)
    quantizer.embed_avg.copy_(quantizer.embed.weight.detach() * 2)
    size, total = quantizer.cluster_size.clone(), quantizer.embed_avg.clone()
    with torch.no_grad():
        vectors = task.tokenizer.latents(rows.permute(0, 3, 1, 2).float() / 255, 2).movedim(1, -1).flatten(0, 2)
    ids = quantizer.nearest(vectors)
    step(task, rows)
    for code in range(16):
        mine = vectors[ids == code]
        new_size = 0.9 * size[code] + 0.1 * len(mine)
        new_total = 0.9 * total[code] + 0.1 * mine.sum(0)
        assert torch.allclose(quantizer.cluster_size[code], new_size, atol=1e-5)
        assert torch.allclose(quantizer.embed.weight[code], new_total / new_size, atol=1e-4)


def test_codes_that_nobody_takes_begin_anew():
    """A code far away is dead after one step, and becomes an output of the encoder."""
    task, rows = make(decay=0.5, dead_share=0.5), frames(4)
    quantizer = task.tokenizer.quantize
    quantizer.cluster_size.fill_(1.0)
    quantizer.embed_avg.copy_(quantizer.embed.weight.detach())
    with torch.no_grad():
        quantizer.embed.weight[7] = 1e3
        quantizer.embed_avg[7] = 1e3
    with torch.no_grad():
        vectors = task.tokenizer.latents(rows.permute(0, 3, 1, 2).float() / 255, 2).movedim(1, -1).flatten(0, 2)
    step(task, rows)
    assert (vectors - quantizer.embed.weight[7]).abs().sum(1).min() < 1e-3


def test_the_warm_up_ends_with_codes_of_the_encoder():
    task, rows = make(warm_up=2), frames(4)
    before = task.tokenizer.quantize.embed.weight.clone()
    assert step(task, rows, 1)["commitment"] == 0
    assert torch.equal(task.tokenizer.quantize.embed.weight, before)
    with torch.no_grad():
        vectors = task.tokenizer.latents(rows.permute(0, 3, 1, 2).float() / 255, 2).movedim(1, -1).flatten(0, 2)
    step(task, rows, 2)
    codes = task.tokenizer.quantize.embed.weight
    assert (codes[:, None] - vectors[None]).abs().amax(2).amin(1).max() < 1e-6
    assert step(task, rows, 3)["commitment"] > 0


class Frames:
    def keys(self, number):
        return [number * 4 + row for row in range(4)]

    def load(self, keys):
        return torch.cat([frames(1, seed=key % 8) for key in keys])


def engine(folder):
    folder.mkdir(exist_ok=True)
    changes = {"phases": (Phase(30),), "batch_size": 4, "lr": 5e-3, "warm_up": 2, "clip": 1.0}
    recipe = TrainingRecipe("test", "tokenizer", "", size="tiny", start="random", dropout=0.0, **changes)
    options = Options(log_every=1, save_every=100)
    return Engine(make(warm_up=3), recipe, Frames(), folder, device=torch.device("cpu"), options=options)


def test_it_learns_and_resumes_bit_for_bit(tmp_path, trained_of):
    whole = engine(tmp_path / "whole")
    whole.run()
    log = read_log(tmp_path / "whole")
    assert log[-1]["squared_error"] < 0.7 * log[0]["squared_error"]
    engine(tmp_path / "parts").run(until=11)
    again = engine(tmp_path / "parts")
    again.resume()
    again.run()
    first, second = trained_of(whole), trained_of(again)
    assert {"learned.codes", "learned.cluster_size", "learned.embed_avg"} <= first.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_edges_are_an_option():
    rows = frames(2)
    plain, edged = (make(edges=weight) for weight in (0.0, 1.0))
    assert step(edged, rows)["loss"] > step(plain, rows)["loss"] + 0.1
    assert pytest.approx(float(make().flops)) == float(plain.flops)
    assert plain.flops > 0


class TestLocality:
    def test_a_code_of_its_own_cell_alone_costs_nothing(self):
        """Latents that are means of their cells do not move when other cells change."""
        task = make(locality=1.0).train()
        task.tokenizer.latents = lambda frames, rate: torch.nn.functional.avg_pool2d(frames, rate)
        task.before_step(1, torch.Generator().manual_seed(1))
        pixels = frames(3).permute(0, 3, 1, 2).float() / 255
        assert task._spread(pixels, task.tokenizer.latents(pixels, 2)) == 0

    def test_a_code_that_follows_the_whole_frame_costs(self):
        """Latents that are the frame's mean in every cell move as that mean does."""
        task = make(locality=1.0).train()
        task.tokenizer.latents = lambda frames, rate: frames.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)
        task.before_step(1, torch.Generator().manual_seed(1))
        pixels = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
        spread = task._spread(pixels, task.tokenizer.latents(pixels, 2))
        draws = torch.Generator().manual_seed(1)
        top, left = (int(torch.randint(4, (), generator=draws)) for _ in range(2))
        rows, columns = (1 + int(torch.randint(2, (), generator=draws)) for _ in range(2))
        share = (min(4, top + rows) - top) * (min(4, left + columns) - left) / 16
        variance = pixels.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4).var()
        assert spread == pytest.approx(share**2 / float(variance), rel=1e-5)

    def test_only_in_training(self):
        task = make(locality=1.0)
        assert "spread" in step(task.train(), frames(3))
        assert "spread" not in step(task.eval(), frames(3))
        assert "spread" not in step(make().train(), frames(3))
