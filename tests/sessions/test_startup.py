"""Registering the plugin costs nothing: no heavy import until the first gate runs."""

import sys

import pytest

HEAVY = ("numpy", "scipy", "PIL", "torch", "torchvision", "timm", "huggingface_hub", "ray")
HEAVY += ("multiprocessing", "sqlite3")
PROBE = f"""
import sys, atexit
@atexit.register
def told():
    print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
GATE = (
    "from pytest_datasize import datasize\n@datasize.requires(accuracy=0.9)\ndef test_gate(): ...\n"
)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("def test_it(): ...\n", []),
        ("def test_it(): ...\n", ["--help"]),
        ("def test_it(): ...\n", ["--markers"]),
        (GATE, ["--collect-only"]),
        (GATE, ["-m", "not datasize"]),
        (GATE, ["--datasize=skip"]),
    ],
)
def test_nothing_heavy_is_imported_without_a_gate_that_runs(pytester, module, arguments):
    pytester.makeconftest(PROBE)
    pytester.makepyfile(module)
    result = pytester.run(
        sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "-p", "no:anyio", *arguments
    )
    result.stdout.fnmatch_lines(["heavy: []"])


def test_the_probe_sees_what_a_gate_imports(pytester, shape_folder):
    pytester.makeconftest(PROBE)
    dataset = f"accuracy=0.9, dataset={str(shape_folder)!r}, backbone='missing'"
    pytester.makepyfile(GATE.replace("accuracy=0.9", dataset))
    result = pytester.run(sys.executable, "-m", "pytest")
    result.stdout.fnmatch_lines(["heavy: *'numpy'*'torch'*"])


def test_the_plugin_can_be_switched_off(pytester):
    pytester.makepyfile("def test_it(datasize_result): ...\n")
    result = pytester.runpytest_subprocess("-p", "no:datasize")
    result.stdout.fnmatch_lines(["*fixture 'datasize_result' not found*"])
