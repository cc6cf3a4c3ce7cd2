"""The CI snippets of the documentation: their structure is checked, and their commands are run.

Two kinds of command are not run, because they need a network: ``pip install``, whose arguments are
parsed instead, and ``gh``, which a script replaces that keeps its arguments. Actions
(``uses:``) are checked by their inputs: a cached folder and uploaded files must exist afterwards.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from support import CONFTEST

from pytest_datasize.reports.commands.init import _CI

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
EXPRESSIONS = {
    "github.token": "secret",
    "github.repository": "owner/name",
    "github.event.number": "7",
    "github.run_id": "1",
    "github.run_attempt": "1",
    "github.sha": "abc",
    "runner.os": "Linux",
    "matrix.part": "north",
}
STEP = {"uses", "run", "with", "if", "env", "continue-on-error"}
JOB = {"runs-on", "steps", "needs", "if", "strategy"}
GITLAB = {"image", "variables", "cache", "script", "after_script", "artifacts"}
PIP_OPTIONS = {"--no-cache-dir": 0, "--no-deps": 0, "--index-url": 1}
"""Option of ``pip install`` → how many words it takes."""


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page of the documentation."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(page: str, heading: str) -> list[str]:
    """Return the indented lines below a heading of a page."""
    section = (ROOT / "docs" / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^    (\S.*)$", section, re.MULTILINE)


def filled(text: str) -> str:
    """Replace the ``${{ }}`` of GitHub; one that is not known is an error."""
    return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda found: EXPRESSIONS[found[1]], text)


class Runner:
    """A repository with images and a gate, in which commands run as in a CI job."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder = folder
        (folder / "conftest.py").write_text(
            f"{CONFTEST}\n@pytest.fixture(scope='session')\n"
            f"def datasize_dataset(): return {str(images)!r}\n"
        )
        (folder / "pytest.ini").write_text("[pytest]\ndatasize_image_size = 24\n")
        (folder / "test_images.py").write_text(
            "from pytest_datasize import datasize\n\n\n"
            "@datasize.requires(accuracy=0.6, repeats=3)\n"
            "def test_enough(): ...\n\n\n"
            "@datasize.requires(images_per_class=50)\ndef test_count(): ...\n\n\n"
            "def test_other(): raise AssertionError('no gate')\n"
        )
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, command in {
            "python": f'exec {sys.executable} "$@"',
            "pytest": f'exec {sys.executable} -m pytest "$@"',
            "gh": f'printf "%s\\n" "$GH_TOKEN" "$@" >{folder}/gh.txt',
        }.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{command}\n")
            (bin_ / name).chmod(0o755)

    def __call__(self, script: str, **environment: str) -> None:
        """Run a script line by line, as ``bash -e`` does; the first error fails the test."""
        for line in filled(script).replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                if command.split()[:2] == ["pip", "install"]:
                    check_pip(shlex.split(command)[2:])
                    continue
                path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
                done = subprocess.run(
                    ["bash", "-e", "-c", command],
                    cwd=self.folder,
                    env={**os.environ, "CI": "true", **environment, "PATH": path},
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def exists(self, pattern: str) -> bool:
        return any(self.folder.glob(pattern))


def check_pip(words: list[str]) -> None:
    """Check the arguments of ``pip install``: options that it has, packages that can be parsed."""
    words = list(words)
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            for _ in range(PIP_OPTIONS[word]):
                assert words.pop(0).startswith("https://")
            continue
        package = Requirement(word)
        if package.name == "pytest-datasize":
            assert package.extras <= set(EXTRAS)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, shape_folder):
    """One repository for all snippets: what the first measures the others find in its cache."""
    return Runner(tmp_path_factory.mktemp("repository"), shape_folder)


def run_steps(runner: Runner, steps: list[dict]) -> None:
    """Check the steps of a GitHub job, and run their commands."""
    cached = []
    for step in steps:
        assert set(step) <= STEP
        assert ("uses" in step) != ("run" in step)
        inputs = step.get("with", {})
        if "run" in step:
            summary = runner.folder / "summary.md"
            given = {name: filled(value) for name, value in step.get("env", {}).items()}
            runner(step["run"], GITHUB_STEP_SUMMARY=str(summary), GITHUB_ACTIONS="true", **given)
            continue
        name = re.fullmatch(r"(actions/[\w/-]+)@v\d+", step["uses"])[1]
        if name.startswith("actions/cache"):
            assert filled(inputs["key"]).startswith("datasize-")
            cached.append(inputs["path"])
        if name == "actions/upload-artifact":
            assert runner.exists(inputs["path"])
    for path in cached:
        assert runner.exists(path)


def steps_of(workflow: str) -> list[dict]:
    [job] = yaml.safe_load(workflow)["jobs"].values()
    assert set(job) <= JOB
    return job["steps"]


GITHUB = {
    "ci.md": steps_of(blocks("ci.md", "yaml")[0]),
    "store.md": yaml.safe_load(blocks("store.md", "yaml")[0]),
    "init --ci github": steps_of(_CI["github"][1]),
}
GITLAB_FILES = {
    "ci.md": blocks("ci.md", "yaml")[1],
    "store.md": blocks("store.md", "yaml")[1],
    "init --ci gitlab": _CI["gitlab"][1],
}


@pytest.mark.parametrize("name", GITHUB)
def test_the_steps_of_github(runner, name):
    run_steps(runner, GITHUB[name])
    assert "Enough images" in (runner.folder / "summary.md").read_text()
    if name == "ci.md":
        check_comment(runner, GITHUB[name][-1])


def check_comment(runner: Runner, step: dict) -> None:
    """One comment that is changed in place, from the Markdown report; forks may not write one."""
    said = (runner.folder / "gh.txt").read_text().splitlines()
    assert said[:4] == ["secret", "pr", "comment", "7"]
    assert said[4:] == ["--edit-last", "--create-if-none", "--body-file", "datasize.md"]
    assert "Enough images" in (runner.folder / "datasize.md").read_text()
    workflow = yaml.safe_load(blocks("ci.md", "yaml")[0])
    assert workflow["permissions"]["pull-requests"] == "write"
    assert "pull_request" in step["if"]
    assert step["continue-on-error"] is True


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_the_workflows_of_this_project(name):
    """They are not run here; each of their scripts is one that bash can parse."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    for job in workflow["jobs"].values():
        assert "needs" not in job or job["needs"] in workflow["jobs"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            subprocess.run(["bash", "-n", "-c", step.get("run", "")], check=True)


def test_the_jobs_that_merge_stores():
    jobs = yaml.safe_load(blocks("store.md", "yaml")[2])["jobs"]
    assert all(set(job) <= JOB for job in jobs.values())
    assert jobs["judge"]["needs"] == "measure"
    uploaded = jobs["measure"]["steps"][-1]["with"]
    downloaded = jobs["judge"]["steps"][0]["with"]
    assert uploaded["name"].startswith(downloaded["pattern"].rstrip("*"))


@pytest.mark.parametrize("name", GITLAB_FILES)
def test_the_jobs_of_gitlab(runner, name):
    [job] = yaml.safe_load(GITLAB_FILES[name]).values()
    assert set(job) <= GITLAB
    for command in (*job["script"], *job.get("after_script", ())):
        runner(command)
    artifacts = job.get("artifacts", {})
    wanted = (*artifacts.get("paths", ()), *artifacts.get("reports", {}).values())
    assert all(runner.exists(path) for path in (*wanted, *job["cache"]["paths"]))
    if "codequality" in artifacts.get("reports", {}):
        assert json.loads((runner.folder / "quality.json").read_text()) == []


def test_the_dockerfile(runner):
    [text] = blocks("ci.md", "dockerfile")
    instructions = [line.split(" ", 1) for line in text.replace("\\\n", "").splitlines()]
    assert [name for name, _ in instructions] == ["FROM", "RUN", "WORKDIR", "COPY", "CMD"]
    for name, rest in instructions:
        if name == "RUN":
            runner(rest)
        if name == "CMD":
            runner(shlex.join(json.loads(rest)))


def test_the_commands_without_torch_and_of_a_record(runner):
    lines = shell_lines("ci.md", "Without torch")
    assert any(line.startswith("pytest --datasize=check") for line in lines)
    lines += shell_lines("store.md", "Machines that cannot train: the committed record")
    for line in lines:
        runner(re.sub(r"^pytest ", "pytest -m datasize ", line))
    assert runner.exists("datasize.lock.json")
