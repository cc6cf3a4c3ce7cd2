"""The page, read as text; ``test_browser.py`` opens it."""

import copy
import re
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from support import ODD_NAMES as NAMES

from pytest_datasize.reports.formats import html_page


class Page(HTMLParser):
    """What a browser would make of a page: elements, their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(odd_run):
    return html_page.draw(odd_run)


def test_names_from_the_data_are_text_and_whole(page):
    seen = Page(page)
    assert "script" not in seen.tags
    assert NAMES[0] in seen.text
    assert NAMES[2] in seen.text
    assert "red ?[31m?::error::|pipe| `tick` @all" in seen.text
    assert "\x1b" not in page


def test_nothing_is_loaded_from_elsewhere(page):
    seen = Page(page)
    links = [value for name, value in seen.attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_names_inside_the_page_are_unique_and_found(page):
    seen = Page(page)
    names = [value for name, value in seen.attributes if name == "id"]
    assert len(names) == len(set(names))
    wanted = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page)
    assert {first or second for first, second in wanted} <= set(names)


def test_every_drawing_has_words_and_every_table_headers(page):
    seen = Page(page)
    labels = [value for name, value in seen.attributes if name == "aria-label"]
    assert sum(label.startswith("Learning curve of") for label in labels) == seen.tags.count("svg")
    assert seen.tags.count("svg") == 8
    assert all("target" in label for label in labels if label.startswith("Learning"))
    assert 'scope="col"' in page


def test_drawings_say_numbers_as_they_are(page, odd_run):
    for record in odd_run["requirements"]:
        if record["metric"]:
            assert f">target {record['target']:g}</text>" in page
            assert f">{record['available']:,} available</text>" in page


def test_ten_requirements_make_less_than_a_megabyte(odd_run):
    run = copy.deepcopy(odd_run)
    judged = [record for record in run["requirements"] if record["metric"]]
    run["requirements"] = [judged[i % len(judged)] for i in range(10)]
    text = html_page.draw(run)
    assert Page(text).tags.count("article") == 10 + 1  # and the images and model that they share
    assert len(text.encode()) < 1_000_000


def test_what_requirements_share_stands_once_and_they_point_to_it(odd_run):
    run = copy.deepcopy(odd_run)
    judged = next(record for record in run["requirements"] if record["metric"])
    other = {**judged, "target": 0.1}
    model = {**judged, "backbone": "another_net"}
    images = copy.deepcopy(judged)  # other images of the same name and number
    images["classes"][0]["recall"] += 0.01
    run["requirements"] = [judged, other, model]
    assert len(html_page.evidences([judged, other, model, images])) == 3
    text = html_page.draw(run)
    assert text.count("How the numbers were obtained") == 2
    assert text.count("Labels to look at") <= 2
    assert text.count('href="#e1"') == 2
    assert text.count('href="#e2"') == 1
    for number in (1, 2, 3):
        assert f'<article id="r{number}"' in text
        assert f'href="#r{number}"' in text


def test_settings_that_are_the_defaults_are_left_out(odd_run):
    run = copy.deepcopy(odd_run)
    judged = next(record for record in run["requirements"] if record["metric"])
    judged["settings"] = {"confidence": 0.5, "augment": False, "seed": 7}
    run["requirements"] = [judged]
    assert html_page.changed_settings(judged) == ["confidence", "seed"]
    assert "seed=7" in html_page.draw(run)


def test_a_thousand_classes_keep_the_page_light(odd_run):
    run = copy.deepcopy(odd_run)
    [first, *_] = run["requirements"]
    first["classes"] = [{**first["classes"][0], "name": f"class {i}"} for i in range(1000)]
    run["requirements"] = [first]
    assert "the weakest 60 of 1000" in html_page.draw(run)


def test_drawing_leaves_matplotlib_as_it_was(odd_run):
    before = dict(mpl.rcParams)
    html_page.draw(odd_run)
    assert dict(mpl.rcParams) == before


def test_the_same_run_gives_the_same_page(odd_run, page):
    assert html_page.draw(odd_run) == page


def test_a_missing_package_is_told_before_anything_is_trained(pytester):
    pytester.makeconftest("import sys\nsys.modules['jinja2'] = None\n")
    pytester.makepyfile("def test_it(): ...")
    result = pytester.runpytest_subprocess("--datasize-html=out.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*needs jinja2. Install with: pip install 'pytest-datasize*html*'"]
    )
    assert not (pytester.path / "out.html").exists()
