"""One run over classes with names that break careless reports."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import ODD_NAMES

from pytest_datasize import Study
from pytest_datasize.reports.records import result_file
from pytest_datasize.reports.records.record import plain_record, records


@pytest.fixture(scope="session")
def odd_result():
    """Evidence over three classes, far from perfect, with a real backbone of six means."""
    generator = np.random.default_rng(0)
    kinds = np.arange(240) % 3
    clean = np.linspace(0.3, 0.7, 3)[kinds][:, None, None] * np.ones((240, 24, 24))
    clean[:, :, :8] += 0.1 * (kinds == 1)[:, None, None]
    noise = 0.15 * generator.standard_normal((240, 1, 1))
    images = np.clip(clean + noise + 0.3 * generator.standard_normal(clean.shape), 0, 1)
    labels = np.array(ODD_NAMES)[kinds]
    backbone = torch.nn.Sequential(torch.nn.AvgPool2d((12, 8)), torch.nn.Flatten())
    pixels = (images * 255).astype(np.uint8)
    return Study((pixels, labels), backbone=backbone, image_size=24, repeats=4, device="cpu").run()


@pytest.fixture(scope="session")
def odd_run(odd_result):
    """A whole run as plain data: met, short, out of reach, undecided, and an error."""
    found = []
    asked = [
        ("test_met", {"accuracy": 0.5}, None),
        ("test_high", {"accuracy": 0.999, "recall_per_class": 0.99}, None),
        ("test_open", {"f1_macro": round(odd_result.curves["f1_macro"].predict(192), 3)}, 0.99),
    ]
    for name, targets, confidence in asked:
        verdict = odd_result.verdict(confidence, **targets)
        place = {
            "nodeid": f"tests/test_a.py::{name}[{ODD_NAMES[0]}]",
            "file": "tests/test_a.py",
            "line": 7,
            "settings": {"seed": 0, "backbone": None},
        }
        found += [{**record, **place} for record in records(verdict, odd_result)]
    found.append(plain_record("tests/test_a.py::test_broken", "error", "no\nimages <b>"))
    run = result_file.content(found, 1, Path(__file__).parent)
    run["created"] = "2026-01-02T03:04:05+00:00"
    return run
