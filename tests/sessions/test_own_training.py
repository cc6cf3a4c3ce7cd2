"""A training loop of one's own as the strategy: three frameworks, and all that can go wrong."""

import pytest

GATE = "from pytest_datasize import datasize\nimport pytest\nimport numpy as np\n"
SIZES = "sizes=[10, 24, 60], repeats=2"

TRAINERS = """
import numpy as np, torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def plain_torch(train, test, *, seed, device):
    def tensors(images):
        loader = torch.utils.data.DataLoader(
            images.with_transform(lambda picture: torch.from_numpy(np.array(picture.convert("L")))),
            batch_size=16,
        )
        return torch.cat([batch.float().div(255) for batch, _ in loader]).to(device)
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24 * 24, 2)).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = tensors(train), torch.from_numpy(train.labels).to(device)
    for _ in range(30):
        for rows in torch.randperm(len(train), generator=generator).split(8):
            loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad(); loss.backward(); optimiser.step()
    with torch.no_grad():
        return torch.softmax(model(tensors(test)), 1)

def sklearn_pipeline(train, test, *, seed, device):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, random_state=seed))
    model.fit(train.pixels(12).reshape(len(train), -1), train.labels)
    return np.array(test.classes)[model.predict(test.pixels(12).reshape(len(test), -1))]

class Trainer:
    '''The shape of a Hugging Face trainer: arguments, then train() and evaluate().'''
    def __init__(self, train_dataset, eval_dataset, seed):
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
    @staticmethod
    def collate(dataset):
        images, labels = zip(*dataset)
        return np.stack(images)[..., 0].mean(axis=1) / 255, np.array(labels)
    def train(self):
        self.model = LogisticRegression().fit(*self.collate(self.train_dataset))
    def evaluate(self):
        columns, labels = self.collate(self.eval_dataset)
        p = self.model.predict_proba(columns)
        return {"accuracy": (p.argmax(1) == labels).mean(),
                "loss": -np.log(p[np.arange(len(labels)), labels]).mean()}

def hugging_face_style(train, test, *, seed, device):
    trainer = Trainer(train, test, seed)
    trainer.train()
    return trainer.evaluate()
"""


@pytest.mark.slow
def test_three_frameworks(repository):
    repository.makepyfile(theirs=TRAINERS)
    repository.makepyfile(
        GATE
        + f"""
import theirs

@pytest.mark.parametrize("train", [theirs.plain_torch, theirs.sklearn_pipeline])
class TestOutcomes:
    @pytest.fixture
    def datasize_trainer(self, train): return train

    @datasize.requires(accuracy=0.52, f1_macro=0.5, recall_per_class=0.4, {SIZES})
    def test_it(self, datasize_result, train):
        assert datasize_result.backbone == f"trainer theirs.{{train.__name__}}"
        assert datasize_result.strategy == "own_training"

@datasize.requires(accuracy=0.6, loss=0.65, trainer="theirs:hugging_face_style",
                   direction={{"loss": "lower"}}, bounds={{"loss": (0, None)}}, {SIZES})
def test_scores(datasize_result):
    losses = datasize_result.scores["loss"]
    assert 0 < np.mean(losses[-1]) < np.mean(losses[0]) < 2
    assert datasize_result.curves["loss"].predict(1000) > -np.mean(losses[-1]) - 0.02

@datasize.requires(loss=0.001, trainer="theirs:hugging_face_style",
                   direction={{"loss": "lower"}}, bounds={{"loss": (0, None)}}, {SIZES})
def test_short(): ...
"""
    )
    result = repository.runpytest("-rA", "--datasize-json=out.json")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.re_match_lines([r"loss 0\.001 (needs|is out of reach).*"])
    result.stdout.no_fnmatch_line("*-0.*loss*")


WRONG = {
    "raise ZeroDivisionError('their bug')": "trial with 60 images, repeat 0 *ZeroDivisionError: "
    "their bug *test_it.py:*",
    "return {'accuracy': float('nan')}": "*trial with 60 images*accuracy=nan*finite*",
    "return {'f1_macro': 0.5}": "*scored f1_macro, not accuracy*",
    "return {'accuracy': 87.0}": "*accuracy=87, outside 0 to 1*bounds=*",
    "return {'accuracy': 0.5, **({'auc': 0.5} if len(train) > 30 else {})}": "*lacks auc*",
    "return np.zeros((3, 2))": "*shape (3, 2)*expected scores*(24, 2)*",
    "return np.full(len(test), 7)": "*predicted a label outside 0 to 1*",
    "return None": "*returned NoneType*",
    "return {}": "*returned no scores*",
}


def test_what_is_wrong_is_named_with_its_trial(repository):
    tests = "".join(
        f"""
def train_{number}(train, test, *, seed, device):
    {body}

@datasize.requires(accuracy=0.6, trainer=train_{number}, {SIZES})
def test_{number}(): ...
"""
        for number, body in enumerate(WRONG)
    )
    repository.makepyfile(test_it=GATE + tests)
    result = repository.runpytest()
    result.assert_outcomes(errors=len(WRONG))
    [raised] = [line for line in result.outlines if "Traceback" in line]  # for the first alone
    assert result.outlines[result.outlines.index(raised) - 1].startswith("---")
    assert "in train_0" in result.stdout.str()
    for says in WRONG.values():
        result.stdout.fnmatch_lines([f"*{says.strip('*')}*"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("loss=0.1, trainer=print", "unknown name 'loss'"),
        ("loss=3, trainer=print, direction={'loss': 'lower'}", "above 0 and below 1"),
        ("loss=3, trainer=print, direction={'loss': 'down'}", "metric → 'higher' or 'lower'"),
        ("accuracy=0.9, trainer=print, direction={'accuracy': 'lower'}", "higher accuracy is"),
        ("accuracy=0.9, trainer=3", "a function (train, test"),
        ("accuracy=0.9, strategy='finetuning'", "did you mean 'fine_tuning'?"),
        ("accuracy=0.9, unfreeze=0", "a whole number of stages"),
        ("accuracy=0.9, augment='yes'", "True, False or a transform"),
    ],
)
def test_a_wrong_declaration_is_a_collection_error(repository, arguments, says):
    repository.makepyfile(GATE + f"@datasize.requires({arguments})\ndef test_it(): ...\n")
    result = repository.runpytest()
    result.assert_outcomes(errors=1)
    assert says in result.stdout.str()


def test_strategy_and_trainer(repository):
    """A gate that names its strategy does not use the fixture; both in one marker is an error."""
    repository.makepyfile(
        GATE
        + f"""
@pytest.fixture(scope="session")
def datasize_trainer():
    def train(train, test, *, seed, device): return np.zeros(len(test), int)
    return train

@datasize.requires(accuracy=0.55, {SIZES})
def test_theirs(): ...

@datasize.requires(accuracy=0.55, strategy="feature_extraction", {SIZES})
def test_probe(): ...

@datasize.requires(accuracy=0.55, strategy="feature_extraction", trainer=print, {SIZES})
def test_both(): ...

class TestNone:
    @pytest.fixture
    def datasize_trainer(self): return None

    @datasize.requires(accuracy=0.55, strategy="own_training", {SIZES})
    def test_no_trainer(self): ...
"""
    )
    result = repository.runpytest()
    result.assert_outcomes(failed=1, passed=1, errors=2)
    result.stdout.fnmatch_lines(["*exclude each other*", "*needs trainer=*"])


def test_global_random_state_is_left_alone_and_a_trainer_that_seeds_none_is_reproducible(
    repository,
):
    repository.makepyfile(
        GATE
        + f"""
import random, torch

def train(train, test, *, seed, device):
    return {{"accuracy": (random.random() + np.random.rand() + torch.rand(1).item()) / 3}}

def test_it(datasize_study):
    random.seed(1); np.random.seed(1); torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    one, two = (datasize_study(trainer=train, {SIZES}).run().scores for _ in range(2))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after
    assert one == two
    assert len({{score for repeats in one["accuracy"] for score in repeats}}) == 6
"""
    )
    repository.runpytest().assert_outcomes(passed=1)
