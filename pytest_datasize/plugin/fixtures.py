"""The fixtures that users override or request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_datasize.errors import DatasizeError
from pytest_datasize.plugin.config import is_gate
from pytest_datasize.plugin.session import COMPARED, gates_of

if TYPE_CHECKING:
    from pytest_datasize.plugin.gates import Gate
    from pytest_datasize.study.compare import Comparison
    from pytest_datasize.study.result import StudyResult
    from pytest_datasize.study.study import Study


@pytest.fixture(scope="session")
def datasize_dataset() -> Any:
    """Override: the default data set of every requirement, for example in conftest.py:
        @pytest.fixture(scope="session")
        def datasize_dataset():
            return "data/train"

    A folder with one folder per class, a manifest, COCO or YOLO annotations, tar shards, a pair
    (images, labels) of arrays, a map-style torch Dataset of (image, label) or a Hugging Face one.
    """
    return None


@pytest.fixture(scope="session")
def datasize_test_dataset() -> Any:
    """Override: held-out images (default: every repeat holds out a stratified part), such as:
        @pytest.fixture(scope="session")
        def datasize_test_dataset():
            return "data/test"

    The same forms as datasize_dataset.
    """
    return None


@pytest.fixture(scope="session")
def datasize_deployment_dataset() -> Any:
    """Override: images from where the model will run, for datasize.represents(), such as:
        @pytest.fixture(scope="session")
        def datasize_deployment_dataset():
            return "data/field_samples"

    A folder of images, with class folders or without, or any form that a data set has.
    """
    return None


@pytest.fixture(scope="session")
def datasize_backbone() -> Any:
    """Override: the default backbone, a timm name or any torch.nn.Module, for example:
        @pytest.fixture(scope="session")
        def datasize_backbone():
            model = torchvision.models.resnet18()
            model.load_state_dict(torch.load("ours.pth", weights_only=True))
            model.fc = torch.nn.Identity()
            return model

    A module maps a batch of images (N, 3, S, S) to embeddings (N, D). It gets ImageNet's mean and
    standard deviation unless it has timm's ``pretrained_cfg``.
    """
    return None


@pytest.fixture(scope="session")
def datasize_trainer() -> Any:
    """Override: your own training loop, so that gates judge your model, for example:
        @pytest.fixture(scope="session")
        def datasize_trainer():
            def train_and_score(train, test, *, seed, device):
                model = LogisticRegression().fit(train.pixels(32).reshape(len(train), -1),
                                                 train.labels)
                return model.predict_proba(test.pixels(32).reshape(len(test), -1))
            return train_and_score

    Called once per trial; ``train`` and ``test`` are map-style torch Datasets of (image, label)
    with ``labels``, ``classes``, ``pixels(side)`` and ``with_transform(transform)``. It returns
    class probabilities (n_test, C), predicted labels (n_test,), or scores such as
    ``{"accuracy": 0.87}``. A gate that names its strategy does not use it.
    """
    return None


@pytest.fixture(scope="session")
def datasize_augment() -> Any:
    """Override: the transform of a PIL image that ``augment=True`` applies, for example:
        @pytest.fixture(scope="session")
        def datasize_augment():
            return torchvision.transforms.v2.RandomRotation(180)

    Default: a random crop of at least 90 %, mirror, small turn and zoom, brightness, contrast.
    """
    return None


@pytest.fixture
def _datasize_evidence(request: pytest.FixtureRequest) -> "Gate":
    """Measure or load the evidence of a marked test; added to every marked test."""
    return gates_of(request.config).gather(request)


@pytest.fixture
def datasize_result(request: pytest.FixtureRequest) -> "StudyResult":
    """The evidence of the marked test, for your own asserts, which run if the gate passes:
    @datasize.requires(accuracy=0.9)
    def test_enough(datasize_result):
        assert datasize_result.curves["accuracy"].ceiling.mean > 0.95
    """
    if not is_gate(request.node):
        pytest.fail(
            "datasize_result needs a requirement on the test, such as "
            "@datasize.requires(accuracy=0.9); without one use datasize_study.",
            pytrace=False,
        )
    gathered = request.getfixturevalue("_datasize_evidence").evidence
    evidence = [one for one in gathered if one is not None]
    if not evidence:
        pytest.fail(
            "datasize_result: the test's requirement trains nothing; give it a target, such as "
            "accuracy=0.9.",
            pytrace=False,
        )
    try:
        result: StudyResult = evidence[0].result
        if all(one.result is result for one in evidence):
            return result
        wrong = (
            f"datasize_result: this test has {len(evidence)} requirements with different evidence; "
            "use datasize_study to name the one you mean."
        )
    except DatasizeError as problem:
        from pytest_datasize.plugin.unforeseen import add_traceback

        add_traceback(request.node, "setup", problem)
        wrong = str(problem)
    pytest.fail(wrong, pytrace=False)


@pytest.fixture
def datasize_study(request: pytest.FixtureRequest) -> "Callable[..., Study]":
    """A factory of studies for use inside a test; takes the options of a marker:
        def test_more_would_help(datasize_study):
            result = datasize_study(dataset="data/train", repeats=5).run()
            curve = result.curves["accuracy"]
            assert curve.predict(2 * result.available) > curve.predict(result.available) + 0.01

    The settings of the session apply, and embeddings are shared with the gates.
    """

    def make(dataset: Any = None, **options: Any) -> "Study":
        given = options if dataset is None else {"dataset": dataset, **options}
        try:
            return gates_of(request.config).study(request, given)
        except DatasizeError as problem:
            wrong = str(problem)
        pytest.fail(wrong, pytrace=False)

    return make


@pytest.fixture
def datasize_compare(request: pytest.FixtureRequest) -> "Callable[..., Comparison]":
    """Compare strategies by score, required images, cost and worth in images:
        def test_fine_tuning_pays(datasize_compare):
            found = datasize_compare(
                strategies=["feature_extraction", "fine_tuning", "fine_tuning+augment"], target=0.9
            )
            assert found.fewest.startswith("fine_tuning")

    The report shows the table; ``metric=`` and the options of datasize_study are accepted too. With
    ``preset=`` the default strategies are those that the published study compares.
    """

    def run(
        strategies: Any = None,
        target: float = 0.9,
        metric: str = "accuracy",
        dataset: Any = None,
        **options: Any,
    ) -> "Comparison":
        from pytest_datasize.reports.records.comparison import comparison_record
        from pytest_datasize.study.compare import compare

        given = options if dataset is None else {"dataset": dataset, **options}

        def one(strategy: str, augment: bool) -> "StudyResult":
            asked = {**given, "strategy": strategy, "augment": augment}
            return gates_of(request.config).study(request, asked).run()

        try:
            names = strategies
            if names is None:
                from pytest_datasize.trials.presets import preset

                names = preset(str(options.get("preset"))).strategies
            found = compare(one, list(names), target, metric)
        except DatasizeError as problem:
            wrong = str(problem)
        else:
            request.node.user_properties.append(("datasize_comparison", str(found)))
            compared = request.node.stash.setdefault(COMPARED, [])
            compared.append(comparison_record(found, request.node.nodeid))
            return found
        pytest.fail(wrong, pytrace=False)

    return run
