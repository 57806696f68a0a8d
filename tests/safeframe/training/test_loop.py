"""The training loop: interruptions change no bit, checkpoints are whole or refused, errors name the step."""

import itertools

import pytest
import torch
from torch import nn

from safeframe.training.loop import TrainingSettings, generator_of, train
from safeframe.types import SafeframeError

SETTINGS = TrainingSettings(steps=20, learning_rate=0.05, weight_decay=0.1, average=0.8, checkpoint_every=6)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def regression(model, generator):
    inputs = torch.randn(16, 3, generator=generator)
    return ((model(inputs) - inputs.sum(1, keepdim=True).sin()) ** 2).mean()


def stopping_at(step):
    """A progress wrapper that raises where a kill would strike."""

    def progress(steps):
        for current in steps:
            if current == step:
                raise KeyboardInterrupt
            yield current

    return progress


def interrupted(path, settings=SETTINGS, seed=0, step=15):
    with pytest.raises(KeyboardInterrupt):
        train(network(), regression, settings, seed, path, progress=stopping_at(step))


def same(first, second):
    pairs = itertools.zip_longest(first.state_dict().items(), second.state_dict().items())
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


@pytest.mark.parametrize("one_cycle", [True, False])
def test_a_resumed_training_gives_the_same_bits(tmp_path, one_cycle):
    settings = TrainingSettings(20, 0.05, 0.1, one_cycle, average=0.8, checkpoint_every=6)
    path = tmp_path / "state.pt"
    interrupted(path, settings)
    resumed_from = []
    resumed = train(
        network(), regression, settings, 0, path, progress=lambda steps: resumed_from.append(steps) or steps
    )
    assert resumed_from == [range(12, 20)]
    assert same(resumed, train(network(), regression, settings, 0))


def test_training_is_determined_by_the_seed_and_leaves_the_module_alone():
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first = train(module, regression, SETTINGS, 1)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert same(first, train(network(), regression, SETTINGS, 1))
    assert not same(first, train(network(), regression, SETTINGS, 2))
    assert not first.training


def test_training_lowers_the_loss():
    trained = train(network(), regression, TrainingSettings(300, 0.05))
    fresh = network().eval()
    with torch.no_grad():
        assert regression(trained, generator_of(9, 0)) < 0.5 * regression(fresh, generator_of(9, 0))


def test_streams_of_seeds_and_steps_differ():
    draws = {
        tuple(torch.rand(3, generator=generator_of(seed, step)).tolist())
        for seed in range(5)
        for step in range(40)
    }
    assert len(draws) == 200


def constant_pull(model, generator):
    return model.weight.sum()


@pytest.mark.parametrize("average", [0.0, 0.6])
def test_average_of_the_weights(average):
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    seen, kept = [], 0.0

    def loss(model, generator):
        seen.append(model.weight.item())
        return constant_pull(model, generator)

    settings = TrainingSettings(5, 0.1, one_cycle=False, average=average)
    averaged = train(module, loss, settings).weight.item()
    last = train(module, constant_pull, TrainingSettings(5, 0.1, one_cycle=False)).weight.item()
    for weight in [*seen[1:], last]:  # seen[0] is the first weight, where the average starts
        kept = average * kept + (1 - average) * weight
    assert averaged == pytest.approx(kept, rel=1e-5)
    assert (averaged == last) == (average == 0.0)


def test_buffers_are_those_of_the_last_step():
    module = nn.BatchNorm1d(3)
    settings = TrainingSettings(50, 1e-6, average=0.9)
    trained = train(
        module, lambda model, g: model(2 * torch.randn(64, 3, generator=g) + 5).square().mean(), settings
    )
    assert trained.running_mean == pytest.approx(torch.full((3,), 5.0), abs=0.5)
    assert int(trained.num_batches_tracked) == 50


@pytest.mark.parametrize("keep", [0, 10, -40])
def test_a_damaged_checkpoint(tmp_path, keep):
    path = tmp_path / "state.pt"
    interrupted(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SafeframeError, match=r"state\.pt is damaged .* delete it"):
        train(network(), regression, SETTINGS, 0, path)


@pytest.mark.parametrize("at", range(0, 2400, 97))
def test_one_bit_of_a_checkpoint(tmp_path, at):
    """torch.load alone takes some of these for right: a renamed key, another learning rate."""
    path = tmp_path / "state.pt"
    interrupted(path)
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    with pytest.raises(SafeframeError, match=r"state\.pt is damaged .* delete it"):
        train(network(), regression, SETTINGS, 0, path)


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(SafeframeError, match="damaged"):
        train(network(), regression, SETTINGS, 0, path)


@pytest.mark.parametrize(
    ("settings", "seed"),
    [(SETTINGS, 1), (TrainingSettings(20, 0.04, 0.1, average=0.8, checkpoint_every=6), 0)],
)
def test_a_checkpoint_of_another_training(tmp_path, settings, seed):
    path = tmp_path / "state.pt"
    interrupted(path)
    with pytest.raises(SafeframeError, match=r"another training \(settings or seed differ\); delete it"):
        train(network(), regression, settings, seed, path)


def test_a_checkpoint_of_another_module(tmp_path):
    path = tmp_path / "state.pt"
    interrupted(path)
    with pytest.raises(SafeframeError, match="another module"):
        train(nn.Linear(3, 1), regression, SETTINGS, 0, path)


@pytest.mark.parametrize("writes", [0, 1])
def test_a_crash_while_writing_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch, writes):
    path, save, count = tmp_path / "state.pt", torch.save, itertools.count()

    def crashing(content, stream):
        if next(count) == writes:
            stream.write(b"half of it")
            raise OSError("no space left on device")
        save(content, stream)

    monkeypatch.setattr(torch, "save", crashing)
    with pytest.raises(SafeframeError, match="no space left"):
        train(network(), regression, SETTINGS, 0, path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"] * writes
    assert same(train(network(), regression, SETTINGS, 0, path), train(network(), regression, SETTINGS, 0))


def at_step(bad):
    count = itertools.count()
    return lambda model, generator: bad(model) if next(count) == 3 else constant_pull(model, generator)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_step(value):
    with pytest.raises(SafeframeError, match=f"the loss is {value} at step 3"):
        train(nn.Linear(1, 1), at_step(lambda model: 0 * model.weight.sum() + value), SETTINGS)


def test_a_gradient_that_is_not_finite_names_the_step():
    def steep(model):
        return model.weight.sum().sub(model.weight.detach().sum()).sqrt()  # 0, with an infinite slope

    with pytest.raises(SafeframeError, match="gradient's norm is inf at step 3"):
        train(nn.Linear(1, 1), at_step(steep), SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"clip": 0.0},
        {"checkpoint_every": 0},
        {"average": 1.0},
        {"average": -0.1},
        {"weight_decay": -0.1},
    ],
)
def test_settings_out_of_range(change):
    with pytest.raises(SafeframeError, match=next(iter(change))):
        TrainingSettings(**({"steps": 10, "learning_rate": 0.1} | change))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings(steps):
    trained = train(nn.Linear(1, 1), constant_pull, TrainingSettings(steps, 0.1))
    assert bool(torch.isfinite(trained.weight).all())
