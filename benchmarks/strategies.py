"""Fine-tuning from a cached trunk against the same recipe written plainly, and five strategies.

``speed``: the plain loop runs the whole model for every image of every epoch, both stages. It has
its images decoded beforehand and as many trials at a time, so that what differs is the trunk. Both
train the same trials, in turns, in one run.

``table``: feature extraction and fine-tuning, each without and with augmentation, and training
from scratch, on the same images, splits and subsamples.

Run: ``python benchmarks/strategies.py speed`` and ``... table`` (ten minutes each on two cores).
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace

import conformal_clip_data
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pytest_datasize import Study
from pytest_datasize.curve.metrics.classification import accuracy
from pytest_datasize.curve.seeds import Purpose, stream
from pytest_datasize.embedding.backbone import Backbone
from pytest_datasize.embedding.backbone import load as load_backbone
from pytest_datasize.images.content_hash import read_contents
from pytest_datasize.images.decode import decode
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load
from pytest_datasize.store import Store
from pytest_datasize.study.compare import compare
from pytest_datasize.trials.networks.cut import cut
from pytest_datasize.trials.networks.training import split
from pytest_datasize.trials.plan import draw
from pytest_datasize.trials.recipe import Recipe
from pytest_datasize.trials.strategies import fine_tuning
from pytest_datasize.trials.work import Stop, Trial, Work, spread, workers

CPU = torch.device("cpu")
RECIPE = Recipe(head_rate=3e-3, head_epochs=10, head_patience=10, epochs=10, patience=10)


def textiles(count: int) -> ImageSet:
    """Return so many textile images, the same for every run."""
    images = load(str(conformal_clip_data.textile_simulated_root())).images
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    part = images.part(rows)
    return replace(part, digests=read_contents(part, Store()))


class Whole(nn.Module):
    """A backbone with a head, as a tutorial has it."""

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone.model)
        self.head = nn.Linear(self.backbone(torch.zeros(1, 3, 64, 64)).shape[1], n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.head(self.backbone(images))


def plain(
    pixels: torch.Tensor, labels: torch.Tensor, backbone: Backbone, n_classes: int, work: Work
) -> Callable[[Trial, Stop], np.ndarray]:
    """Return the recipe of a tutorial: whole model, every epoch, every image."""
    trainable = set(cut(backbone, RECIPE.unfreeze).trainable)

    def train(trial: Trial, _: Stop) -> np.ndarray:
        size, number, repeat = trial
        generator = stream(work.seed, Purpose.VALIDATION_SPLIT, size, number)
        fit, watch = split(repeat.order[:size], work.labels, RECIPE.validation, generator)
        model = Whole(backbone, n_classes).eval().to(memory_format=torch.channels_last)
        order = np.random.default_rng([size, number])

        def loss_of(rows: np.ndarray) -> float:
            with torch.inference_mode():
                found = [
                    functional.cross_entropy(model(pixels[r]), labels[r], reduction="sum")
                    for r in torch.from_numpy(rows).split(64)
                ]
            return float(sum(found)) / len(rows)

        stages = (
            (list(model.head.parameters()), RECIPE.head_rate, RECIPE.head_epochs),
            (
                [
                    *model.head.parameters(),
                    *(p for name, p in model.backbone.named_parameters() if name in trainable),
                ],
                RECIPE.rate,
                RECIPE.epochs,
            ),
        )
        for parameters, rate, epochs in stages:
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for parameter in parameters:
                parameter.requires_grad_(True)
            optimiser = torch.optim.Adam(parameters, lr=rate, fused=True)
            best, kept = loss_of(watch), copy.deepcopy(model.state_dict())
            passes = max(1, -(-RECIPE.least_steps * min(RECIPE.batch, len(fit)) // len(fit)))
            for _epoch in range(epochs):
                for _pass in range(passes):
                    parts = -(-len(fit) // RECIPE.batch)
                    for rows in np.array_split(order.permutation(fit), parts):
                        batch = torch.from_numpy(rows)
                        optimiser.zero_grad()
                        functional.cross_entropy(model(pixels[batch]), labels[batch]).backward()
                        optimiser.step()
                if (value := loss_of(watch)) < best:
                    best, kept = value, copy.deepcopy(model.state_dict())
            model.load_state_dict(kept)
        with torch.inference_mode():
            parts = [model(pixels[rows]) for rows in torch.from_numpy(repeat.test).split(64)]
        return torch.softmax(torch.cat(parts), 1).numpy()

    return train


def speed(count: int, side: int, repeats: int) -> None:
    """Time both, one repeat after the other."""
    images = textiles(count)
    backbone = load_backbone("tf_efficientnet_lite0", image_size=side)
    plan = draw(images, sizes=(0.15, 0.4, 1.0), repeats=repeats)
    work = Work(
        plan=plan,
        image_sets=(images,),
        labels=images.labels,
        n_classes=len(images.classes),
        backbone=backbone,
        device=CPU,
        store=Store(),
        precision="float32",
        seed=0,
        on_progress=lambda *_: None,
        options={"recipe": RECIPE},
    )
    pixels = torch.stack([backbone.preprocess(decode(images.read(i))) for i in range(count)])
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(images.labels)
    tutorial = plain(pixels, labels, backbone, len(images.classes), work)
    print(f"{count} textile images at {side} pixels, sizes {plan.sizes}, {repeats} repeats")
    ratios, scores = [], {"plain": [], "cached": []}
    for number in range(repeats):
        trials = sorted(plan.trials(number, number + 1), key=lambda trial: -trial[0])
        start = time.perf_counter()
        with spread(tutorial, trials, workers(CPU)) as trained:
            whole = {t[0]: p for t, p in trained}
        slow = time.perf_counter() - start
        start = time.perf_counter()
        cached = fine_tuning.run(work, (number, number + 1))  # decoding and trunk included
        fast = time.perf_counter() - start
        ratios.append(slow / fast)
        truth, test = images.labels, plan.repeats[number].test
        scores["plain"].append([accuracy(truth[test], whole[n]).mean() for n in plan.sizes])
        scores["cached"].append([accuracy(truth[test], p[0]).mean() for p in cached.probabilities])
        print(f"repeat {number}: plain {slow:.1f} s, cached {fast:.1f} s, {slow / fast:.1f} times")
    for name, values in scores.items():
        print(f"{name:8s} accuracy by size", np.mean(values, axis=0).round(3))
    gaps = np.mean(scores["cached"], axis=1) - np.mean(scores["plain"], axis=1)
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
    print(f"difference {gaps.mean():+.4f} ± {error:.4f}")
    print(f"ratio {np.median(ratios):.1f}, floor {min(ratios):.1f}")


def table(count: int, side: int, repeats: int) -> None:
    """Print the five strategies side by side."""
    images = textiles(count)
    arrays = [np.asarray(decode(images.read(i))) for i in range(count)]
    data = np.stack(arrays), np.array(images.classes)[images.labels]

    def one(strategy: str, augment: bool):
        start = time.perf_counter()
        result = Study(
            data,
            strategy=strategy,
            augment=augment,
            image_size=side,
            repeats=repeats,
            sizes=(0.1, 0.25, 0.5, 1.0),
            device="cpu",
        ).run()
        seconds = time.perf_counter() - start
        print(strategy, "+augment" if augment else "", f"{seconds:.0f} s", flush=True)
        return result

    strategies = [
        "feature_extraction",
        "feature_extraction+augment",
        "fine_tuning",
        "fine_tuning+augment",
        "from_scratch",
    ]
    print(compare(one, strategies, target=0.75))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "table"))
    parser.add_argument("--images", type=int)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.images or 300, given.side, given.repeats)
    else:
        table(given.images or 600, given.side, given.repeats)
