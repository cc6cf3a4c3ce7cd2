"""Run studies on the CPU and on the pretended device, and print both results as JSON.

python scenarios.py NAME        with the two libraries that `test_pretended_gpu.py` builds
"""

import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretended import Limits, Pretend, pretended
from support import shapes, stages

from pytest_datasize import Study
from pytest_datasize.embedding import device, gpu_work, reader
from pytest_datasize.embedding import precision as precisions
from pytest_datasize.embedding.threads import THREADS
from pytest_datasize.images import decoding
from pytest_datasize.images.decoding import Decoders
from pytest_datasize.store import Store
from pytest_datasize.trials.heads import heads
from pytest_datasize.trials.networks.activations import Activations
from pytest_datasize.trials.recipe import FINE_TUNING, FROM_SCRATCH
from pytest_datasize.trials.strategies import fine_tuning, from_scratch
from pytest_datasize.trials.tasks import head_data

fine_tuning.FINE_TUNING = replace(FINE_TUNING, rate=3e-3, epochs=2, cycles=1, least_steps=4)
from_scratch.FROM_SCRATCH = replace(FROM_SCRATCH, epochs=2)


@contextmanager
def gpu() -> Iterator[None]:
    """Pretend a GPU, of which this process knows nothing yet."""
    device.forget()
    with pretended():
        yield


def start(where: torch.device) -> None:
    """Start the device in a thread, in which it has to be simulated, too."""
    with Pretend():
        START_GPU(where)


START_GPU, device._start_gpu = device._start_gpu, start


def network() -> torch.nn.Module:
    return stages(normed=True, cells=(1, 3))


def beit() -> torch.nn.Module:
    """A transformer with buffers that its blocks name: they move only with the whole copy."""
    import timm

    timm.layers.set_fused_attn(False)
    torch.manual_seed(0)
    return timm.create_model(
        "beit_base_patch16_224", img_size=64, embed_dim=48, depth=3, num_heads=2, num_classes=0
    )


def nearest_mean(train: Any, test: Any, *, seed: int, device: Any) -> Any:
    means = [train.pixels(6)[train.labels == label].mean(axis=0) for label in (0, 1)]
    far = [((test.pixels(6) - mean) ** 2).sum(axis=(1, 2, 3)) for mean in means]
    return np.argmin(far, axis=0)


def study(where: str, **options: Any) -> Study:
    given = {"image_size": 24, "sizes": (8, 16, 32), "repeats": 2, "seed": 3, **options}
    data = given.pop("data", None) or shapes(60, noise=0.2)
    given.setdefault("backbone", network())
    return Study(data, device=where, **given)


TUNED = {"strategy": "fine_tuning"}
SCRATCH = {"strategy": "from_scratch"}
WIDE = {"image_size": 64, "sizes": (8, 16, 32)}
SCENARIOS: dict[str, dict[str, Any]] = {
    "heads": {},
    "heads in float32": {"precision": "float32"},
    "augmented heads": {"augment": True},
    "test images apart": {"test_dataset": shapes(40, seed=9, noise=0.2)},
    "fine-tuning": TUNED,
    "fine-tuning with a budget": {**TUNED, "budget": "600s"},
    "fine-tuning of everything": {**TUNED, "unfreeze": 9},
    "from scratch": SCRATCH,
    "from scratch with a budget": {**SCRATCH, "budget": "600s"},
    "own training": {"trainer": nearest_mean},
    "preset": {"preset": "keras-sample-size", "sizes": (8, 16, 32)},
    "BEiT": {**TUNED, **WIDE, "data": shapes(60, side=64, noise=0.2), "backbone": beit},
}


def summary(result: Any) -> dict[str, Any]:
    return {
        "scores": {name: np.asarray(one).tolist() for name, one in result.scores.items()}
        if "recall_per_class" not in result.scores
        else {"accuracy": np.asarray(result.scores["accuracy"]).tolist()},
        "notes": list(result.notes),
        "precision": result.precision,
    }


def both(options: dict[str, Any]) -> dict[str, Any]:
    """Run on both; a backbone that is a function makes a new module for each."""

    def of(where: str) -> dict[str, Any]:
        made = dict(options)
        if callable(made.get("backbone")) and not isinstance(made["backbone"], torch.nn.Module):
            made["backbone"] = made["backbone"]()
        return summary(study(where, **made).run())

    cpu = of("cpu")
    with gpu():
        return {"cpu": cpu, "cuda": of("cuda")}


def chosen() -> dict[str, Any]:
    """What ``device="auto"`` takes, for few images and if the same were much work."""
    real, where = heads.fit_batch, set()

    def fit(pool: Any, labels: torch.Tensor, *rest: Any) -> Any:
        where.add(labels.device.type)
        return real(pool, labels, *rest)

    def run() -> dict[str, Any]:
        where.clear()
        found = study("auto").run()
        return {"device": found.device, "heads": [*where], **summary(found)}

    heads.fit_batch = fit
    try:
        with gpu():
            cpu, few = summary(study("cpu").run()), run()
            gpu_work.WORTH = 1.0
            much = run()
            head_data.SMALL_HEADS = 1
            return {"cpu": cpu, "few": few, "much": much, "with large heads": run()}
    finally:
        heads.fit_batch, head_data.SMALL_HEADS = real, 10**8


def resident() -> dict[str, Any]:
    """Activations that fit into a quarter of the free memory stay on the device."""
    made, rows = Activations(6, (2, 3, 3)), np.array([4, 0, 4])
    made.values[:] = np.arange(made.values.size).reshape(made.values.shape)
    with gpu():
        device.use(torch.device("cuda"))  # which is what wakes it
        found = {}
        for name, free in (("little", 4 * made.nbytes - 1), ("enough", 4 * made.nbytes)):
            torch.cuda.mem_get_info = lambda device, free=free: (free, free)
            made.keep_on(torch.device("cuda"))
            batch = made.batch(rows, torch.device("cuda"))
            assert batch.device.type == "cuda"
            found[name] = {"held": made._on_gpu is not None, "batch": batch.tolist()}
    return {**found, "cpu": made.values[rows].tolist()}


def decoded_in_processes() -> dict[str, Any]:
    """Images for the device are decoded in two processes, which have started in time."""
    answers = []

    class Ready(Decoders):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._starting.join()

        def decode(self, places: Any) -> Any:
            answers.append(super().decode(places))
            return answers[-1]

    os.environ[THREADS] = "2"
    decoding.WORTH, reader.Decoders = 1, Ready
    with gpu():
        found = summary(study("cuda", precision="float32").run())
    cpu = summary(study("cpu", precision="float32").run())
    done = [answer is not None and None not in answer for answer in answers]
    return {"cuda": found["scores"], "cpu": cpu["scores"], "done": done}


def attention() -> dict[str, Any]:
    """Whether the faster kinds of attention may run, while networks are trained and scored."""
    seen: list[tuple[bool, bool]] = []

    class Seeing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_grad_enabled(), torch.backends.cuda.flash_sdp_enabled()))
            found: torch.Tensor = self.inner(images)
            return found

    with gpu():
        study("cuda", backbone=Seeing(), strategy="from_scratch").run()
    return {
        "trained": [fast for grad, fast in seen if grad],
        "scored": [fast for grad, fast in seen if not grad],
    }


def little(strategy: str) -> dict[str, Any]:
    """A module that its user has put on a GPU without float64, and with memory for four images."""
    with gpu():
        Limits.images, Limits.float64 = 4, False
        found = summary(study("cuda", backbone=network().to("cuda"), strategy=strategy).run())
        return {**found, "refused": Limits.refused}


def no_memory_for_heads() -> dict[str, Any]:
    """No head fits into the memory of the GPU: all of them are fitted on the CPU."""
    real, refused = heads.fit_batch, []

    def full(pool: Any, labels: torch.Tensor, *rest: Any) -> Any:
        if labels.device.type == "cuda":
            refused.append(1)
            raise RuntimeError("CUDA error: out of memory")
        return real(pool, labels, *rest)

    heads.fit_batch = full
    try:
        with gpu():
            found = summary(study("cuda", precision="float32").run())
    finally:
        heads.fit_batch = real
    cpu = summary(study("cpu", precision="float32").run())
    return {"cuda": found["scores"], "cpu": cpu["scores"], "refused": len(refused)}


def full_for_a_moment() -> dict[str, Any]:
    """Memory is full while half precision is tried; the next session finds what is right."""
    real, calls = precisions._difference, []

    def full(model: Any, *rest: Any) -> float:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("another process had it all")
        return real(model, *rest)

    precisions._difference = full
    with tempfile.TemporaryDirectory() as folder, gpu():
        with Store(Path(folder)) as store:
            first = summary(study("cuda", store=store).run())
        with Store(Path(folder)) as store:
            second = summary(study("cuda", store=store, repeats=3).run())
    return {"first": first["precision"], "second": second["precision"]}


def overflow() -> dict[str, Any]:
    """A later image is beyond the range of float16."""

    class Bright(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(images)
            return found * torch.where(images.amax((1, 2, 3)) > 2.2, 3e5, 1.0)[:, None].to(found)

    images, labels = shapes(100, noise=0.05)
    images[50:] = np.minimum(images[50:].astype(int) * 2, 255).astype(np.uint8)
    with gpu():
        return summary(study("cuda", backbone=Bright(), data=(images, labels)).run())


def main() -> None:
    """Run scenarios and calls of functions, given as a JSON list of [name, *arguments]."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False  # but for the pretended one
    found = []
    for name, *arguments in json.loads(sys.argv[1]):
        Limits.images, Limits.refused, Limits.float64 = None, 0, True
        decoding.WORTH, gpu_work.WORTH, os.environ[THREADS] = 4096, 2e12, "1"
        try:
            one = both(SCENARIOS[name]) if name in SCENARIOS else globals()[name](*arguments)
        except Exception:  # the other scenarios have tests of their own
            one = {"error": traceback.format_exc()}
        found.append(one)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
