"""Curves and results in a notebook: short, as a table, as a data frame, drawn."""

import builtins
import re

import numpy as np
import pytest

from pytest_datasize import LearningCurve, Store, Study


@pytest.fixture(scope="module")
def curve():
    return LearningCurve.fit([50, 100, 200], [[0.7, 0.72], [0.8, 0.81], [0.9, 0.88]], n_test=500)


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 100, (60, 32, 32)) + 100 * labels[:, None, None]
    study = Study((images.astype(np.uint8), labels), image_size=32, device="cpu")
    return study.run()


def test_a_curve_is_shown_in_one_line(curve, result):
    assert len(repr(curve)) < 120
    assert re.search(r"3 sizes from 50 to 200, 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", repr(curve))
    assert len(repr(result)) < 200


def test_a_table_has_a_row_for_every_size(curve, result):
    assert curve._repr_html_().count("<tr>") == 1 + len(curve.sizes)
    assert "0.710" in curve._repr_html_()  # the mean that was measured
    shown = result._repr_html_()
    assert shown.count("<tr>") == 1 + len(result.sizes)
    assert "<StudyResult" not in shown  # escaped


def test_a_data_frame_holds_what_the_curve_says(curve, result):
    pytest.importorskip("pandas")
    frame = curve.to_frame()
    assert list(frame["images"]) == list(curve.sizes)
    for _, row in frame.iterrows():
        assert row["projected"] == curve.predict(row["images"])
        assert (row["low"], row["high"]) == curve.interval(row["images"])
    every = result.to_frame()
    assert len(every) == len(result.outcomes) * len(result.sizes)
    assert set(every["metric"]) == set(result.outcomes)


def test_a_drawing_shows_what_was_measured_and_the_target(curve, result):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = curve.plot(figure.add_subplot(), target=0.95)
    drawn = [tuple(line.get_ydata()) for line in axes.get_lines()]
    assert (0.71, 0.805, 0.89) in [tuple(np.round(y, 3)) for y in drawn]
    assert any(set(y) == {0.95} for y in drawn)
    assert result.plot("auc", figure.add_subplot()).get_ylabel() == "auc"


def test_a_store_is_given_by_its_folder(result, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.integers(0, 100, (60, 32, 32)) + 100 * labels[:, None, None]).astype(np.uint8)
    options = {"image_size": 32, "device": "cpu", "store": str(tmp_path / "kept")}
    seen = []
    for _ in range(2):
        study = Study((images, labels), on_progress=lambda *told: seen.append(told), **options)
        again = study.run()
        with study.store:
            assert isinstance(study.store, Store)
    assert again.scores == result.scores
    assert sum(stage.startswith("embedding") and not done for stage, done, _ in seen) <= 1


def test_without_pandas_the_error_names_it(curve, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pandas"):
        curve.to_frame()
