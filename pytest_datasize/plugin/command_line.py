"""Declare the options of the command line and of the ini file, and print their help.

Imported at every pytest start: pure Python, nothing heavy.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pytest_datasize.errors import RequirementError
from pytest_datasize.reports.registry import PUBLISHERS, REPORTS
from pytest_datasize.requirement.options import OPTIONS
from pytest_datasize.requirement.spelling import nearest
from pytest_datasize.requirement.tasks import METRICS

MODES = ("run", "locked", "check", "plan", "skip")

COMMON = (
    "dataset",
    "test_dataset",
    "task",
    "group",
    "checks",
    "backbone",
    "weights",
    "strategy",
    "trainer",
    "augment",
    "budget",
    "repeats",
    "confidence",
    "level",
    "images_per_class",
    "device",
    "engine",
    "workers",
)
"""Options of the marker that the help shows first; all others are advanced."""

_COMMON_TITLE = "image data sufficiency (pytest-datasize)"
_ADVANCED_TITLE = "image data sufficiency, advanced (pytest-datasize)"

_Add = Callable[..., Any]  # pytest's addoption, or argparse's add_argument


def declare(parser: pytest.Parser) -> None:
    """Add every option to the command line and the ini file."""
    common = parser.getgroup("datasize", _COMMON_TITLE)
    advanced = parser.getgroup("datasize-advanced", _ADVANCED_TITLE)
    _declare(common.addoption, advanced.addoption)
    parser.addini("datasize_store", "like --datasize-store")
    parser.addini("datasize_publish", "where to publish (default: auto), see --datasize-publish")
    for name, option in OPTIONS.items():
        parser.addini(f"datasize_{name}", f"{option.help} (default: {option.default})")


def help_text() -> str:
    """Return the help of all options, in a common and an advanced group.

    Examples
    --------
    >>> print(help_text())
    usage: pytest [--datasize=MODE] [--datasize-OPTION=VALUE ...]
    <BLANKLINE>
    image data sufficiency (pytest-datasize):
      --datasize {run,locked,check,plan,skip}
    ...
    """
    parser = argparse.ArgumentParser(
        usage="pytest [--datasize=MODE] [--datasize-OPTION=VALUE ...]",
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Targets of @datasize.requires(...): {', '.join(METRICS)}.\n"
        "Each --datasize-OPTION=VALUE is also an argument of the marker (option=value), a default\n"
        "in datasize.yaml (option: value) and an ini value (datasize_option = value).",
    )
    common = parser.add_argument_group(_COMMON_TITLE)
    advanced = parser.add_argument_group(_ADVANCED_TITLE)
    _declare(common.add_argument, advanced.add_argument)
    return parser.format_help()


def refuse_unknown(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Refuse an option of ours that does not exist, and name the nearest.

    Raises
    ------
    pytest.UsageError
        An option begins with ``--datasize``, and neither this plugin nor a conftest.py declares it.
    """
    _, unknown = parser.parse_known_and_unknown_args(list(args))
    wrong = next((word.partition("=")[0] for word in unknown if word.startswith("--datasize")), "")
    if wrong:
        known: list[str] = []
        _declare(*[lambda flag, **_: known.append(flag)] * 2)
        hint = nearest(wrong, known) or "."
        raise pytest.UsageError(f"unknown option {wrong}{hint} `pytest --datasize-help` lists all.")


def refuse_unknown_ini(config: pytest.Config) -> None:
    """Refuse a ``datasize_...`` value of the ini file that does not exist, and name the nearest.

    Raises
    ------
    pytest.UsageError
        Neither this plugin nor a conftest.py declares it.
    """
    known = [f"datasize_{option}" for option in (*OPTIONS, "store", "publish")]
    # newer versions of pytest warn of `inicfg`
    given = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    overridden = [word.partition("=")[0] for word in config.getoption("override_ini") or ()]
    for name in (*given, *overridden):  # before pytest 9.0, the first lacks the second
        if name.startswith("datasize") and name not in known:
            try:
                config.getini(name)
            except ValueError:
                hint = nearest(name, known) or "."
                wrong = f"unknown option {name!r}{hint}"
            else:
                continue
            raise pytest.UsageError(f"ini file: {wrong} `pytest --datasize-help` lists all.")


def _declare(common: _Add, advanced: _Add) -> None:
    common(
        "--datasize",
        dest="datasize_mode",
        choices=MODES,
        default="run",
        help="run: train and judge (default); locked: judge by datasize.lock.json alone; check: "
        "only read every image and report findings; plan: print what would be trained and what "
        "it would cost; skip: skip the gates",
    )
    common(
        "--datasize-help",
        action="store_true",
        help="print these options, the common ones first, and end",
    )
    for name in COMMON:
        _declare_option(common, name)
    for name in OPTIONS:
        if name not in COMMON:
            _declare_option(advanced, name)
    for name, (_, meaning) in REPORTS.items():
        add = common if name in ("html", "json", "markdown") else advanced
        add(f"--datasize-{name}", metavar="PATH", help=meaning)
    common(
        "--datasize-baseline",
        metavar="PATH",
        help="JSON of an earlier run to compare with; where there is none yet, this run is "
        "written there",
    )
    common(
        "--datasize-lock",
        action="store_true",
        help="write the verdicts to datasize.lock.json, to be committed",
    )
    common(
        "--datasize-config",
        metavar="PATH",
        help="settings file (default: datasize.yaml in the root directory)",
    )
    advanced(
        "--datasize-publish",
        metavar="NAMES",
        help=f"where to publish besides: auto (default; {', '.join(PUBLISHERS)}, each only where "
        "the environment sets it up), none, or some of these names",
    )
    advanced(
        "--datasize-store",
        metavar="PATH",
        help="folder that keeps what was measured for the next run, or 'off' (default: in "
        "pytest's cache folder)",
    )
    advanced(
        "--datasize-refresh",
        action="store_true",
        help="measure again, whatever the store holds",
    )
    advanced(
        "--datasize-verify",
        action="store_true",
        help="read every image again, also where its file seems unchanged",
    )


def _declare_option(add: _Add, name: str) -> None:
    add(
        f"--datasize-{name.replace('_', '-')}",
        dest=f"datasize_{name}",
        metavar="VALUE",
        type=_checked(name),
        help=OPTIONS[name].help,
    )


def _checked(name: str) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        try:
            return OPTIONS[name].parse_text(name, text, "")
        except RequirementError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return check
