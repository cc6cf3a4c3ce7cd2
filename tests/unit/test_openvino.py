"""OpenVINO computes what PyTorch computes, and PyTorch does what it cannot."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from support import shapes
from torch import nn

from pytest_datasize import BackboneError, Study
from pytest_datasize.embedding import openvino_runtime, precision
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.openvino_runtime import WORTH, choose
from pytest_datasize.embedding.stages import with_stages
from pytest_datasize.embedding.threads import THREADS
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store

pytest.importorskip("openvino")

CPU, SIDE = torch.device("cpu"), 48


def pictures(count, seed=0):
    return load_images(shapes(count, seed=seed, side=SIDE)).images


def network(name="test_efficientnet", seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False)


def staged(name="test_efficientnet"):
    return with_stages(load(network(name), image_size=SIDE))


def embedded(backbone, asked="float32", runtime="openvino", count=11, store=None):
    embedder = Embedder(backbone, CPU, asked, runtime=runtime)
    return embed([pictures(count)], embedder, Store() if store is None else store)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext"])
def test_embeddings_are_those_of_pytorch_to_rounding(name):
    backbone = staged(name) if name != "test_vit" else load(network(name), image_size=None)
    expected = embedded(backbone, runtime="torch")
    found = embedded(backbone)
    assert (found.space.runtime, found.space.note) == ("openvino", "")
    torch.testing.assert_close(found.features, expected.features, rtol=2e-3, atol=2e-3)


def test_bfloat16_is_near_and_is_not_float32():
    backbone = staged()
    exact, half = (embedded(backbone, name) for name in ("float32", "bfloat16"))
    assert half.space.precision == "bfloat16"
    near, true = half.features.float(), exact.features.float()
    assert ((near - true).norm(dim=1) < 0.1 * true.norm(dim=1)).all()


def test_float16_is_left_to_pytorch():
    assert embedded(staged(), "float16").space.runtime == "torch"


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv(THREADS, threads)
        found.append(embedded(staged(), "auto", count=30).features)
    assert torch.equal(*found)


def test_an_image_is_embedded_the_same_in_any_batch():
    backbone, store = staged(), Store()
    some = embedded(backbone, count=3, store=store).features
    more = embedded(backbone, count=30, store=store)
    assert more.computed == 27
    assert torch.equal(more.features[:3], some)
    assert torch.equal(more.features, embedded(backbone, count=30).features)


def test_embeddings_of_both_runtimes_are_stored_apart(tmp_path):
    backbone = staged()
    with Store(tmp_path) as store:
        first = [embedded(backbone, runtime=name, store=store) for name in ("torch", "openvino")]
        again = [embedded(backbone, runtime=name, store=store) for name in ("torch", "openvino")]
    assert [one.computed for one in (*first, *again)] == [11, 11, 0, 0]
    assert first[0].space.key != first[1].space.key
    assert "openvino=" in first[1].space.key
    assert "openvino" not in first[0].space.key
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.features, other.features)


def test_the_stored_choice_is_used_without_another_check(tmp_path, monkeypatch):
    backbone = replace(staged(), given="as if it had a name")
    with Store(tmp_path) as store:
        expected = embedded(backbone, "auto", store=store)

    def fails(*_):
        raise AssertionError("compared again")

    monkeypatch.setattr(precision, "_alike", fails)
    with Store(tmp_path) as store:
        found = embedded(backbone, "auto", count=12, store=store)
    assert (found.computed, found.space) == (1, expected.space)
    assert torch.equal(found.features[:11], expected.features)


class Otherwise(nn.Module):
    """Looks at the pixels: a trace keeps the branch that its example took."""

    def forward(self, images):
        found = images.mean((2, 3))
        return found * 3 if bool(images.min() < -0.1) else found


class Foreign(nn.Module):
    """Leaves PyTorch in between, where a trace cannot follow."""

    def forward(self, images):
        return torch.from_numpy(np.sort(images.float().numpy(), axis=3)).mean((2, 3))


@pytest.mark.parametrize("module", [Otherwise(), Foreign()])
def test_what_a_trace_misses_is_seen_and_left_to_pytorch(module, tmp_path):
    backbone = load(module, image_size=SIDE)
    with Store(tmp_path) as store:
        found = embedded(backbone, store=store)
        again = embedded(backbone, store=store)
    assert found.space.runtime == again.space.runtime == "torch"
    assert found.space.note == again.space.note
    assert found.space.note.startswith("runtime: PyTorch, because OpenVINO computes other")
    expected = embedded(backbone, runtime="torch")
    assert found.space.key == expected.space.key
    assert torch.equal(found.features, expected.features)


class Complex(nn.Module):
    """Uses an operation that OpenVINO does not have."""

    def forward(self, images):
        return torch.linalg.svdvals(images.mean(1))[:, :4]


def test_what_cannot_be_converted_is_left_to_pytorch():
    found = embedded(load(Complex(), image_size=SIDE))
    assert found.space.note.startswith("runtime: PyTorch, because OpenVINO cannot convert it")
    assert torch.equal(
        found.features, embedded(load(Complex(), image_size=SIDE), runtime="torch").features
    )


def test_auto_depends_on_the_size_of_the_data_set_only():
    assert choose("auto", CPU, True, WORTH - 1) == "torch"
    assert choose("auto", CPU, False, WORTH) == "torch"
    assert choose("auto", torch.device("cuda"), True, WORTH) == "torch"
    assert choose("openvino", torch.device("cuda"), True, WORTH) == "torch"
    assert choose("openvino", CPU, False, 0) == "openvino"
    assert choose("torch", CPU, True, WORTH) == "torch"


@pytest.mark.skipif(platform.machine() not in openvino_runtime.MACHINES, reason="other machine")
def test_auto_chooses_openvino_where_it_pays():
    assert choose("auto", CPU, True, WORTH) == "openvino"


def test_openvino_that_is_asked_for_must_be_installed(monkeypatch):
    monkeypatch.setattr(openvino_runtime, "versions", lambda names: dict.fromkeys(names, ""))
    assert choose("auto", CPU, True, WORTH) == "torch"
    with pytest.raises(BackboneError, match=r"pip install 'pytest-datasize\[fast\]'"):
        choose("openvino", CPU, True, WORTH)


def test_a_study_tells_the_runtime_and_why_there_is_another():
    images, labels = shapes(60, side=SIDE)
    options = {"image_size": SIDE, "device": "cpu", "sizes": [8, 16, 40], "repeats": 2}
    found = Study((images, labels), backbone=network(), runtime="openvino", **options).run()
    assert found.precision.endswith(" by OpenVINO")
    other = Study((images, labels), backbone=Otherwise(), runtime="openvino", **options).run()
    assert "OpenVINO" not in other.precision
    assert any(note.startswith("runtime: PyTorch") for note in other.notes)


def test_nothing_is_sent_written_or_warned(tmp_path):
    """In a home folder of its own, from which OpenVINO's telemetry would start."""
    code = """
import sys, warnings, torch, timm
before = list(warnings.filters), torch.get_num_threads()
from pytest_datasize.embedding.openvino_runtime import OpenVINOModel
model = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
images = torch.rand(2, 3, 32, 32)
with torch.inference_mode():
    found = OpenVINOModel(model, 32, 8, "float32")(images)
    torch.testing.assert_close(found, model(images), rtol=1e-3, atol=1e-3)
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert before == (list(warnings.filters), torch.get_num_threads())
"""
    command = [sys.executable, "-W", "error", "-c", code]
    paths = os.pathsep.join(path for path in sys.path if path)
    home = {**os.environ, "PYTHONPATH": paths, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
