"""A teacher: its loss against Keras', its images and classes, and what is refused."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli import idle, recipe
from kdarts.cli.main import main
from kdarts.cli.train import TRAIN
from kdarts.data.augmentation import normalize
from kdarts.data.mixing import Mixing
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.distillation import Teacher, conversion
from kdarts.networks.models import save_model, training_loss
from kdarts.networks.network import build_network
from kdarts.search.replicas import build_rest
from kdarts.search.step import Step

TINY = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=2", "--epochs=1", "--train_examples=64"]


def _network(seed: int, classes=4, shape=(2, 2, 1), **last):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, kernel_initializer="random_normal", **last)]
    network = keras.Sequential([keras.Input(shape), *layers])
    network.layers[-1].kernel.assign(30 * network.layers[-1].kernel)
    return network


def _batch():
    random = np.random.default_rng(0)
    return tf.constant(random.normal(size=(6, 2, 2, 1)), tf.float32), tf.constant(random.integers(0, 4, 6), tf.int32)


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.9), (2.5, 1.0)])
@pytest.mark.skipif(not hasattr(keras, "distillation"), reason="Keras has it since 3.12")
def test_loss_and_step_are_those_of_keras(temperature, weight):
    x, y = _batch()
    networks = []
    for distil in (False, True):
        student, model = _network(0), _network(1)
        if distil:
            # Its default, the name "kl_divergence", stands for a function that Keras 3.15 gives logits, not softmax.
            logits = keras.distillation.LogitsDistillation(temperature, keras.losses.KLDivergence())
            taught = keras.distillation.Distiller(model, student, logits, student_loss_weight=1 - weight)
            taught.compile(keras.optimizers.SGD(0.1), training_loss())
            loss = taught.train_on_batch(x, y, return_dict=True)["loss"]
        else:
            student.compile(keras.optimizers.SGD(0.1), training_loss(), metrics=["accuracy"])
            build_rest(student, 4)
            loss = Step(student, Teacher(model, temperature, weight))((x, y))["loss"]
        networks.append((student, float(loss)))
    (ours, loss), (theirs, other) = networks
    assert loss == pytest.approx(other, rel=1e-4)
    for one, two, start in zip(ours.get_weights(), theirs.get_weights(), _network(0).get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
        assert np.abs(one - start).max() > 1e-3


def test_it_is_the_equation_also_for_an_auxiliary_classifier():
    random, T, w = np.random.default_rng(0), 3.0, 0.7
    t, s, a = (random.normal(size=(5, 4)) for _ in range(3))
    p, q, r = (np.exp(z / T) / np.exp(z / T).sum(1, keepdims=True) for z in (t, s, a))
    kl = [(p * np.log(p / each)).sum(1).mean() for each in (q, r)]
    teacher = Teacher(keras.Sequential([keras.Input((4,)), keras.layers.Identity()]), T, w)
    targets = teacher.targets(tf.constant(t, tf.float32))
    np.testing.assert_allclose(teacher.loss(targets, s), T**2 * kl[0], rtol=1e-4)
    found = teacher.blended(2.0, targets, (s, a), 0.4)
    np.testing.assert_allclose(found, (1 - w) * 2 + w * T**2 * (kl[0] + 0.4 * kl[1]), rtol=1e-4)


def test_it_sees_its_own_normalisation_classes_and_logits():
    raw = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    own, other = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)), ((0.45, 0.45, 0.4), (0.22, 0.2, 0.3))
    scale, shift = conversion(*own, *other)
    np.testing.assert_allclose(scale * normalize(raw, *own) + shift, normalize(raw, *other), atol=1e-5)
    assert conversion(*own, *own)[0].tolist() == [1, 1, 1] and conversion(*own, *own)[1].tolist() == [0, 0, 0]
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Flatten()])
    seen = Teacher(model, 1.0, 1.0, scale, shift).targets(normalize(raw, *own))
    np.testing.assert_allclose(seen, tf.nn.log_softmax(np.reshape(normalize(raw, *other), (3, -1))), atol=1e-4)
    x, _ = _batch()
    logits, final = _network(0), _network(0, activation="softmax")
    plain, ordered = Teacher(logits).targets(x), Teacher(logits, order=[2, 0, 3, 1]).targets(x)
    np.testing.assert_allclose(ordered, plain.numpy()[:, [2, 0, 3, 1]], rtol=1e-5)
    np.testing.assert_allclose(Teacher(final, probabilities=True).targets(x), plain, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"weight": 0}, {"weight": 1.5}, {"temperature": float("inf")}])
def test_a_wrong_weight_or_temperature_is_refused(wrong):
    with pytest.raises(KdartsError, match="of a distillation; allowed: above 0"):
        Teacher(None, **wrong)


ABOUT = {"mean": [0.3], "std": [0.4]}


@pytest.mark.parametrize(
    ("network", "about", "said"),
    [
        ({"classes": 3}, ABOUT, "tells 3 classes apart, the training has 10"),
        ({"shape": (8, 8, 3)}, ABOUT, "takes images of 8x8x3, the training has 8x8x1"),
        ({"shape": (6, 8, 1)}, ABOUT, "takes images of 6x8x1, the training has 8x8x1"),
        ({}, {}, "tells no mean and std of its images"),
        ({}, {**ABOUT, "class_names": list("0123456xyz")}, "does not know the classes 7, 8, 9 of the training"),
        (None, {}, "no such file; needs a .keras file"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(tmp_path, capfd, network, about, said):
    path = tmp_path / "teacher.keras"
    if network is not None:
        save_model(_network(0, **{"classes": 10, "shape": (8, 8, 1), **network}), path, about)
    assert main([*TINY, f"--teacher={path}", "--dry_run", f"--workdir={tmp_path / 'run'}"]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"kdarts: --teacher={path}: {said}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--distill_weight=0.5"], ["--distill_weight=0.5: has no effect without --teacher"]),
        (["--distill_temperature=2", "--teacher=x"], []),
        (
            ["--distill_weight=1", "--teacher=x", "--label_smoothing=0.1"],
            ["--label_smoothing=0.1: has no effect with --distill_weight=1, which leaves out the labels"],
        ),
        (["--decay=kernels", "--l2=0"], ["--decay=kernels: has no effect without --l2 and --weight_decay"]),
        (["--decay=kernels"], []),
        (["--decay=kernels", "--l2=0", "--weight_decay=0.01"], []),
    ],
)
def test_what_has_no_effect_is_told(words, told):
    assert idle.in_training(TRAIN.parse(["train", *words])) == told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weight_decay=0.01"], "--weight_decay=0.01 with --l2=0.0003: allowed is one of them; --l2=0 leaves it out"),
        (["--cutmix=1", "--batch_size=1"], "--cutmix=1.0: needs a --batch_size of 2 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(words, said):
    values = TRAIN.parse(["train", *words])
    with pytest.raises(KdartsError) as error:
        recipe.check(values, values.batch_size or 64)
    assert str(error.value) == said


WORDS = ["--ema=0.99", "--mixup=0.2", "--cutmix=1", "--l2=0", "--weight_decay=3e-3", "--decay=kernels"]


def test_the_flags_reach_the_training(tmp_path, monkeypatch):
    path, run, given = tmp_path / "teacher.keras", tmp_path / "run", {}

    def training(network, *data, **how):
        given.update(how, network=network)
        return {"test_accuracy": 0.5, "test_examples": 1}

    monkeypatch.setattr("kdarts.training.train_run.run_training", training)
    save_model(_network(0, 10, (8, 8, 1)), path, {**ABOUT, "class_names": list("1032456789")})
    words = [*TINY, *WORDS, f"--teacher={path}", "--distill_weight=0.5", "--rand_augment=1,5", f"--workdir={run}"]
    assert main(words) == 0
    teacher, optimizer = given["teacher"], given["network"].optimizer
    assert (teacher.temperature, teacher.weight, teacher.probabilities) == (4.0, 0.5, False)
    assert teacher.order == [1, 0, 3, 2, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(
        teacher.scale * (0 - given["mean"][0]) / given["std"][0] + teacher.shift, -0.3 / 0.4, 1e-5
    )
    assert (given["ema"], given["mixing"], given["augmentation"].rand_augment) == (0.99, Mixing(0.2, 1.0), (1, 5.0))
    assert (optimizer.weight_decay, optimizer.decay, optimizer.l2) == (3e-3, "kernels", 0.0)
    shares = np.full((2, 10), 0.1, "float32")
    np.testing.assert_allclose(given["network"].loss(shares, np.zeros((2, 10), "float32")), np.log(10), 1e-5)
    assert "--teacher=" in (run / "flags.flags").read_text() and str(path) not in (run / "flags.flags").read_text()


@pytest.mark.slow
def test_the_command_learns_from_a_teacher_and_leaves_it_out_of_the_file(tmp_path, capsys, eagerly):
    path, run = tmp_path / "teacher.keras", tmp_path / "run"
    save_model(build_network("DARTS_V1", (8, 8, 1), 10, channels=4, cells=2, auxiliary=True), path, ABOUT)
    words = [*TINY, *WORDS, f"--teacher={path}", f"--workdir={run}"]
    assert main(words) == 0
    layers = json.loads(zipfile.ZipFile(run / "model.keras").read("config.json"))["config"]["layers"]
    assert len(layers) == len(build_network("DARTS_V1", (8, 8, 1), 10, channels=2, cells=2).layers)
    capsys.readouterr()
    assert main(words) == 0  # It is finished.
    save_model(build_network("DARTS_V1", (8, 8, 1), 10, channels=2, cells=2), path, ABOUT)
    assert main(words) == 2
    assert "belongs to another run: there --teacher=" in capsys.readouterr().err
