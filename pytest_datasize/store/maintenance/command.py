"""Command ``store info | merge | prune | verify``: maintain the store of sessions."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_datasize.store import DEFAULT_FOLDER
from pytest_datasize.store.maintenance.quantities import age, counted, in_bytes, size

if TYPE_CHECKING:
    from pytest_datasize.store.maintenance.merge import Merged
    from pytest_datasize.store.maintenance.prune import Pruned

Say = Callable[[str], None]

_SHOWN = 10  # studies and files that are listed by name
_MEANINGS = {
    "info": "what a store holds",
    "merge": "take everything of other stores into the first",
    "prune": "remove what was not used for long, or is too much; and garbage",
    "verify": "read everything against its checksums; exit status 1 if anything is damaged",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Offer the four things that can be done."""
    parser.epilog = "Sessions may use the stores meanwhile. See docs/store.md."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    made = {
        name: actions.add_parser(name, help=meaning, description=meaning)
        for name, meaning in _MEANINGS.items()
    }
    for name, action in made.items():
        if name != "merge":
            action.add_argument(
                "store",
                nargs="?",
                type=Path,
                default=DEFAULT_FOLDER,
                metavar="STORE",
                help=f"folder of the store (default: {DEFAULT_FOLDER})",
            )
    made["info"].add_argument("--json", action="store_true", help="for programs")
    _merge_arguments(made["merge"])
    _prune_arguments(made["prune"])
    made["verify"].add_argument(
        "--repair",
        action="store_true",
        help="take out what is damaged, so that the next session makes it again; exit status 0",
    )


def _merge_arguments(action: argparse.ArgumentParser) -> None:
    action.description = (
        "Take everything of the other stores into the first, which is made where it is missing. "
        "The others stay as they are. Interrupted, or done twice, it does no harm."
    )
    action.add_argument("store", type=Path, metavar="STORE", help="the store that grows")
    action.add_argument("others", nargs="+", type=Path, metavar="OTHER", help="stores to read")
    action.add_argument(
        "--into",
        type=Path,
        metavar="NEW",
        help="leave the first as it is, too, and take all of them into this one",
    )
    action.add_argument(
        "--same-machine",
        action="store_true",
        help="take, too, which files were read and where weights lie; of use where all stores were "
        "filled from the same paths of this machine",
    )


def _prune_arguments(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--older-than",
        type=age,
        metavar="AGE",
        help="remove what no session used for so long: 90d, 12h, 2w",
    )
    action.add_argument(
        "--max-size",
        type=size,
        metavar="SIZE",
        help="remove the least recently used until the rest fits: 500MB, 5GB, 2GiB; exit status 1 "
        "if it cannot be made to",
    )
    action.add_argument(
        "--history",
        action="store_true",
        help="what `history` shows may go as well; without this it stays",
    )
    action.add_argument("--dry-run", action="store_true", help="only say what would go")


def run(options: argparse.Namespace, say: Say) -> int:
    """Do one of them; 130 when it is interrupted.

    Parameters
    ----------
    options
        The parsed command line.
    say
        Prints one line; it makes names safe to show.
    """
    try:
        return _ACTIONS[options.action](options, say)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is lost, run the same command again", file=sys.stderr)
        return 130


def _info(options: argparse.Namespace, say: Say) -> int:
    from pytest_datasize.store.maintenance.describe import describe

    facts = describe(options.store)
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        for line in info_lines(facts):
            say(line)
    return 0


def info_lines(facts: dict[str, Any]) -> list[str]:
    """Write what a store holds, as text."""
    lines = [
        f"{facts['store']}: {in_bytes(facts['bytes'])}, "
        f"of which the index {in_bytes(facts['index_bytes'])}"
    ]
    if facts["newest_use"]:
        lines.append(f"  used        {_day(facts['oldest_use'])} to {_day(facts['newest_use'])}")
    for space in facts["spaces"]:
        used = _day(space["newest_use"])
        lines.append(
            f"  {_rows_of(space):11} {space['rows']:,} of width {space['width']}, "
            f"{in_bytes(space['bytes'])} in {counted(space['files'], 'file')}, last used {used}"
            f"{', being written' if space['being_written'] else ''}"
        )
        made = [space[name] and f"{name} {space[name]}" for name in ("torch", "openvino")]
        kind = [space["precision"], space["machine"], *made]
        made_by = ", ".join(str(part) for part in (space["backbone"], *kind) if part)
        lines.append(f"              {made_by}")
    for one in facts["documents"]:
        lines.append(
            f"  {one['kind']:11} {one['number']:,}, {in_bytes(one['bytes'])}, "
            f"last used {_day(one['newest_use'])}"
        )
    trials = sorted(facts["trials"], key=lambda one: one["newest_use"], reverse=True)
    for one in trials[:_SHOWN]:
        lines.append(
            f"  trials      {one['number']:,} of study {one['key']}, "
            f"{in_bytes(one['bytes'])}, last used {_day(one['newest_use'])}"
        )
    if len(trials) > _SHOWN:
        lines.append(f"  trials      and those of {len(trials) - _SHOWN:,} more; --json names them")
    lines.append(f"  files       {facts['files']['number']:,} remembered by date and size")
    return lines + _trouble(facts)


def _rows_of(space: dict[str, Any]) -> str:
    """Describe the rows of a space: embeddings, or hashes of what images show."""
    return "embeddings" if space["machine"] else "hashes"


def _rows(number: int) -> str:
    return f"{counted(number, 'row')} of embeddings and hashes"


def _trouble(facts: dict[str, Any]) -> list[str]:
    garbage, lines = facts["garbage"], []
    if garbage["files"] or garbage["dead_rows"]:
        lines.append(
            f"  garbage     {counted(garbage['files'], 'file')} that nothing names, "
            f"{in_bytes(garbage['file_bytes'])}; {counted(garbage['dead_rows'], 'row')} in other "
            f"files, {in_bytes(garbage['dead_bytes'])}: `store prune` removes them"
        )
    if garbage["missing_rows"]:
        lines.append(
            f"  missing     {_rows(garbage['missing_rows'])} at least: "
            "`store verify --repair` forgets them"
        )
    if facts["other_formats"]:
        lines.append(f"  beside      {', '.join(facts['other_formats'])}, of another version")
    return lines


def _merge(options: argparse.Namespace, say: Say) -> int:
    from pytest_datasize.store.maintenance.merge import merge, refuse

    given = [options.store, *options.others]
    target, *sources = [options.into, *given] if options.into else given
    refuse([target, *sources])
    for source in sources:
        with _Progress(f"merging {source}") as progress:
            found = merge(target, source, files=options.same_machine, on_progress=progress)
        say(f"{target} takes from {source}: {', '.join(_taken(found)) or 'nothing new'}")
        if found.damaged:
            say(f"  left out: {found.damaged:,} that are damaged, see: store verify {source}")
    return 0


def _prune(options: argparse.Namespace, say: Say) -> int:
    from pytest_datasize.store.maintenance.prune import prune

    found = prune(
        options.store,
        older_than=options.older_than,
        max_size=options.max_size,
        history=options.history,
        dry_run=options.dry_run,
    )
    gone = _taken(found)
    if found.garbage_files:
        garbage = counted(found.garbage_files, "file")
        gone.append(f"{garbage} that nothing named ({in_bytes(found.garbage_bytes)})")
    verb = "would go" if options.dry_run else "gone"
    about = "about " if options.dry_run else ""
    say(
        f"{options.store}: {', '.join(gone) or 'nothing'} {verb}; {in_bytes(found.before)} "
        f"before, {about}{in_bytes(found.after)} after"
    )
    if found.held:
        say(f"  {in_bytes(found.held)} stay that running sessions are writing to")
    if not found.compacted:
        say("  the index keeps its size for now: it is in use, or the disk is full")
    if not found.fits:
        asked = in_bytes(options.max_size)
        say(f"  more than {asked} is left that cannot go (history, what is in use, the index)")
    return int(not found.fits)


def _verify(options: argparse.Namespace, say: Say) -> int:
    from pytest_datasize.store.maintenance.verify import verify

    with _Progress(f"reading {options.store}") as progress:
        found = verify(options.store, repair=options.repair, on_progress=progress)
    name = str(options.store)
    if found.index:
        done = "set aside" if found.repaired else "`--repair` sets it aside"
        say(f"{name}: the index is damaged ({found.index}); {done}")
        return int(not found.repaired)
    say(
        f"{name}: read {_rows(found.rows)}, {counted(found.documents, 'document')} "
        f"and {counted(found.trials, 'trial')}, {in_bytes(found.bytes)}: "
        f"{f'{found.damaged.total():,} damaged' if found.damaged else 'all good'}"
    )
    for what, number in found.damaged.most_common(_SHOWN):
        gone = " (the file is gone)" if what in found.missing else ""
        say(f"  {number:,} of {what}{gone}")
    if len(found.damaged) > _SHOWN:
        say(f"  and more, of {len(found.damaged) - _SHOWN:,} others")
    if found.repaired:
        say("taken out; the next session that needs them makes them again")
    elif found.damaged:
        say("`--repair` takes them out, so that the next session makes them again")
    return int(not found.good and not found.repaired)


_ACTIONS: dict[str, Callable[[argparse.Namespace, Say], int]] = {
    "info": _info,
    "merge": _merge,
    "prune": _prune,
    "verify": _verify,
}


def _taken(found: "Merged | Pruned") -> list[str]:
    """Describe what was merged or removed, one text per kind."""
    return [
        *([_rows(found.rows)] if found.rows else []),
        *(f"{number:,} {kind}" for kind, number in sorted(found.documents.items())),
        *([counted(found.trials, "trial")] if found.trials else []),
        *([counted(found.files, "remembered file")] if found.files else []),
    ]


class _Progress:
    """One line that is written over, on a terminal only."""

    def __init__(self, what: str) -> None:
        self._what, self._last, self._shown = what, time.monotonic(), False

    def __enter__(self) -> "_Progress":
        return self

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._last > 0.2:
            self._last, self._shown = time.monotonic(), True
            print(f"\r{self._what}: {done:,} of {total:,}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _day(when: str | None) -> str:
    return when[:10] if when else "never"
