"""The house as docs/architecture.md draws it: rooms one above the other, arrows down, no circle."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_datasize

PACKAGE = Path(pytest_datasize.__file__).parent

FLOORS = (
    ("errors",),
    ("requirement", "store"),
    ("images", "curve"),
    ("embedding",),
    ("trials",),
    ("study",),
    ("reports",),
    ("plugin",),
)
"""The rooms from the ground up: a module imports from its own room and from floors below."""

FACES = ("__init__", "__main__")
"""Modules that lead into the house: they name rooms of all floors, and nothing imports them."""


def modules() -> dict[str, Path]:
    """Dotted name below the package → file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imported(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a module imports, wherever in it and by whatever form."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            _, _, below = name.partition("pytest_datasize.")
            while below and below not in known:
                below = below.rpartition(".")[0]
            if below and name.startswith("pytest_datasize."):
                yield below


def arrows() -> dict[str, set[str]]:
    """Module → modules of the package that it imports, for type checking, too."""
    known = modules()
    return {
        name: set(imported(ast.parse(path.read_text("utf-8")), known)) - {name}
        for name, path in known.items()
    }


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows that point up, or across one floor."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return [
        f"{name} imports {target}"
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if name not in FACES
        and (here := name.partition(".")[0]) != (there := target.partition(".")[0])
        and (there in FACES or floor[there] >= floor[here])
    ]


def test_every_entry_at_the_top_is_a_room_of_a_floor():
    entries = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert entries == {room for rooms in FLOORS for room in rooms} | set(FACES)


def test_no_circle_of_imports():
    assert circles(arrows()) == []


def test_arrows_point_down():
    assert upward(arrows()) == []


def folders(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same arrows between the folders inside each room."""
    place = {name: ".".join(name.split(".")[:2]) for name in graph if name.count(".") > 1}
    found: dict[str, set[str]] = {folder: set() for folder in place.values()}
    for name, folder in place.items():
        found[folder] |= {place[target] for target in graph[name] if target in place} - {folder}
    return found


def test_no_circle_of_folders():
    assert circles(folders(arrows())) == []


def test_no_module_shadows_the_standard_library():
    names = {name.rpartition(".")[2] for name in modules()} - set(FACES)
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("room", ["requirement", "plugin", "store", "curve", "reports"])
def test_a_light_room_does_not_name_torch(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {str(name).partition(".")[0] for name in names} & {"torch", "timm"}, path


def test_the_checks_of_this_file_can_fail():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert upward({"images.pool": {"embedding.threads"}}) == [
        "images.pool imports embedding.threads"
    ]
    assert upward({"curve.laws": {"images.pool"}}) == ["curve.laws imports images.pool"]
