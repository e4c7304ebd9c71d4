"""How each embedded detector is trained on `shapes`, and how its accuracy on clips that it never saw is counted.

Shapes: B clips, C channels, T frames, H x W pixels, L looks (shape and colour).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.datasets.shapes_drawing import COLOURS, SHAPES, ShapeClass, classes, draw_clip
from eval.detectors.shapes import (
    C3D_CLASSES,
    FRAME_HEADS,
    I3D_HEADS,
    FrameNetwork,
    build_c3d,
    build_clip,
    build_i3d,
    tokenise,
)
from eval.training.batches import CLIP_FRAMES, Batch, draw_batch, prepare, rng
from eval.training.loop import fit

Progress = Callable[[str], None]


def train_i3d(seed: int, steps: int, progress: Progress) -> nn.Module:
    """Two rounds, as 10 to 9: motion and colour are learnt in the first; in the second the shape counts double."""
    network = build_i3d().to(memory_format=torch.channels_last_3d)
    everything = classes("all")
    first = round(steps * 10 / 19)
    for key, count, lr, weights in (
        (f"i3d-shapes/{seed}", first, 3e-3, {}),
        (f"i3d-shapes/{seed}/again", steps - first, 2e-3, {"shape": 2.0}),
    ):

        def loss_of_step(step: int, key: str = key, weights: dict[str, float] = weights) -> Tensor:
            batch = draw_batch(everything, 32, seed=key, step=step, spoilt=0.25)
            logits = network(prepare(batch.clips, noise=f"{key}/{step}"))["logits"]
            return _heads_loss(logits, I3D_HEADS, batch, weights)

        fit(network, loss_of_step, steps=count, lr=lr, progress=progress)
    return network


def train_c3d(seed: int, steps: int, progress: Progress) -> nn.Module:
    key = f"c3d-shapes/{seed}"
    network = build_c3d().to(memory_format=torch.channels_last_3d)
    _keep_the_variance(network)
    numbers = {of: index for index, of in enumerate(C3D_CLASSES)}

    def loss_of_step(step: int) -> Tensor:
        batch = draw_batch(C3D_CLASSES, 32, seed=key, step=step)
        logits = network(prepare(batch.clips, noise=f"{key}/{step}"))["fc8"]
        return functional.cross_entropy(logits, torch.tensor([numbers[of] for of in batch.classes]))

    fit(network, loss_of_step, steps=steps, lr=1.5e-3, progress=progress)
    return network


def train_clip(seed: int, steps: int, progress: Progress) -> nn.Module:
    """Contrastive: every group of a batch has each look once, so that no two captions of it fit one frame."""
    key = f"clip-shapes/{seed}"
    network = build_clip()

    def loss_of_step(step: int) -> Tensor:
        groups = [_one_of_each_look(f"{key}/{step}/{group}") for group in range(2)]
        frames_BTHWC = np.concatenate([frames for frames, _ in groups])
        tokens = torch.cat([tokenise([of.caption for of in chosen])[0] for _, chosen in groups])
        images = network.encode_image(prepare(frames_BTHWC, noise=f"{key}/{step}")[:, :, 0], normalize=True)  # type: ignore[operator]
        texts = network.encode_text(tokens, normalize=True)  # type: ignore[operator]
        scale = network.logit_scale.exp().clamp(max=100)  # type: ignore[operator]
        target = torch.arange(len(groups[0][1]))
        loss = torch.zeros(())
        for image_LD, text_LD in zip(images.chunk(2), texts.chunk(2), strict=True):
            logits_LL = scale * image_LD @ text_LD.T
            both = functional.cross_entropy(logits_LL, target) + functional.cross_entropy(logits_LL.T, target)
            loss = loss + both / 4
        return loss

    fit(network, loss_of_step, steps=steps, lr=1.5e-3, progress=progress)
    return network


def train_frames(seed: int, steps: int, progress: Progress) -> nn.Module:
    key = f"frame-shapes/{seed}"
    network = FrameNetwork().to(memory_format=torch.channels_last)
    everything = classes("all")

    def loss_of_step(step: int) -> Tensor:
        # Sixteen clips, four frames of each: drawing a clip costs more than the network does.
        batch = draw_batch(everything, 16, seed=key, step=step, siblings=True)
        frames_BTHWC = batch.clips[:, rng(f"{key}/{step}/t").permutation(CLIP_FRAMES)[:4]]
        frames = prepare(frames_BTHWC, noise=f"{key}/{step}").transpose(1, 2).flatten(0, 1)
        again = Batch(frames_BTHWC, tuple(of for of in batch.classes for _ in range(4)), ("clean",) * 64)
        return _heads_loss(network(frames)["logits"], FRAME_HEADS, again)

    fit(network, loss_of_step, steps=steps, lr=3e-3, progress=progress)
    return network


def _one_of_each_look(key: str) -> tuple[np.ndarray, list[ShapeClass]]:
    """One frame (L, 1, H, W, 3) of each of the 24 looks, in a random motion, and the classes."""
    random = rng(key)
    by_look: dict[tuple[str, str], list[ShapeClass]] = {}
    for of in classes("all"):
        by_look.setdefault((of.shape, of.colour), []).append(of)
    chosen = [few[int(random.integers(len(few)))] for few in by_look.values()]
    frames = [
        draw_clip(of.shape, of.colour, of.motion, f"{key}/{index}")[int(random.integers(CLIP_FRAMES))][None]
        for index, of in enumerate(chosen)
    ]
    return np.stack(frames), chosen


def _keep_the_variance(network: nn.Module) -> None:
    """He's initialisation: without batch norm, torch's own lets the signal fade over eleven layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _targets(heads: Mapping[str, Sequence[str]], batch: Batch) -> dict[str, Tensor]:
    """The right answer of each head for each clip of the batch."""
    answers: dict[str, list[int]] = {head: [] for head in heads}
    for of, order in zip(batch.classes, batch.order, strict=True):
        for head, names in heads.items():
            truth = order if head == "motion" and order != "clean" else getattr(of, head)
            answers[head].append(names.index(truth))
    return {head: torch.tensor(numbers) for head, numbers in answers.items()}


def _heads_loss(
    logits: Tensor, heads: Mapping[str, Sequence[str]], batch: Batch, weights: Mapping[str, float] | None = None
) -> Tensor:
    """The sum of one cross entropy a head; the logits of all heads lie side by side. Weights are 1 unless given."""
    parts = torch.split(logits, [len(names) for names in heads.values()], dim=1)
    targets = _targets(heads, batch)
    losses = [
        (weights or {}).get(head, 1.0) * functional.cross_entropy(part, targets[head])
        for head, part in zip(heads, parts, strict=True)
    ]
    return torch.stack(losses).sum()


def accuracy_i3d(network: nn.Module, batch: Batch) -> dict[str, float]:
    """Shares of clips whose shape, colour, motion, and all three (`joint`) are named right."""
    return _heads_accuracy(network(prepare(batch.clips))["logits"], I3D_HEADS, batch)


def accuracy_c3d(network: nn.Module, batch: Batch) -> dict[str, float]:
    """The share of clips whose class is named right."""
    named = network(prepare(batch.clips))["fc8"].argmax(1).tolist()
    return {"class": float(np.mean([C3D_CLASSES[k] == of for k, of in zip(named, batch.classes, strict=True)]))}


def accuracy_clip(network: nn.Module, batch: Batch) -> dict[str, float]:
    """The share of clips whose middle frame is nearest to its own caption among those of the 24 looks."""
    looks = [replace(batch.classes[0], shape=shape, colour=colour) for shape in SHAPES for colour in COLOURS]
    texts_LD = network.encode_text(tokenise([of.caption for of in looks])[0], normalize=True)  # type: ignore[operator]
    frames = prepare(batch.clips)[:, :, CLIP_FRAMES // 2]
    nearest = (network.encode_image(frames, normalize=True) @ texts_LD.T).argmax(1).tolist()  # type: ignore[operator]
    seen = [
        (looks[k].shape, looks[k].colour) == (of.shape, of.colour) for k, of in zip(nearest, batch.classes, strict=True)
    ]
    return {"look": float(np.mean(seen))}


def accuracy_frames(network: nn.Module, batch: Batch) -> dict[str, float]:
    """Shares of clips whose middle frame's shape, colour and both (`joint`) are named right."""
    return _heads_accuracy(network(prepare(batch.clips)[:, :, CLIP_FRAMES // 2])["logits"], FRAME_HEADS, batch)


def _heads_accuracy(logits: Tensor, heads: Mapping[str, Sequence[str]], batch: Batch) -> dict[str, float]:
    parts = torch.split(logits, [len(names) for names in heads.values()], dim=1)
    targets = _targets(heads, batch)
    right = {head: part.argmax(1) == targets[head] for head, part in zip(heads, parts, strict=True)}
    joint = torch.stack(list(right.values())).all(0)
    return {**{head: hits.float().mean().item() for head, hits in right.items()}, "joint": joint.float().mean().item()}
