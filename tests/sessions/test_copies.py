"""Planted copies in real sessions: found, told in every report, and what they are worth."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from support import CONFTEST, shapes, write_folder

from pytest_datasize.reports.records.result_file import schema

GATE = "from pytest_datasize import datasize\n"
MIRRORED, BRIGHTER, EXACT = 16, 8, 4


def again(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


@pytest.fixture(scope="module")
def planted(textiles, tmp_path_factory):
    """A pool of 90 real images with copies among them; and test images, some of them leaked."""
    root = tmp_path_factory.mktemp("planted")
    paths = sorted(textiles.rglob("*.jpg"))
    chosen = [paths[row] for row in np.random.default_rng(3).permutation(len(paths))[:120]]
    pictures = [Image.open(path).convert("RGB").resize((96, 96)) for path in chosen]

    def put(part, name, picture, like):
        folder = root / part / chosen[like].parent.name
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{name}.png")

    for row in range(90):
        put("pool", f"{row:03d}", pictures[row], row)
        put("clean", f"{row:03d}", pictures[row], row)
    for row in range(MIRRORED):
        put("pool", f"{row:03d}-mirrored", ImageOps.mirror(pictures[row]), row)
    for row in range(BRIGHTER):
        put("pool", f"{row:03d}-bright", ImageEnhance.Brightness(pictures[row]).enhance(1.1), row)
    for row in range(80, 80 + EXACT):
        put("pool", f"{row:03d}-same", pictures[row], row)
    for row in range(90, 120):
        put("test", f"{row:03d}", pictures[row], row)
    for row in range(40, 50):
        put("test", f"{row:03d}-leaked", again(pictures[row], 60), row)
    return root


@pytest.fixture
def gates(pytester, planted):
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\n"
        "datasize_image_size = 64\ndatasize_weights = embedded\ndatasize_repeats = 5\n"
        "filterwarnings = default\n"
    )
    return pytester


def test_planted_copies_are_counted_shown_and_told_everywhere(gates, planted):
    gates.makepyfile(
        GATE
        + f"@datasize.requires(accuracy=0.2, dataset={str(planted / 'pool')!r})\n"
        + "def test_a(): ...\n"
    )
    result = gates.runpytest(
        "-v", "--datasize-json=r.json", "--datasize-html=r.html", "--datasize-markdown=r.md"
    )
    result.assert_outcomes(passed=1)
    run = json.loads((gates.path / "r.json").read_text())
    [record] = run["requirements"]
    found = record["advice"]["redundancy"]
    assert (found["images"], found["different"]) == (90 + MIRRORED + BRIGHTER, 90)
    assert (found["number"], found["contested"]) == (MIRRORED, 0)
    assert found["groups"][0]["images"] == 3
    assert found["measured"]
    assert 90 <= found["low"] <= found["effective"] <= found["high"] < 114
    assert any("4 exact copies" in note for note in record["notes"])
    said = "24 of 114 images are near-copies; counted as independent images the set is worth "
    page = (gates.path / "r.html").read_text()
    for report in (result.stdout.str(), page, (gates.path / "r.md").read_text()):
        assert said in report
    result.stdout.fnmatch_lines(["*near-copies: *-mirrored.png*"])
    section = page[page.index("<h3>Near-copies</h3>") :]
    section = section[: section.index("<h3>More numbers")]
    shown = [one for group in found["groups"] for one in group["shown"]]
    assert section.count("data:image/jpeg;base64,") == len({one["picture"] for one in shown})
    assert section.count("data:image/jpeg;base64,") >= 24
    import jsonschema

    jsonschema.validate(run, schema())


def test_leaked_test_images_are_left_out_and_named(gates, planted):
    gates.makepyfile(
        GATE
        + f"""
@datasize.requires(
    accuracy=0.2, dataset={str(planted / "clean")!r}, test_dataset={str(planted / "test")!r}
)
def test_a(): ...
"""
    )
    result = gates.runpytest("--datasize-json=r.json", "-v")
    result.assert_outcomes(passed=1)
    [record] = json.loads((gates.path / "r.json").read_text())["requirements"]
    assert record["n_test"] == 30
    [note] = [note for note in record["notes"] if "nearly the same" in note]
    assert note.startswith("10 test images are nearly the same as one of the pool")
    assert record["advice"]["redundancy"]["number"] == 0
    result.stdout.fnmatch_lines(["*no near-copies were found among 90 images"])


def test_leaks_can_be_made_an_error(gates, planted):
    gates.makepyfile(
        GATE
        + f"""
@datasize.requires(
    accuracy=0.2, dataset={str(planted / "clean")!r}, test_dataset={str(planted / "test")!r},
    checks={{"near_duplicates": "error"}},
)
def test_a(): ...
"""
    )
    result = gates.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["10 test images are nearly the same*", "*-leaked.png ~ *"])


def test_copies_are_found_where_nothing_is_embedded(pytester, planted):
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\ndatasize_repeats = 3\n")
    pytester.makepyfile(
        f"""
import numpy as np
from pytest_datasize import datasize

def nearest_mean(train, test, *, seed, device):
    known, asked = (part.pixels(8).reshape(len(part), -1) / 255 for part in (train, test))
    means = np.stack([known[train.labels == c].mean(axis=0) for c in range(len(train.classes))])
    distance = ((asked[:, None] - means) ** 2).sum(axis=2)
    p = np.exp(-10 * distance)
    return p / p.sum(axis=1, keepdims=True)

@datasize.requires(accuracy=0.1, trainer=nearest_mean, dataset={str(planted / "pool")!r})
def test_a(): ...
"""
    )
    result = pytester.runpytest("--datasize-json=r.json", "-v")
    result.assert_outcomes(passed=1)
    [record] = json.loads((pytester.path / "r.json").read_text())["requirements"]
    advice = record["advice"]
    assert advice["redundancy"]["different"] == 90
    assert advice["neighbours"] is None
    assert advice["parameters"] is None


def test_whoever_ignores_copies_is_told_that_no_one_looked(gates, planted):
    gates.makepyfile(
        GATE
        + f"""
@datasize.requires(
    accuracy=0.2, dataset={str(planted / "pool")!r}, checks={{"alike": "ignore"}}
)
def test_a(): ...
"""
    )
    result = gates.runpytest("--datasize-json=r.json", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*copies*near-copies were not looked for*"])
    [record] = json.loads((gates.path / "r.json").read_text())["requirements"]
    assert record["advice"]["redundancy"] is None


def test_parameters_per_image_are_told_with_why_they_do_not_decide(repository):
    repository.makepyfile(GATE + "@datasize.requires(accuracy=0.6)\ndef test_a(): ...\n")
    quiet = repository.runpytest()
    assert "parameters are trained" not in quiet.stdout.str()
    result = repository.runpytest("-v", "--datasize-json=r.json", "--datasize-html=r.html")
    # four features of three colours and a bias, for each of two classes; 96 images
    said = "26 parameters are trained, 0.271 for each available image; for information only"
    assert said in result.stdout.str()
    assert said in (repository.path / "r.html").read_text()
    [record] = json.loads((repository.path / "r.json").read_text())["requirements"]
    assert record["advice"]["parameters"]["per_image"] == pytest.approx(26 / 96, abs=1e-4)
    assert set(record["advice"]["without_interval"].values())


NETWORK = CONFTEST.replace(
    "torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten())",
    "torch.nn.Sequential(torch.nn.AvgPool2d((24, 6)), torch.nn.Flatten(), torch.nn.Linear(12, 4))",
)


def test_what_transfer_adds_is_told_once_both_strategies_ran_on_the_images(pytester, tmp_path):
    folder = write_folder(tmp_path / "data", *shapes(60))
    pytester.makeconftest(NETWORK.replace("    #", "    torch.manual_seed(0)\n    #"))
    pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider --datasize-store=kept\n"
        "datasize_image_size = 24\ndatasize_repeats = 3\n"
        f"datasize_dataset = {folder}\n"
    )
    pytester.makepyfile(
        GATE
        + """
@datasize.requires(accuracy=0.99)
def test_frozen(): ...

@datasize.requires(accuracy=0.99, strategy="from_scratch", sizes=(16, 32, 48), repeats=2)
def test_scratch(): ...
"""
    )
    first = pytester.runpytest("-k", "frozen")
    assert "from scratch" not in first.stdout.str()
    pytester.runpytest("-k", "scratch").assert_outcomes(failed=1)
    # the verdict is the stored one; what became known since stands in it all the same
    again = pytester.runpytest("-v", "-k", "frozen", "--datasize-json=r.json")
    again.stdout.fnmatch_lines(["*domain *the same network from scratch 0.* points (*"])
    [record] = json.loads((pytester.path / "r.json").read_text())["requirements"]
    gain = record["advice"]["transfer"]
    assert gain["images"] == 48
    assert gain["repeats"] == 2
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert gain["gain"] == pytest.approx(gain["frozen"] - gain["scratch"])
