"""``unit="group"``: gates that count patients, cameras or sites instead of images."""

import json

import jsonschema
import numpy as np
import pytest
import torch
from mosaics import mosaics, write_coco
from support import shapes, stages, write_folder

from pytest_datasize import RequirementError, Study, datasize
from pytest_datasize.__main__ import main
from pytest_datasize.curve.counts import count
from pytest_datasize.errors import DatasetError
from pytest_datasize.reports.records import result_file
from pytest_datasize.trials.networks.training import split_groups


def patients(number: int, copies: int, seed: int = 0, noise: float = 0.6):
    """Return images, labels and groups: every patient has some images that are nearly the same."""
    images, labels = shapes(number, seed, noise=noise)
    generator = np.random.default_rng(seed)
    shaken = images.repeat(copies, axis=0).astype(int)
    shaken += generator.integers(-2, 3, shaken.shape)
    return (
        np.clip(shaken, 0, 255).astype(np.uint8),
        labels.repeat(copies),
        np.arange(number).repeat(copies),
    )


def write_patients(root, number: int, copies: int, **options):
    """Write them as files such as ``left/p07_2.png``."""
    images, labels, groups = patients(number, copies, **options)
    folder = write_folder(root, images, labels)
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        own = folder / ("left", "right")[label]
        (own / f"{index:04d}.png").rename(own / f"p{group:02d}_{index % copies}.png")
    return folder


GROUP = r"p(\d+)_"


@pytest.fixture
def gate(repository):
    """Run gates of some arguments on 60 patients with four images each; return all records."""
    folder = write_patients(repository.path / "data", 60, 4, seed=1)

    def run(*arguments: str, options: tuple[str, ...] = ()):
        repository.makepyfile(
            "from pytest_datasize import datasize\n"
            + "".join(
                f"@datasize.requires({one}, dataset={str(folder)!r}, group={GROUP!r})\n"
                f"def test_gate_{number}(): ...\n"
                for number, one in enumerate(arguments)
            )
        )
        result = repository.runpytest(
            "--datasize-json=r.json", "--datasize-second-look=off", *options
        )
        run = json.loads((repository.path / "r.json").read_text())
        jsonschema.validate(run, result_file.schema())
        return result, run["requirements"]

    return run


def studied(images, labels, **options):
    """Measure accuracy; the groups say what is alike."""
    columns = torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())
    given = {"backbone": columns, "image_size": 24, "device": "cpu", "checks": "alike=ignore"}
    return Study((images, labels), **given, **options).run()


def test_copies_of_every_image_change_no_answer_in_groups():
    """Four near-copies of an image are worth one: as many groups are needed as single images."""
    one, copied = patients(160, 1), patients(160, 4)
    alone = studied(*one[:2])
    grouped = studied(*copied[:2], group=copied[2], unit="group")
    counted = studied(*copied[:2], group=copied[2])
    assert grouped.sizes == alone.sizes
    assert (grouped.available, grouped.units) == (alone.available, alone.total) == (128, 160)
    assert grouped.groups == counted.groups == {"number": 160, "images": 640}
    for number in (16, 32, 64, 128):
        score = grouped.curves["accuracy"].predict(number)
        assert score == pytest.approx(alone.curves["accuracy"].predict(number), abs=0.02)
    single, whole, images = (
        result.verdict(accuracy=0.78).judgements[0] for result in (alone, grouped, counted)
    )
    assert single.required / 1.6 < whole.required < 1.6 * single.required
    assert images.required > 2.5 * whole.required  # four times in truth
    widths = [judged.score_high - judged.score_low for judged in (single, whole, images)]
    assert widths == pytest.approx([widths[0]] * 3, rel=0.35)  # copies are no more test images


def test_reports_count_groups_and_say_how_many_images_they_have(gate):
    result, [record] = gate(
        "accuracy=0.85, unit='group', cost_per_group=100, cost_per_image=0.5, image_budget=1060",
        options=("--datasize-html=r.html", "--datasize-markdown=r.md", "--datasize-metrics=r.txt"),
    )
    result.assert_outcomes(failed=1)
    assert record["unit"] == "group"
    assert record["groups"] == {"number": 60, "images": 240}
    assert record["total"] == 240
    assert record["available"] == record["sizes"][-1] == 48
    found, converted = record["derived"]["data_set"], record["derived"]["converted"]
    assert found["images"] == 60
    assert converted["unit"] == "image"
    assert (converted["per_group"], converted["today"]) == (4.0, 240)
    assert converted["missing"] == 4 * found["missing"]
    assert record["fit"]["pool"] == 60
    money = record["advice"]["money"]
    assert money["price"] == 102  # a group, and four images
    assert money["buys"]["images"] == 10
    assert record["advice"]["collection"] is None
    lines = [
        r"about [\d,]+ groups short of accuracy 0.85 .*",
        r"NOT ENOUGH GROUPS for accuracy 0.85 .*",
        r" +now .* with your 60 groups \(240 images\).*",
        r" +needed +about [\d,]+ more groups, about [\d,]+ images at 4 each \(.*",
        r" +best .* with unlimited groups.*",
        r" +[└+].*48.available.*",
        r".*Collect about [\d,]+ more groups.*",
        r"Not enough groups: 1 gate short \(about [\d,]+ more groups\)",
    ]
    result.stdout.re_match_lines([lines[0]])
    result.stdout.re_match_lines(lines[1:])
    assert record["settings"]["unit"] == "group"


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.txt"])
def test_every_report_has_the_unit(gate, repository, name):
    option = {"r.html": "html", "r.md": "markdown", "r.txt": "metrics"}[name]
    gate("accuracy=0.85, unit='group'", options=(f"--datasize-{option}={name}",))
    text = (repository.path / name).read_text()
    says = {
        "r.html": ["with your 60 groups (240 images)", "training groups", "What more groups would"],
        "r.md": ["with your 60 groups (240 images)", "48 to train on of 60 groups"],
        "r.txt": ["datasize_available_groups{", "datasize_missing_groups{"],
    }[name]
    assert all(one in text for one in says)
    assert "datasize_available_images{" not in text
    assert "more images" not in text


def test_a_gate_that_counts_images_says_roughly_how_many_groups(gate):
    result, [short, met] = gate("accuracy=0.85", "accuracy=0.75", options=("-v",))
    missing = short["derived"]["data_set"]["missing"]
    assert short["derived"]["converted"]["missing"] == -(-missing // 4)
    result.stdout.re_match_lines(
        [r" +groups +roughly [\d,]+ more groups, if each has 4 images as today; unit='group' .*"]
    )
    result.stdout.re_match_lines([r" +groups +roughly [\d,]+ of 60 groups, if each has 4 .*"])
    assert met["unit"] == "image"
    assert met["derived"]["data_set"]["images"] == met["total"] == 240


def test_the_option_may_come_from_every_layer(repository):
    folder = write_patients(repository.path / "data", 24, 2, noise=0.3)
    repository.path.joinpath("datasize.yaml").write_text(
        f"defaults: {{dataset: {folder}, group: '{GROUP}'}}\n"
        "requirements:\n"
        "  - {name: in groups, accuracy: 0.6, unit: group}\n"
        "  - {name: in images, accuracy: 0.6}\n"
    )
    repository.makepyfile(
        "from pytest_datasize import datasize\n@datasize.requires(accuracy=0.6)\ndef test(): ...\n"
    )

    def units(*options):
        repository.runpytest("--datasize-json=r.json", *options).assert_outcomes(passed=3)
        records = json.loads((repository.path / "r.json").read_text())["requirements"]
        return [record["unit"] for record in records]

    assert sorted(units()) == ["group", "image", "image"]
    assert units("--datasize-unit=group") == ["group"] * 3
    assert sorted(units("-o", "datasize_unit=group")) == ["group"] * 3


def test_the_plan_counts_groups(gate):
    result, [plan] = gate(
        "accuracy=0.85, unit='group', sizes=[4, 12, 48]", options=("--datasize=plan",)
    )
    assert plan["unit"] == "group"
    assert plan["sizes"] == [4, 12, 48]
    result.stdout.fnmatch_lines(
        ["*48 groups to train on, 48 images to test each repeat*", "*sizes 4, 12, 48 groups, 4 *"]
    )


def test_the_check_counts_groups(gate):
    result, records = gate(
        "accuracy=0.85, unit='group'", "accuracy=0.85", options=("--datasize=check",)
    )
    assert [record["unit"] for record in records] == ["group", "image"]
    result.stdout.fnmatch_lines(["*split    48 groups to train on", "*split    192 to train on"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("unit='group'", "*unit='group' needs group=, which says which images belong together*"),
        ("cost_per_group=5", "*cost_per_group needs unit='group'*cost_per_image*"),
        ("unit='patient'", "*unit='patient' is not allowed*one of: image, group*"),
        (f"unit='group', group={GROUP!r}, sizes=[4, 5, 200]", "*sizes: 200 is outside * to 48*"),
        (
            f"unit='group', group={GROUP!r}, sizes=[2, 5, 9]",
            "*sizes: 2 is outside 4 (the groups*twice) to 48*",
        ),
        ("unit='group', group='(.)'", "*2 groups*"),
    ],
)
def test_wrong_use_says_what_to_do(repository, arguments, says):
    folder = write_patients(repository.path / "data", 60, 1)
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        f"@datasize.requires(accuracy=0.6, dataset={str(folder)!r}, {arguments})\n"
        "def test_gate(): ...\n"
    )
    result = repository.runpytest()
    assert result.ret
    result.stdout.fnmatch_lines([says])
    assert "Traceback" not in result.stdout.str()


def test_studies_and_markers_refuse_a_unit_without_groups():
    images, labels = shapes(40)
    with pytest.raises(RequirementError, match="Study: unit='group' needs group="):
        Study((images, labels), unit="group")
    assert datasize.requires(accuracy=0.85, unit="group")  # another layer may say the groups


def test_few_groups_are_an_error_that_says_how_many_are_needed(gate, repository):
    folder = write_patients(repository.path / "few", 4, 5)
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        f"@datasize.requires(accuracy=0.6, dataset={str(folder)!r}, unit='group', "
        f"group={GROUP!r})\n"
        "def test_gate(): ...\n"
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*groups*at least * are needed*"])


def test_a_baseline_in_another_unit_is_not_compared(gate, repository):
    gate("accuracy=0.85")
    (repository.path / "r.json").rename(repository.path / "old.json")
    _, [record] = gate(
        "accuracy=0.85, unit='group', max_increase=0.1",
        options=("--datasize-baseline=old.json",),
    )
    assert not record["baseline"]["found"]
    assert "the baseline counts images, this run groups" in record["baseline"]["text"]


def test_ask_counts_groups(gate, repository, capsys):
    _, [record] = gate("accuracy=0.85, unit='group', cost_per_group=10")
    path = str(repository.path / "r.json")
    capsys.readouterr()
    assert main(["ask", path, "--groups", "100", "--target", "0.85"]) == 0
    said = capsys.readouterr().out
    assert "with 100 groups: " in said
    assert "40 more than today's 60 for 400" in said
    assert f"for 0.85: about {count(record['derived']['data_set']['required'])} groups" in said
    assert main(["ask", path, "--images", "100"]) == 2
    assert "this gate counts groups; ask with --groups" in capsys.readouterr().err


TRAINER = """
import numpy as np

def whole(train, test, *, seed, device):
    kinds = train.pixels(24).mean(axis=(1, 2, 3))
    assert len(train) % 4 == 0 and len(test) % 4 == 0, "a part of a patient"
    return {"accuracy": 1 - 1 / (2 + len(train) / 4)}
"""


def test_a_trainer_gets_whole_groups_and_its_scores_are_of_groups(gate, repository):
    repository.makepyfile(own=TRAINER)
    result, [record] = gate("accuracy=0.6, unit='group', trainer='own:whole'")
    result.assert_outcomes(passed=1)
    size, mean = record["sizes"][-1], record["measured"]["mean"][-1]
    assert mean == pytest.approx(1 - 1 / (2 + size))
    luck = np.array(record["fit"]["test_covariance"])[-1, -1]
    tested = 48  # patients in four of five parts, not 192 images; Jeffreys' prior adds one
    wrong = ((1 - mean) * tested + 0.5) / (tested + 1)
    assert luck == pytest.approx(wrong * (1 - wrong) / tested)


@pytest.mark.parametrize("strategy", ["fine_tuning", "from_scratch"])
def test_networks_train_and_stop_early_on_whole_groups(strategy, monkeypatch):
    parts = []

    def watched(rows, labels, groups, *arguments):
        fit, watch = split_groups(rows, labels, groups, *arguments)
        parts.append((set(groups[fit].tolist()), set(groups[watch].tolist())))
        return fit, watch

    monkeypatch.setattr("pytest_datasize.trials.operating_points.split_groups", watched)
    images, labels, groups = patients(16, 2)
    study = Study(
        (images, labels),
        group=groups,
        unit="group",
        strategy=strategy,
        backbone=stages(normed=True, cells=(1, 1)),
        sizes=(4, 6, 8),
        repeats=2,
        image_size=24,
        device="cpu",
    )
    result = study.run()
    assert result.sizes == (4, 6, 8)
    assert result.unit == "group"
    assert result.outcomes["accuracy"].pool == 16
    assert any(watch for _, watch in parts)
    assert not any(fit & watch for fit, watch in parts)


@pytest.mark.parametrize(
    ("task", "labels_of", "metric"),
    [
        ("multilabel", lambda data: data.sets, "f1_micro"),
        ("regression", lambda data: (data.masks > 0).mean(axis=(1, 2)), "r2"),
        ("segmentation", lambda data: data.masks, "pixel_accuracy"),
    ],
)
def test_every_task_counts_groups(task, labels_of, metric):
    data = mosaics(96, seed=1)
    study = Study(
        (data.images, labels_of(data)),
        task=task,
        group=np.arange(96) // 4,
        unit="group",
        backbone=stages(normed=True, cells=(1, 1)),
        image_size=48,
        repeats=2,
        device="cpu",
        checks="alike=ignore",
    )
    result = study.run()
    assert result.unit == "group"
    assert result.available <= 20
    assert result.sizes[-1] == result.available
    assert 0 < result.outcomes[metric].test_covariance[-1, -1] < 0.2


def test_detection_counts_groups_their_images_and_objects(repository):
    data = mosaics(96, seed=1)
    path = write_coco(repository.path / "data", data)
    repository.makepyfile(
        "from pytest_datasize import datasize\n"
        f"@datasize.requires(crop_accuracy=0.65, dataset={str(path)!r}, "
        "group=lambda name: int(''.join(filter(str.isdigit, name))) // 4, unit='group')\n"
        "def test_gate(): ...\n"
    )
    result = repository.runpytest("--datasize-json=r.json", "--datasize-image-size=48")
    [record] = json.loads((repository.path / "r.json").read_text())["requirements"]
    assert record["unit"] == "group"
    assert record["groups"]["number"] == 24
    result.stdout.re_match_lines(
        [r" +needed +about [\d,]+ more groups, about [\d,]+ images at 4 each with about .*"]
    )


def test_linked_groups_are_not_separated_again_for_sizes_that_are_too_large():
    images, labels, groups = patients(40, 4)
    groups[4 * np.arange(10)] += 1  # near-copies of one patient belong to the next
    options = {"group": groups, "unit": "group", "image_size": 24, "device": "cpu"}
    options |= {"backbone": torch.nn.Flatten(), "checks": "near_duplicates=note"}
    study = Study((images, labels), **options)
    plan = study.plan()
    assert plan.available < 32
    wrong = Study((images, labels), sizes=(8, 12, plan.available + 1), **options)
    with pytest.raises(DatasetError, match="outside"):
        wrong.run()
