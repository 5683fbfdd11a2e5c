"""The program of docs/extend.md: a relaxation, a loss term and a stop rule of a user's own."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.search import losses, stopping
from kdarts.search.stopping import SoFar
from kdarts.supernet import relaxation

PROGRAM = (ROOT / "examples" / "own_method.py").read_text("utf-8")
SMALL = {
    "epochs=20": "epochs=2",
    "channels=4": "channels=2",
    "batch_size=64": "8, train_examples=16, valid_examples=16",
}


@pytest.fixture
def registries(monkeypatch):
    """Registries that forget what a test adds."""
    for registry in (relaxation.RELAXATIONS, losses.LOSSES, stopping.STOPS):
        registry.names()
        monkeypatch.setattr(registry, "_items", dict(registry._items))


@pytest.fixture
def program(registries, eagerly):
    """What the program defines, and its search at a small size."""
    text = PROGRAM
    for usual, small in SMALL.items():
        assert usual in text
        text = text.replace(usual, small)
    names = {"__name__": "own_method"}
    exec(compile(text, "own_method.py", "exec"), names)
    return names


def test_the_page_shows_the_program():
    assert len(PROGRAM.splitlines()) < 60
    assert f"```python\n{PROGRAM}```" in (ROOT / "docs" / "extend.md").read_text("utf-8")


def test_the_program_searches_by_its_own_classes(program, capsys):
    search, dirichlet, entropy = program["search"], program["Dirichlet"](), program["Entropy"](entropy_weight=2.0)
    assert search.supernet.mixture.relaxation == dirichlet
    assert [term.config() for term in search.method.terms()] == [{"entropy_weight": 0.1}]
    assert len(search.record.history) == 2 and all(np.any(alpha.numpy()) for alpha in search.supernet.alphas)

    alpha = tf.constant([[0.0, 1.0, -1.0]])
    concentrations = np.array([1.0, 2.0, np.exp(-1)])
    mean = concentrations / concentrations.sum()
    np.testing.assert_allclose(dirichlet.weights(alpha)[0], mean, rtol=1e-6)
    draws = np.array([dirichlet.sample(alpha, 0.0, tf.constant([step, 5]))[0] for step in range(2000)])
    np.testing.assert_allclose(draws.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.02)
    variance = mean * (1 - mean) / (concentrations.sum() + 1)
    np.testing.assert_allclose(draws.var(0), variance, atol=0.01)
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        many = tf.repeat(alpha, 4000, 0)
        first = tf.reduce_mean(dirichlet.sample(many, 0.0, tf.constant([1, 2]))[:, 0])
    # d mean / d c is (1[k = first] - mean of the first) / Σc.
    jacobian = (np.eye(3)[0] - mean[0]) / concentrations.sum() * np.array([1, 1, np.exp(-1)])
    np.testing.assert_allclose(tape.gradient(first, alpha)[0], jacobian, atol=0.02)

    weights = np.concatenate(search.supernet.mixture.weights_of_operations())
    expected = -2.0 * (weights * np.log(weights)).sum(-1).mean()
    np.testing.assert_allclose(entropy.value(search.supernet), expected, rtol=1e-5)

    rule = program["StableGenotype"]()
    alphas = np.random.default_rng(0).normal(size=(4, 2, 3))
    alphas[1:, :, 2] = 9
    history = [{"epoch": epoch} for epoch in range(4)]
    assert rule.should_stop(SoFar(history, search.genotype(), [alphas], ("a", "b", "c")))
    alphas[1, 0, 1] = 10
    assert not rule.should_stop(SoFar(history, search.genotype(), [alphas], ("a", "b", "c")))
    assert not rule.should_stop(SoFar(history[:2], search.genotype(), [alphas[2:]], ("a", "b", "c")))


def test_a_definition_may_be_registered_twice_but_not_changed(registries):
    def define(scale: float, name: str):
        class Scaled(kdarts.Relaxation):
            def weights(self, alpha, inputs=None):
                return alpha * scale

        Scaled.name = name
        return Scaled

    one = kdarts.register_relaxation(define(1.0, "scaled"))
    assert kdarts.register_relaxation(one) is one

    class Halved(kdarts.Relaxation):
        name = "scaled"

        def weights(self, alpha, inputs=None):
            return alpha / 2

    with pytest.raises(KdartsError, match="mixing 'scaled' exists already"):
        kdarts.register_relaxation(Halved)
    with pytest.raises(KdartsError, match="mixing 'softmax' exists already"):
        kdarts.register_relaxation(define(1.0, "softmax"))
