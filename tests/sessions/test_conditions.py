"""Gates that train nothing: enough images in every class, and the right ones."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter
from support import shapes, write_folder

GATE = "from pytest_datasize import datasize\n"


def distorted(picture: Image.Image) -> Image.Image:
    """What a robot's camera makes of an image: bent by a fisheye, badly framed, out of focus."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64)))
    across, down = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))
    bent = 1.0 + 0.6 * (across**2 + down**2)
    column = np.clip(((across * bent + 1.3) / 2 * 63), 0, 63).astype(int)
    row = np.clip(((down * bent + 0.7) / 2 * 63), 0, 63).astype(int)
    return Image.fromarray(pixels[row, column]).filter(ImageFilter.GaussianBlur(1))


@pytest.fixture(scope="session")
def robots(textiles, tmp_path_factory):
    """120 real images, 60 others like them, and these 60 as a robot's camera shows them."""
    root = tmp_path_factory.mktemp("robots")
    paths = sorted(textiles.rglob("*.jp*g"))
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[:180]]
    for number, path in enumerate(chosen):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((64, 64))
        if number < 120:
            place = root / "pool" / path.parent.name
        else:
            place = root / "alike"
            (root / "robot").mkdir(exist_ok=True)
            distorted(small).save(root / "robot" / f"{number}.png")
        place.mkdir(parents=True, exist_ok=True)
        small.save(place / f"{number}.png")
    return root


@pytest.fixture
def field(pytester, robots):
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n"
        "datasize_image_size = 64\ndatasize_weights = embedded\n"
    )
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        f"def datasize_dataset():\n    return {str(robots / 'pool')!r}\n"
        "@pytest.fixture(scope='session')\n"
        f"def datasize_deployment_dataset():\n    return {str(robots / 'robot')!r}\n"
    )
    return pytester


def test_a_robots_camera_is_caught_and_a_fresh_sample_is_not(field, robots):
    field.makepyfile(
        GATE
        + f"""
@datasize.represents(deployment={str(robots / "alike")!r})
def test_alike(): ...

@datasize.represents()
def test_robot(): ...
"""
    )
    result = field.runpytest(
        "--datasize-json=run.json", "--datasize-html=run.html", "--datasize-markdown=run.md"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_robot _*",
            "the images are not like those of the deployment: a classifier distinguishes them *",
            "*least like them: *",
        ]
    )
    run = json.loads((field.path / "run.json").read_text())
    alike, robot = (record["check"] for record in run["requirements"])
    assert robot["p_value"] == robot["mmd_p_value"] == 0.001
    assert robot["accuracy_low"] > 0.8
    assert robot["auc_low"] > 0.9
    assert robot["outside_low"] > alike["outside_high"]
    assert alike["p_value"] > 0.01
    assert all(one["picture"] for one in robot["least_alike"])
    page = (field.path / "run.html").read_text()
    assert "Deployment images least like the pool" in page
    assert page.count("data:image/jpeg;base64,") == 4 * 12
    assert "1 unlike the deployment, 1 met" in page
    assert "not like those of the deployment" in (field.path / "run.md").read_text()
    import jsonschema

    from pytest_datasize.reports.records.result_file import schema

    jsonschema.validate(run, schema())


LOCKED = (
    GATE
    + """
import sys

@datasize.represents(deployment={alike!r})
def test_alike():
    assert "torch" not in sys.modules or not {locked}

@datasize.represents()
def test_robot(): ...
"""
)


def locked_field(field, robots, tmp_path):
    """The gates of both, their record committed, on copies of the images that may be changed."""
    for name in ("pool", "alike", "robot"):
        shutil.copytree(robots / name, tmp_path / name)
    conftest = (field.path / "conftest.py").read_text()
    field.makeconftest(conftest.replace(str(robots), str(tmp_path)))
    field.makepyfile(LOCKED.format(alike=str(tmp_path / "alike"), locked=False))
    field.runpytest("--datasize-lock").assert_outcomes(passed=1, failed=1)
    field.makepyfile(LOCKED.format(alike=str(tmp_path / "alike"), locked=True))
    return tmp_path


def test_the_committed_record_judges_without_embedding(field, robots, tmp_path):
    locked_field(field, robots, tmp_path)
    record = field.path / "datasize.lock.json"
    entries = json.loads(record.read_text())["gates"]
    [alike, robot] = (entries[name] for name in sorted(entries))
    assert [name.split()[-1] for name in entries] == ["represents", "represents"]
    assert robot["subject"]["images"]["number"] == 120
    assert robot["subject"]["deployment"]["number"] == 60
    assert robot["records"][0]["verdict"] == "unmet"
    check = robot["records"][0]["check"]
    assert (check["p_value"], check["mmd_p_value"]) == (0.001, 0.001)
    assert check["auc_low"] < check["auc"] <= check["auc_high"]
    assert "base64" not in record.read_text()
    result = field.runpytest_subprocess(
        "--datasize=locked", "--datasize-json=r.json", "--datasize-html=r.html"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["the images are not like those of the deployment: *"])
    run = json.loads((field.path / "r.json").read_text())
    assert [one["failed"] for one in run["requirements"]] == [False, True]
    assert run["requirements"][0]["check"]["p_value"] == alike["records"][0]["check"]["p_value"]
    import jsonschema

    from pytest_datasize.reports.records.result_file import schema

    jsonschema.validate(run, schema())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("pool", "data changed (120 then, 121 now images)"),
        ("field", "images of the deployment changed (60 then, 61 now images)"),
        ("swapped", "images of the deployment changed (still 60 images)"),
        ("level", "the requirement changed (false_alarms was 0.01, is 0.05)"),
        (
            "backbone",
            "changed (backbone was 'tf_efficientnet_lite0', is 'resnet18'",
        ),
        ("name", "has no entry"),
    ],
)
def test_what_changed_since_the_record_is_an_error(field, robots, tmp_path, change, says):
    root = locked_field(field, robots, tmp_path)
    arguments = ["-k", "robot", "--datasize=locked"]
    new = Image.new("RGB", (64, 64), "red")
    if change == "pool":
        new.save(next((root / "pool").iterdir()) / "new.png")
    elif change == "field":
        new.save(root / "robot" / "new.png")
    elif change == "swapped":
        new.save(next((root / "robot").iterdir()))
    elif change == "level":
        arguments += ["--datasize-false-alarms=0.05"]
    elif change == "backbone":
        arguments += ["--datasize-backbone=resnet18"]
    else:
        record = field.path / "datasize.lock.json"
        record.write_text(record.read_text().replace("::test_robot", "::test_other", 1))
    result = field.runpytest(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{says}*"])
    result.stdout.fnmatch_lines(["*pytest --datasize-lock*"])


def test_a_labelled_deployment_is_scored_too(repository, shape_folder):
    images, labels = shapes(60, seed=5)
    write_folder(repository.path / "site", images, labels)
    repository.makepyfile(
        GATE
        + """
@datasize.represents(deployment="site", accuracy=0.6)
def test_site(datasize_result):
    assert datasize_result.test_source.endswith("site")
    assert datasize_result.available == 120

@datasize.represents(deployment="site", accuracy=0.999)
def test_too_much(): ...
"""
    )
    result = repository.runpytest("--datasize-json=run.json")
    result.assert_outcomes(passed=1, failed=1)
    run = json.loads((repository.path / "run.json").read_text())
    kinds = {(r["metric"], r["verdict"]) for r in run["requirements"]}
    assert kinds == {(None, "met"), ("accuracy", "sufficient"), ("accuracy", "insufficient")} or (
        kinds == {(None, "met"), ("accuracy", "sufficient"), ("accuracy", "unreachable")}
    )


def test_images_that_are_all_in_the_pool_cannot_be_compared(repository, shape_folder):
    repository.makepyfile(
        GATE
        + f"""
@datasize.represents(deployment={str(shape_folder)!r})
def test_itself(): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*comparing needs 20 at least*"])


def test_too_few_images_and_no_deployment_are_errors(field, robots):
    write_folder(field.path / "few", np.zeros((3, 8, 8), np.uint8), [0, 0, 0], ["all"])
    field.makepyfile(
        GATE
        + """
@datasize.represents(deployment="few")
def test_few(): ...
@datasize.represents(deployment="nowhere")
def test_nowhere(): ...
"""
    )
    result = field.runpytest()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*few*comparing needs 20 at least*", "*nowhere does not exist*"])


def test_images_per_class_counts_and_loads_no_torch(repository):
    conftest = (repository.path / "conftest.py").read_text()
    repository.makeconftest(conftest.replace("pytest, torch", "pytest"))
    repository.makepyfile(
        GATE
        + """
import sys

@datasize.requires(images_per_class=60, backbone="resnet18")
def test_enough():
    assert "torch" not in sys.modules

@datasize.requires(images_per_class=61, backbone='resnet18')
def test_one_short(): ...

@datasize.requires(images_per_class="rule-of-thumb", backbone="resnet18")
def test_rule(): ...
"""
    )
    result = repository.runpytest_subprocess("-rA", "--datasize-json=run.json")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["61 images per class are required (marker): 'left' has 60, 'right' has 60"]
    )
    run = json.loads((repository.path / "run.json").read_text())
    rule = run["requirements"][-1]
    assert rule["check"]["images_per_class"] == 20
    assert "petewarden.com" in rule["message"]


def test_conditions_stand_beside_targets_and_in_yaml(repository):
    (repository.path / "datasize.yaml").write_text(
        "requirements:\n  - {name: plenty, images_per_class: 1000}\n"
        "  - {name: both, images_per_class: 10, accuracy: 0.6, cost_per_image: 0.5}\n"
    )
    result = repository.runpytest("datasize.yaml")
    result.assert_outcomes(passed=1, failed=1)
    result = repository.runpytest("datasize.yaml", "--datasize=plan")
    result.assert_outcomes(skipped=2)


def test_every_report_says_where_the_rule_of_thumb_is_wrong(repository):
    repository.makepyfile(GATE + "@datasize.requires(accuracy=0.995)\ndef test_a(): ...\n")
    result = repository.runpytest("-v", "--datasize-html=run.html", "--datasize-markdown=run.md")
    said = "says this is enough (smallest class: 60); the learning curve says it is not for 0.995"
    assert said in result.stdout.str()
    assert said in (repository.path / "run.html").read_text()
    assert said in (repository.path / "run.md").read_text()
