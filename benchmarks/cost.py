"""What a cold, a grown and an unchanged gate cost, against the floor and against other ways.

    python benchmarks/cost.py [--rounds 3] [--device cuda] [--dataeval]
    python benchmarks/cost.py --fashion-mnist DIR --images 500 2000 10000 70000

Every figure is a process of its own; rounds are interleaved and the least time of a figure counts.
Times leave the imports out, except for the last two rows, which are whole pytest runs. Shown are
wall seconds, CPU seconds, peak memory beyond the imports, and ratios within the same run.

floor       decode every image, push it once through the backbone in the best precision, with
            PyTorch's own layers: channels last, BatchNorm folded, one batch of eight per thread
fused       the same loop with the layers as the gate melts them into each other
float32     the plain loop: torch's own threads, float32, batches of 32
cold        a gate with an empty store: ten repeats of eight sizes, curve, verdict, report
empty       the same pytest session without the gate, with the same modules imported
grown       the same after 5 % of the images came in addition
unchanged   the same again: a whole pytest run, and one with the plugin switched off
sklearn     learning_curve of a standardised LogisticRegression on the embeddings, same trials
DataEval    Sufficiency as its guide shows, the same sizes and repeats, 30 epochs of the whole
            model: run on 32 images, scaled by the images it would push through the backbone
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, REPEATS = 30, 10
CACHES = Path(tempfile.gettempdir()) / "datasize-benchmark-bytecode"
GATE = """
from pytest_datasize import datasize

@datasize.requires(accuracy=0.6)
def test_enough(): ...
"""


def main() -> None:
    """Run all figures and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dataeval", action="store_true", help="measure DataEval's way, too")
    parser.add_argument("--fashion-mnist", type=Path, help="folder of the four idx files")
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000, 10000, 70000])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, place, device = arguments.child
        print(json.dumps(FIGURES[name](Path(place), device)))
    elif arguments.fashion_mnist:
        growth(arguments.fashion_mnist, arguments.images, arguments.device)
    else:
        ratios(arguments.rounds, arguments.device, arguments.dataeval)


def ratios(rounds: int, device: str, dataeval: bool) -> None:
    """Print the table of 2,000 JPEG images."""
    import conformal_clip_data

    root = conformal_clip_data.textile_simulated_root()
    names = ["floor", "fused", "float32", "cold", "empty", "grown"]
    names += ["sklearn", "unchanged", "disabled"]
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_repository(place, f"defaults: {{dataset: {root}}}")
            for name in names + (["DataEval"] if dataeval else []):
                keep(best, name, run(name, place, device))
    floor = best["floor"]["wall"]
    for name, found in best.items():
        print(
            f"{name:10} {found['wall']:9.2f} s  CPU {found['cpu']:9.2f} s  "
            f"{found['memory'] / 2**20:6.0f} MiB  {found['wall'] / floor:8.3f} x floor"
        )
    cold = best["cold"]
    after = cold["wall"] - cold["embedding"] - best["empty"]["wall"]
    print(f"cold / fused floor        {cold['wall'] / best['fused']['wall']:.3f}")
    print(f"cold / float32            {cold['wall'] / best['float32']['wall']:.3f}")
    print(f"all but embedding / floor {after / floor:.3f}")
    print(f"grown embedding / cold    {best['grown']['embedding'] / cold['embedding']:.3f}")
    print(f"unchanged - disabled      {best['unchanged']['wall'] - best['disabled']['wall']:.3f} s")
    if dataeval:
        print(f"DataEval / cold           {best['DataEval']['wall'] / cold['wall']:.0f}")


def growth(folder: Path, counts: list[int], device: str) -> None:
    """Print cost and memory of cold gates on more and more arrays."""
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            write_repository(Path(place), "defaults: {image_size: 96}", (folder, count))
            found = run("cold", Path(place), device)
            floor = run("floor", Path(place), device)
        whole, part = (1e3 * found[name] / count for name in ("wall", "embedding"))
        print(
            f"{count:6,} images  {found['wall']:8.2f} s  {whole:6.2f} ms an image  "
            f"embedding {part:6.2f} ms  CPU {found['cpu']:8.2f} s  "
            f"{found['memory'] / 2**20:6.0f} MiB  {found['wall'] / floor['wall']:.3f} x floor"
        )


def write_repository(place: Path, yaml: str, fashion: tuple[Path, int] | None = None) -> None:
    """Write a repository with one gate."""
    (place / "test_gate.py").write_text(GATE)
    (place / "datasize.yaml").write_text(yaml)
    (place / "pytest.ini").write_text("[pytest]\n")
    if fashion:
        (place / "fashion.json").write_text(json.dumps([str(fashion[0]), fashion[1]]))
        (place / "conftest.py").write_text(
            "import pytest, sys\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport cost\n\n"
            "@pytest.fixture(scope='session')\ndef datasize_dataset():\n"
            f"    return cost.fashion({str(place)!r})\n"
        )


def fashion(place: str) -> tuple[Any, Any]:
    """Return the first images of Fashion-MNIST, 28 x 28 bytes, and their labels."""
    folder, count = json.loads((Path(place) / "fashion.json").read_text())
    parts = []
    for kind, skip in (("images-idx3", 16), ("labels-idx1", 8)):
        read = [
            np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=skip)
            for part in ("train", "t10k")
            for path in Path(folder).glob(f"{part}-{kind}-ubyte.gz")
        ]
        parts.append(np.concatenate(read))
    return parts[0].reshape(-1, 28, 28)[:count], parts[1][:count].astype(np.int64)


def run(name: str, place: Path, device: str) -> dict[str, float]:
    """Measure one figure in a process of its own, with bytecode caches as users have them."""
    command = [sys.executable, __file__, "--child", name, str(place), device]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(CACHES)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    found: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return found


def keep(best: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
    """Keep the faster of two measurements."""
    if name not in best or found["wall"] < best[name]["wall"]:
        best[name] = found


def timed(function: Callable[[], Any]) -> dict[str, float]:
    """Time a call; memory is the growth of the peak."""
    before, cpu, wall = peak(), time.process_time(), time.perf_counter()
    function()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": peak() - before,
    }


def peak() -> float:
    """Peak resident memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def image_set(place: Path) -> tuple[Any, int | None]:
    """Return the images of a repository, and the size they are shown at."""
    import conformal_clip_data

    from pytest_datasize.images.sources.load import load

    if (place / "fashion.json").exists():
        return load(fashion(str(place))).images, 96
    return load(str(conformal_clip_data.textile_simulated_root())).images, None


# -- figures, each in a process of its own ---------------------------------------------------------


def floor(place: Path, device: str, fused: bool = False) -> dict[str, float]:
    """Decode and embed once, in the best precision, with nothing else around it."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.embedding.precision import fast_precisions, prepare
    from pytest_datasize.images.decode import decode

    images, side = image_set(place)
    backbone = load("tf_efficientnet_lite0", image_size=side)
    on_cpu = device == "cpu"
    size, cores = (8, len(os.sched_getaffinity(0))) if on_cpu else (64, os.cpu_count() or 1)
    torch.set_num_threads(1)
    first = torch.stack([backbone.preprocess(decode(images.read(row))) for row in range(4)])
    if fused:
        inference = prepare(backbone, torch.device(device), first)
        model, dtype = inference.model, inference.dtype
    else:
        dtype = getattr(torch, (*fast_precisions(torch.device(device)), "float32")[0])
        model = folded(backbone.model, first).to(device, dtype, memory_format=torch.channels_last)

    def pixels(rows: range) -> Any:
        return torch.stack([backbone.crop(decode(images.read(row))) for row in rows])

    @torch.inference_mode()
    def forward(batch: Any) -> Any:
        batch = backbone.normalise(batch.to(device, non_blocking=True))
        return model(batch.to(dtype, memory_format=torch.channels_last)).half().cpu()

    def loop() -> None:
        rows = [range(k, min(k + size, len(images))) for k in range(0, len(images), size)]
        with ThreadPoolExecutor(cores) as pool:
            if on_cpu:
                list(pool.map(lambda some: forward(pixels(some)), rows))
            else:
                for batch in pool.map(pixels, rows):
                    forward(batch)

    return timed(loop)


def folded(model: Any, images: Any) -> Any:
    """Return a model whose BatchNorm layers are folded, and nothing else."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from pytest_datasize.embedding.fusion import _own_activation, watch

    for convolution, norm, *_ in watch(model, images[:1])[1]:
        if norm is not None:
            layers = model.get_submodule(convolution), model.get_submodule(norm)
            model.set_submodule(convolution, fuse_conv_bn_eval(*layers))
            model.set_submodule(norm, _own_activation(layers[1]))
    return model


def fused(place: Path, device: str) -> dict[str, float]:
    """Do the same with the model of the gate."""
    return floor(place, device, fused=True)


def float32(place: Path, device: str) -> dict[str, float]:
    """Embed as most scripts do."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.images.decode import decode

    images, side = image_set(place)
    backbone = load("tf_efficientnet_lite0", image_size=side)
    model = backbone.model.to(device)

    class Plain(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, row: int) -> Any:
            return backbone.preprocess(decode(images.read(row)))

    @torch.inference_mode()
    def loop() -> None:
        torch.cat([model(batch.to(device)).cpu() for batch in DataLoader(Plain(), batch_size=32)])

    return timed(loop)


PLUGIN = ("-p", "pytest_datasize.plugin.hooks")


def session(place: Path, device: str, *more: str) -> int:
    """Run pytest in this process; what other plugins cost is not measured."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plain = ["-q", *PLUGIN, "-p", "no:cacheprovider", f"--rootdir={place}", str(place)]
    files = [f"--datasize-store={place / 'store'}", f"--datasize-json={place / 'r.json'}"]
    return int(pytest.main([*plain, *files, f"--datasize-device={device}", *more]))


def imported(device: str) -> None:
    """Import what a gate imports, and wake the device."""
    import torch
    from PIL import Image

    import pytest_datasize.plugin.gates
    import pytest_datasize.reports.records.record
    import pytest_datasize.study.run
    import pytest_datasize.trials.strategies.feature_extraction  # noqa: F401

    Image.init()
    if device != "cpu":
        torch.zeros(1, device=device)


def gate(place: Path, device: str, *more: str) -> dict[str, float]:
    """Time a session beyond the imports, and the part of it that embeds."""
    imported(device)
    found = timed(lambda: session(place, device, *more))
    [record] = json.loads((place / "r.json").read_text())["requirements"]
    return {**found, "embedding": record["timings"]["decode_and_embed"]}


def cold(place: Path, device: str) -> dict[str, float]:
    """Judge with an empty store."""
    return gate(place, device)


def empty(place: Path, device: str) -> dict[str, float]:
    """Run the session of `cold` without the plugin: pytest itself walks all that is imported."""
    import pytest

    imported(device)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plain = ["-q", "-p", "no:cacheprovider", f"--rootdir={place}", str(place)]
    return timed(lambda: pytest.main(plain))


def grown(place: Path, device: str) -> dict[str, float]:
    """Judge when 5 % of the images came in addition; the store is made before."""
    import shutil

    import conformal_clip_data

    files = sorted(Path(conformal_clip_data.textile_simulated_root()).rglob("*.jpg"))
    data, fewer = place / "all", [path for k, path in enumerate(files) if k % 20 != 10]
    for path in fewer:
        target = data / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    options = (f"--datasize-dataset={data}", f"--datasize-store={place / 'grown'}")
    session(place, device, *options)
    for path in set(files) - set(fewer):
        shutil.copy2(path, data / path.parent.name / path.name)
    return gate(place, device, *options)


def whole(place: Path, device: str, *more: str) -> dict[str, float]:
    """Time a whole pytest run, imports and all."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={place}"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run([*command, *more, str(place)], stdout=subprocess.DEVNULL, check=True, env=alone)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall": time.perf_counter() - start,
        "cpu": cpu,
        "memory": after.ru_maxrss * 1024.0,
    }


def unchanged(place: Path, device: str) -> dict[str, float]:
    """Judge again what `cold` judged."""
    store = f"--datasize-store={place / 'store'}"
    return whole(place, device, *PLUGIN, store, f"--datasize-device={device}")


def disabled(place: Path, device: str) -> dict[str, float]:
    """Run the same test without the plugin; its decorator is then a mark without meaning."""
    return whole(place, device)


def sklearn(place: Path, device: str) -> dict[str, float]:
    """Train the same trials with scikit-learn, on embeddings that are there."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, learning_curve
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.embedding.embed import embed
    from pytest_datasize.embedding.embedder import Embedder
    from pytest_datasize.store import Store

    images, side = image_set(place)
    with Store(place / "store") as store:
        backbone = load("tf_efficientnet_lite0", image_size=side)
        features = (
            embed([images], Embedder(backbone, torch.device("cpu")), store).features.float().numpy()
        )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    splits = StratifiedShuffleSplit(REPEATS, test_size=0.2, random_state=0)
    return timed(
        lambda: learning_curve(
            model, features, images.labels, train_sizes=plan_sizes(images), cv=splits, n_jobs=-1
        )
    )


def dataeval(place: Path, device: str) -> dict[str, float]:
    """Scale DataEval's way by the images that it pushes through the backbone."""
    import torch
    from dataeval.performance import Sufficiency

    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.images.decode import decode

    images, side = image_set(place)
    backbone = load("tf_efficientnet_lite0", image_size=side)
    rows = list(range(0, len(images), len(images) // 32))[:32]
    data = [(backbone.preprocess(decode(images.read(r))), int(images.labels[r])) for r in rows]
    model = torch.nn.Sequential(backbone.model.requires_grad_(True), torch.nn.Linear(1280, 3))
    seen = {"train": 0, "test": 0}
    spent = {"train": 0.0, "test": 0.0}

    def batches(dataset: Any, indices: Any) -> Iterator[tuple[Any, Any]]:
        chosen = [dataset[int(index)] for index in indices]
        for k in range(0, len(chosen), 16):
            pixels, labels = zip(*chosen[k : k + 16], strict=True)
            yield torch.stack(pixels).to(device), torch.tensor(labels, device=device)

    class Train:
        def train(self, model: Any, dataset: Any, indices: Any) -> None:
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
            start = time.perf_counter()
            for pixels, labels in batches(dataset, indices):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(pixels), labels).backward()
                optimiser.step()
                seen["train"] += len(labels)
            spent["train"] += time.perf_counter() - start

    class Test:
        @torch.inference_mode()
        def evaluate(self, model: Any, dataset: Any) -> Any:
            start = time.perf_counter()
            hits = [model(x).argmax(1) == y for x, y in batches(dataset, range(len(dataset)))]
            spent["test"] += time.perf_counter() - start
            seen["test"] += len(dataset)
            return {"accuracy": float(torch.cat(hits).float().mean())}

    model.to(device)
    used = timed(
        lambda: Sufficiency(model, Train(), Test(), runs=1, substeps=3).evaluate(data, data)
    )
    sizes = plan_sizes(images)
    trained = EPOCHS * REPEATS * sum(sizes)
    tested = REPEATS * len(sizes) * round(0.2 * len(images))
    seconds = spent["train"] / seen["train"] * trained + spent["test"] / seen["test"] * tested
    share = used["cpu"] / used["wall"]
    return {"wall": seconds, "cpu": seconds * share, "memory": used["memory"]}


def plan_sizes(images: Any) -> list[int]:
    """Return the sizes that a gate would train."""
    from pytest_datasize.trials.plan import draw

    return list(draw(images, repeats=REPEATS).sizes)


FIGURES: dict[str, Callable[[Path, str], dict[str, float]]] = {
    "floor": floor,
    "fused": fused,
    "float32": float32,
    "cold": cold,
    "empty": empty,
    "grown": grown,
    "unchanged": unchanged,
    "disabled": disabled,
    "sklearn": sklearn,
    "DataEval": dataeval,
}

if __name__ == "__main__":
    main()
