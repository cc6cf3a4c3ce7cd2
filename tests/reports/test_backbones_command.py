"""Which backbone: a table of candidates on the same images."""

import pytest
from support import shapes, write_folder

from pytest_datasize.__main__ import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_folder(tmp_path_factory.mktemp("data"), *shapes(80, seed=5, noise=0.3)))


def test_a_row_for_each_backbone_with_weights_and_a_word_for_the_others(data, capsys):
    names = ["tf_efficientnet_lite0", "no_such_net"]
    named = [word for name in names for word in ("--backbone", name)]
    assert main(["backbones", data, *named, "--image-size", "32", "--repeats", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("no_such_net: left out: ")
    header, *rows = said[1:3]
    assert header.split()[:2] == ["backbone", "side"]
    assert [row.split()[0] for row in rows] == ["tf_efficientnet_lite0"]
    assert all(row.split()[1] == "32" for row in rows)
    assert len({len(line) for line in (header, *rows)}) == 1
    assert "accuracy with today's images" in said[3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        ([None, "--metric", "acuracy", "--image-size", "32", "--repeats", "3"], "not acuracy"),
        ([None, "--target", "1.5", "--image-size", "32", "--repeats", "3"], "accuracy=1.5"),
        ([None, "--repeats", "0"], "repeats=0"),
    ],
)
def test_wrong_arguments_are_named(data, capsys, arguments, says):
    given = [data if word is None else word for word in arguments]
    backbone = ["--backbone", "tf_efficientnet_lite0"]
    assert main(["backbones", *given, *backbone]) == 2
    assert says in capsys.readouterr().err
