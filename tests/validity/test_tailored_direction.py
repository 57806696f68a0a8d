"""Training through the bound must accept more at r_t than cross-entropy does, or it is not working.

A linear classifier of two features under a law that no linear classifier fits. Unsafe cases leak far into the
safe ones along the first feature, but keep to a narrow band of the second. Cross-entropy weighs the first
feature most, because it separates the bulk; at r_t = 1e-2 only the second one keeps the tail of the unsafe
cases out.
"""

import math

import pytest
import torch
from torch import nn

from safeframe.risk_curve import RiskCurve
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.training.loop import TrainingSettings, generator_of, train
from safeframe.training.relaxed_bound import RelaxedBound

R_T = 1e-2
PENALTY, PERTURBATION, TEMPERATURE = 0.4, 1.5, 0.2
INPUTS, TESTS = 1000, 4000


def law(n, seed):
    """Features (n, 2) and labels (n,), 30 % unsafe; a quarter of the safe cases lies beyond the band."""
    generator = torch.Generator().manual_seed(seed)
    unsafe = torch.rand(n, 1, generator=generator) < 0.3
    beyond = torch.rand(n, 1, generator=generator) < 0.25
    noise = torch.randn(n, 2, generator=generator)
    of_safe = noise + beyond * torch.tensor([-1.0, 3.0])
    of_unsafe = noise * torch.tensor([1.3, 0.3]) + torch.tensor([2.0, 1.5])
    return torch.where(unsafe, of_unsafe, of_safe), unsafe.squeeze(1).float()


def acceptance(network, sample):
    """Share accepted at the exact threshold for R_T, no relaxed quantity."""
    with torch.no_grad():
        margin = network(sample[0]).squeeze(1).double().numpy()
    return RiskCurve(margin, sample[1].numpy().astype(int)).largest_threshold(R_T).acceptance


def cross_entropy(sample):
    features, label = sample

    def loss(network, generator):
        index = torch.randint(len(label), (INPUTS,), generator=generator)
        margin = network(features[index]).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(margin, label[index])

    return loss


def tailored(sample):
    """Acting gains 1 unless the case is unsafe; the default gains nothing. Output: log violation (b,)."""
    features, label = sample

    def slack(act, log_violation):
        return (math.log(R_T) - log_violation) * act

    def loss(network, generator):
        index = torch.randint(len(label), (INPUTS + TESTS,), generator=generator)
        margin = network(features[index])
        gain = 1.0 - label[index[:INPUTS]]
        unsafe = label[index[INPUTS:], None]
        temperature = TEMPERATURE * float(margin.detach().std())
        bound = RelaxedBound(R_T, unsafe.mean(0), torch.zeros(1), temperature, temperature)

        def minimiser(weight, log_violation):
            value = -1.0 - weight * gain - PENALTY * slack(1.0, log_violation).clamp(max=0.0)
            return (value < 0).float()  # the default is worth 0

        approximate = ApproximateLoss(
            objective=lambda act, _: -act,
            loss=lambda act, _: -act * gain,
            constraints=lambda act, output: slack(act, output)[:, None],
            minimiser=minimiser,
            penalty=PENALTY,
            perturbation=PERTURBATION,
        )
        return approximate(bound.log_violation(margin[:INPUTS], margin[INPUTS:], unsafe).squeeze(1)).mean()

    return loss


@pytest.fixture(scope="module")
def warm():
    """(sample for training, fresh sample, linear classifier at the optimum of cross-entropy)"""
    torch.manual_seed(0)
    sample = law(20_000, 0)
    start = train(nn.Linear(2, 1), cross_entropy(sample), TrainingSettings(300, 0.1))
    return sample, law(300_000, 1), start


def after_one_step(network, loss, length=0.2):
    """The network after one step of plain descent of a given length, relative to its weights."""
    moved = nn.Linear(2, 1)
    moved.load_state_dict(network.state_dict())
    loss(moved, generator_of(0, 0)).backward()
    with torch.no_grad():
        slope = moved.weight.grad
        moved.weight -= length * moved.weight.norm() * slope / slope.norm()
    return moved


def test_one_gradient_step_raises_the_acceptance(warm):
    sample, fresh, start = warm
    before = acceptance(start, fresh)
    assert acceptance(after_one_step(start, tailored(sample)), fresh) > before + 0.03
    assert acceptance(after_one_step(start, tailored(sample), length=-0.2), fresh) < before


def test_the_gradient_through_the_internal_test_data_is_needed(warm):
    """The whole gradient is unchanged by moving all margins alike: the threshold moves with the test data."""
    sample, _, start = warm
    network = nn.Linear(2, 1)
    network.load_state_dict(start.state_dict())
    tailored(sample)(network, generator_of(0, 0)).backward()
    assert network.bias.grad.abs().item() < 1e-3 * network.weight.grad.norm().item()


def test_tailored_training_accepts_clearly_more_than_cross_entropy(warm):
    sample, fresh, start = warm
    settings = TrainingSettings(200, 0.03)
    more_cross_entropy = acceptance(train(start, cross_entropy(sample), settings, 1), fresh)
    more_tailored = acceptance(train(start, tailored(sample), settings, 1), fresh)
    assert more_tailored > more_cross_entropy + 0.15
