"""One entry to models and classifiers of every kind: what comes in, and what is refused."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from guard_problem import candidate_classifier, candidate_model, classifier, margin, model

from safeframe.guard.calling import Callables
from safeframe.types import SafeframeError

N = 5
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(N, 3)).astype(np.float32)
WEIGHT = RNG.normal(size=(3, 2)).astype(np.float32)
TEXTS = ["a", "bc", "d", "efg", "h"]


def network(kind=torch.float32):
    made = torch.nn.Linear(3, 2, dtype=kind)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(WEIGHT.T))
        made.bias.zero_()
    return made


EXPECTED = (NUMBERS @ WEIGHT) @ np.array([-1.0, 1.0])


def test_numpy_as_before():
    y = NUMBERS.astype(np.float64)
    found = Callables(model, classifier).look(y)
    np.testing.assert_array_equal(found.action, 2.0 * y)
    np.testing.assert_array_equal(found.margin, margin(y))
    assert (found.score, found.error) == (None, None)
    found = Callables(candidate_model, candidate_classifier).look(y)
    assert (found.action.shape, found.score.dtype) == ((N, 3, 2), np.float64)
    np.testing.assert_array_equal(found.score, y)
    np.testing.assert_allclose(found.margin, 3.0 * (y - 1.0))


@pytest.mark.parametrize("of_module", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of_data", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensors_of_every_type(of_module, of_data):
    made = Callables(torch.nn.Identity(), network(of_module))
    seen = torch.tensor(NUMBERS, requires_grad=True).to(of_data)
    found = made.look(seen)
    wide = torch.float64 in (of_module,)
    assert found.margin.dtype == (np.float64 if wide else np.float32)
    narrow = torch.bfloat16 in (of_module, of_data) or torch.float16 in (of_module, of_data)
    np.testing.assert_allclose(found.margin, EXPECTED, atol=0.05 if narrow else 1e-5)
    np.testing.assert_allclose(found.action, NUMBERS, atol=0.02 if narrow else 1e-7)
    assert isinstance(found.action, np.ndarray)


def test_under_autocast_the_margins_are_numbers_of_numpy_and_training_goes_on():
    net = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Callables(torch.nn.Identity(), net).look(torch.tensor(NUMBERS))
        net(torch.tensor(NUMBERS)).float().sum().backward()
    assert found.margin.dtype == np.float32
    np.testing.assert_allclose(found.margin, EXPECTED, atol=0.05)
    assert net.weight.grad is not None


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", ">f4", "g"])
def test_arrays_of_every_type_for_modules(kind):
    found = Callables(torch.nn.Identity(), network()).look(NUMBERS.astype(kind))
    np.testing.assert_allclose(found.margin, EXPECTED, atol=0.01)


def polars():
    return pytest.importorskip("polars").DataFrame(NUMBERS, schema=["x", "y", "z"])


FRAMES = {
    "pandas": lambda: pd.DataFrame(NUMBERS, columns=list("xyz"), index=[7, 7, 1, 0, 3]),
    "polars": polars,
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_frames_for_functions_and_for_modules(kind, batch_size):
    seen = []

    def act(frame):
        seen.append(type(frame))
        return frame["x"]

    frame = FRAMES[kind]()
    found = Callables(act, network(), batch_size=batch_size).look(frame)
    assert set(seen) == {type(frame)}
    np.testing.assert_array_equal(found.action, NUMBERS[:, 0])
    np.testing.assert_allclose(found.margin, EXPECTED, atol=1e-5)
    whole = pd.DataFrame({"x": range(N), "y": [True] * N, "z": pd.array([2] * N, dtype="Int64")})
    found = Callables(ones, network()).look(whole)
    numbers = np.stack([np.arange(N), np.ones(N), np.full(N, 2)], axis=1)
    np.testing.assert_allclose(found.margin, numbers @ WEIGHT @ [-1, 1], rtol=1e-5)


def ones(frame):
    return np.full(len(frame), 1.0)


def upper(texts):
    return [text.upper() for text in texts]


def long_is_risky(texts):
    return np.array([len(text) for text in texts], float)


@pytest.mark.parametrize("seen", [TEXTS, tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS, index=[1] * N)])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_texts(seen, batch_size):
    found = Callables(upper, long_is_risky, batch_size=batch_size).look(seen)
    assert found.action.tolist() == ["A", "BC", "D", "EFG", "H"]
    assert found.margin.tolist() == [1, 2, 1, 3, 1]


class TwoEntries(torch.nn.Module):
    """Takes its entries by keywords, as models of transformers do."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 2)
        self.linear = torch.nn.Linear(2, 2).bfloat16()

    def forward(self, ids, pixels, action=None):
        shift = 0 if action is None else action.reshape(len(ids), -1).sum(1, keepdim=True)
        return self.table(ids).sum(1) + self.linear(pixels.bfloat16()).float() + shift * torch.tensor([0, 1])


class OneMapping(torch.nn.Module):
    def forward(self, batch):
        return batch["ids"].float().sum(1)


def first_entry(batch):
    return batch["pixels"][:, 0]


IDS = RNG.integers(0, 9, size=(N, 4))


@pytest.mark.parametrize("ids", [IDS, torch.from_numpy(IDS), IDS.tolist()])
def test_mappings(ids):
    batch = {"ids": ids, "pixels": NUMBERS[:, :2]}
    net = TwoEntries()
    found = Callables(first_entry, net).look(batch)
    with torch.no_grad():
        logits = net(torch.from_numpy(IDS), torch.from_numpy(NUMBERS[:, :2])).numpy()
    np.testing.assert_allclose(found.margin, logits[:, 1] - logits[:, 0], atol=1e-6)
    np.testing.assert_array_equal(found.action, NUMBERS[:, 0])
    seen = Callables(first_entry, net, classify_actions=True, batch_size=2).look(batch)
    np.testing.assert_allclose(seen.margin, found.margin + NUMBERS[:, 0], atol=1e-6)
    other = Callables(first_entry, OneMapping()).look(batch)  # a forward that takes the mapping itself
    np.testing.assert_array_equal(other.margin, IDS.sum(1))


def test_a_classifier_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        id2label={0: "fine", 1: "hate", 2: "toxic"}, label2id={"fine": 0, "hate": 1, "toxic": 2},
    )  # fmt: skip
    net = transformers.BertForSequenceClassification(config).train()
    ids = torch.from_numpy(RNG.integers(0, 30, size=(N, 6)))
    batch = transformers.BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    with torch.no_grad():
        logits = net.eval()(ids).logits.double().numpy()
    net.train()
    for label, column in (("toxic", 2), (0, 0)):
        found = Callables(lambda b: b["input_ids"][:, 0], net, unsafe_label=label, batch_size=2).look(batch)
        p = np.exp(logits)[:, column] / np.exp(logits).sum(1)
        np.testing.assert_allclose(found.margin, np.log(p / (1 - p)), atol=1e-5)
        assert found.error is None
    assert net.training
    with pytest.raises(SafeframeError, match=r"'unsafe'.*\['fine', 'hate', 'toxic'\]"):
        Callables(lambda b: b["input_ids"][:, 0], net, unsafe_label="unsafe").look(batch)


def test_estimators_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    label = np.where(NUMBERS[:, 0] > 0, "unsafe", "safe")
    made = linear.LogisticRegression().fit(NUMBERS, label)
    ridge = linear.Ridge().fit(NUMBERS, NUMBERS[:, 0])
    callables = Callables(ridge, made, unsafe_label="unsafe")
    for seen in (NUMBERS, torch.tensor(NUMBERS, requires_grad=True), NUMBERS.reshape(N, 3, 1)):
        found = Callables(ones, made, unsafe_label="unsafe").look(seen)
        np.testing.assert_allclose(found.margin, made.decision_function(NUMBERS))
    np.testing.assert_allclose(callables.look(NUMBERS).action, ridge.predict(NUMBERS))
    frame = pd.DataFrame(NUMBERS, columns=list("xyz"))
    of_frame = linear.LogisticRegression().fit(frame, label)
    found = Callables(ones, of_frame, unsafe_label="safe").look(frame)
    np.testing.assert_allclose(found.margin, -of_frame.decision_function(frame))
    with pytest.raises(SafeframeError, match=r"1, but .*\['safe', 'unsafe'\]"):
        Callables(ones, made).look(NUMBERS)


def test_plain_sequences_of_numbers():
    found = Callables(lambda y: 2 * y, lambda y: y).look([1, 2, 3])
    assert found.action.tolist() == [2, 4, 6]
    assert found.margin.dtype == np.float64


BAD = [
    ({"model": 3}, "the model is 3"),
    ({"classifier": "x"}, "the classifier is 'x'"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": 1.5}, "batch_size"),
    ({"on_error": "ignore"}, "on_error"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_settings(keywords, message):
    with pytest.raises(SafeframeError, match=message):
        Callables(**{"model": model, "classifier": classifier, **keywords})
    linear = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(SafeframeError, match="one argument"):
        Callables(model, linear.LogisticRegression(), classify_actions=True)


def test_pickled_and_copied():
    made = Callables(model, classifier, batch_size=2)
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        found = again.look(NUMBERS)
        np.testing.assert_array_equal(found.margin, made.look(NUMBERS).margin)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).margin, found.margin)
    net = Callables(torch.nn.Identity(), network())
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.look(NUMBERS).margin, net.look(NUMBERS).margin)


def test_a_function_may_use_gradients_and_change_a_modules_actions():
    def planned(y):  # a step down its own cost
        with torch.enable_grad():
            point = torch.tensor(y, requires_grad=True)
            (point**2).sum().backward()
        return point - 0.25 * point.grad

    found = Callables(planned, classifier).look(NUMBERS)
    np.testing.assert_allclose(found.action, NUMBERS / 2, rtol=1e-6)

    def clipped(y, action):
        return action.clamp_(-1, 1)[:, 0]

    found = Callables(network(), clipped, classify_actions=True).look(torch.tensor(NUMBERS))
    np.testing.assert_allclose(found.margin, (NUMBERS @ WEIGHT).clip(-1, 1)[:, 0], rtol=1e-5)
