"""HyperCuboids: the supernet, against sharpDARTS' MultiChannelNet and on its own, and the networks of paths."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, state_dict

import kdarts
from kdarts.genotypes.cuboid import get_path, path_names
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import best_path
from kdarts.networks.reference import load_reference_state
from kdarts.ops.layers import model_cost
from kdarts.search.selection import get_selection
from kdarts.supernet.cuboids import PublishedHyperCuboid, build_path_network, multichannelnet_parts
from kdarts.supernet.grids import multichannelnet_axes
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.parts import path_network

AXES = multichannelnet_axes(4, 4, 2)
"""Those of the reference arrays."""


def images(array):
    """From the reference's channels first."""
    return array.transpose(0, 2, 3, 1).astype("float32")


def by_stage(array):
    """From the reference's `[stride, layer, ...]` to α's rows."""
    return array.swapaxes(0, 1).reshape(4, 8)


def of_reference(arrays, mixing, alphas):
    """The HyperCuboid of the reference arrays, with their weights."""
    parts = vars(multichannelnet_parts(AXES, 10, 16))
    axes = AXES.sequence, AXES.states, AXES.choices
    cuboid = HyperCuboid((16, 16, 3), *axes, **parts, mixing=mixing, space="multichannelnet")
    load_reference_state(cuboid, state_dict({k: v for k, v in arrays.items() if k.startswith("param:")}))
    cuboid.alphas[0].assign(by_stage(alphas))
    return cuboid


@pytest.mark.parametrize(("mixing", "algorithm"), [("softmax", "scalar"), ("max_w", "max_w")])
def test_multichannelnet_is_the_reference(golden, eagerly, mixing, algorithm):
    arrays = golden("multichannelnet.npz")
    cuboid = of_reference(arrays, mixing, arrays["alphas_A"])
    for name in "AB":
        cuboid.alphas[0].assign(by_stage(arrays[f"alphas_{name}"]))
        wanted = {key: arrays[f"{name}/{algorithm}/all/{key}"] for key in ("logits", "loss", "dalphas")}
        with tf.GradientTape() as tape:
            logits = cuboid(images(arrays["x"]), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["y"], logits))
        variables = [cuboid.alphas[0].value, *(v.value for v in cuboid.network_variables)]
        by_alpha, *by_weights = tape.gradient(loss, variables)
        np.testing.assert_allclose(logits, wanted["logits"], atol=1e-4)
        np.testing.assert_allclose(loss, wanted["loss"], atol=1e-5)
        np.testing.assert_allclose(by_alpha, by_stage(wanted["dalphas"]), atol=2e-5)
        norm = arrays[f"{name}/{algorithm}/all/grad_global_norm"]
        np.testing.assert_allclose(tf.linalg.global_norm(by_weights), norm, rtol=1e-4)
    weights = cuboid.mixture.selection_weights()[0]
    np.testing.assert_allclose(weights, by_stage(arrays["B/weights"]), atol=1e-6)


@pytest.mark.parametrize(("dropped", "wanted"), [(False, "final_fixed"), (True, "final_code")])
def test_the_network_of_the_longest_path_is_the_reference(golden, eagerly, dropped, wanted):
    arrays = golden("multichannelnet.npz")
    cuboid = of_reference(arrays, "softmax", arrays["alphas_A"])
    path = cuboid.path(*best_path(cuboid.path_weights())[:2])
    ops = [[s["layer"], s["stride"], s.source["filters"], s["filters"], s["primitive"]] for s in path.steps]
    assert ops == json.loads(str(arrays["path"]))["ops"]
    network = path_network(path, (16, 16, 3), multichannelnet_parts(AXES, 10, 16), dropped)
    prefix = f"{wanted}/param:"
    load_reference_state(network, {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
    logits = network(images(arrays["x"]), training=True)
    np.testing.assert_allclose(logits, arrays[f"{wanted}/logits"], atol=1e-4)


def test_sizes_are_those_of_the_reference(golden):
    wanted = golden("sharp_params.json")["multichannelnet"]
    axes = multichannelnet_axes(36, 8, 4)
    parts, total = multichannelnet_parts(axes, 10), 10 * (768 + 1)
    for index, step in axes.steps():
        total += parts.build(step).cost((8, 8, step.source["filters"]))[0].params
        if not any(index):
            total += sum(parts.stem(s).cost((8, 8, 3))[0].params for s in axes.state_values)
            total += sum(parts.head(s).cost((8, 8, s["filters"]))[0].params for s in axes.state_values)
    assert axes.shape == (8, 4, 4, 2)
    assert total == wanted["supernet"]["params"] == 8_930_122
    small = PublishedHyperCuboid("multichannelnet", (8, 8, 3), 10, 2, 2, 2)
    assert small.cost().params == sum(np.prod(w.shape) for w in small.network_variables)


@pytest.mark.parametrize("name", path_names())
def test_every_published_path_has_the_size_of_the_reference_whole_and_without_its_last_step(golden, name):
    wanted = golden("sharp_params.json")["multichannelnet"][name]
    for dropped, row in ((False, "all_8_ops"), (True, "reference_class")):
        network = build_path_network(get_path(name), (32, 32, 3), 10, drop_last_step=dropped)
        cost = model_cost(network)
        assert cost.params == wanted[f"{row}_params"]
        assert cost.macs + other_operations(network) == wanted[f"{row}_flops"]


def other_operations(network):
    """What the reference counts beside products: outputs of ReLU, inputs of BN twice, inputs of pools."""
    pools = keras.layers.MaxPooling2D | keras.layers.GlobalAveragePooling2D
    count = 0
    for layer in network.layers[1:]:
        size = int(np.prod(layer.input.shape[1:]))
        if isinstance(layer, keras.layers.BatchNormalization):
            count += 2 * size
        elif isinstance(layer, keras.layers.ReLU) or (isinstance(layer, pools) and "subsample" not in layer.name):
            count += size
    return count


def mlp(**choices):
    """A HyperCuboid for numbers: two blocks, two widths, an activation, or nothing at all."""

    def build(step):
        if step["activation"] == "none":
            return keras.layers.Identity() if step.source == step.target else None
        return [keras.layers.Dense(step["width"], step["activation"]) for _ in range(2)]

    return HyperCuboid(
        (5,),
        {"block": (1, 2)},
        {"width": (3, 4)},
        {"activation": ("none", "tanh")},
        **{
            "stem": lambda state: keras.layers.Dense(state["width"]),
            "build": build,
            "head": lambda state: keras.layers.Dense(2),
            **choices,
        },
    )


def batch(seed, size=8):
    """Numbers and labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 5)).astype("float32"), rng.integers(0, 2, size)


def with_weights_of(network, cuboid, path):
    """Copies the weights along a path from the supernet."""
    chains, (at, *_) = cuboid.chains, path.states
    names = [f"stem.{at}"]
    for step, (target, choice) in zip(path.steps, zip(path.states[1:], path.choices, strict=True), strict=True):
        names.append(f"op_grid.{step.stage}.{at}.{target}.{choice}")
        at = target
    layers = [layer for name in (*names, f"base.{at}", "tail") for layer in chains[name].layers]
    network.set_weights([weight for layer in layers for weight in layer.get_weights()])


@pytest.mark.parametrize("mixing", ["softmax", "max_w", "max_w_stopped", "sigmoid"])
def test_a_supernet_that_has_decided_is_the_network_of_its_path(eagerly, mixing):
    cuboid, x = mlp(mixing=mixing), batch(0)[0]
    path = cuboid.path((1, 0, 0), (1, 0))
    alpha = np.full(cuboid.allowed.shape, -60.0)
    for stage, (source, target, choice) in enumerate([(1, 0, 1), (0, 0, 0)]):
        alpha[stage, source, target, choice] = 60
    cuboid.alphas[0].assign(alpha.reshape(2, 8))
    assert cuboid.read_out(get_selection("best_path", grid=True)) == path
    network = cuboid.network(path)
    with_weights_of(network, cuboid, path)
    assert type(network).__name__ == "Functional"
    np.testing.assert_allclose(cuboid(x), network(x), atol=1e-6)


def test_a_forbidden_transition_has_no_weight_and_no_gradient(eagerly):
    cuboid = mlp(head=lambda state: keras.layers.Dense(2) if state["width"] == 3 else None)
    allowed = np.ones((2, 2, 2, 2), bool)
    allowed[:, 0, 1, 0] = allowed[:, 1, 0, 0] = False  # Nothing changes the width but layers.
    allowed[1, :, 1] = False  # No path ends there.
    assert (cuboid.allowed == allowed).all()
    weights = cuboid.mixing_weights()[0].numpy().reshape(allowed.shape)
    assert (weights[~allowed] == 0).all()
    np.testing.assert_allclose(weights.sum((1, 2, 3)), 1, rtol=1e-6)
    x, y = batch(0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, cuboid(x)))
    gradient = tape.gradient(loss, cuboid.alphas[0].value).numpy().reshape(allowed.shape)
    assert (gradient[~allowed] == 0).all()
    assert (gradient[allowed] != 0).all()
    with pytest.raises(KdartsError, match="forbidden"):
        cuboid.network(cuboid.path((0, 1, 0), (0, 1)))


def test_without_a_stem_the_data_are_the_first_state():
    cuboid = mlp(stem=None, build=lambda step: keras.layers.Dense(step["width"]))
    assert cuboid.allowed[0].any((1, 2)).tolist() == [True, False]
    path = cuboid.read_out(get_selection("greedy_forward", grid=True))
    assert cuboid.network(path).output_shape == (None, 2)


def _same(layer):
    return lambda _: layer


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"build": lambda step: None}, "no path leads through"),
        ({"build": lambda step: "Dense"}, "needs Keras layers or placed operations, got 'Dense'"),
        ({"build": lambda step: keras.layers.Dense(step["block"])}, "block 1: 3 → 3, tanh"),
        ({"head": lambda state: keras.layers.Dense(state["width"])}, "head: its results are summed"),
        ({"head": lambda state: keras.layers.Reshape((2, 2))}, "head.3: "),
        ({"head": _same(keras.layers.Dense(2))}, "a layer stands in two places|head.4: "),
        ({"mixing": "node_softmax"}, "mixing 'node_softmax' is about cells"),
        ({"tail": lambda: keras.layers.Reshape((2, 1))}, "logits need one axis"),
    ],
)
def test_what_cannot_be_built_is_told(choices, said):
    if "block 1" in said:  # Widths of a state that differ by the choice.
        choices = {"build": lambda s: keras.layers.Dense(3 if s["activation"] == "none" else 4)}
        said = "another transition to there"
    with pytest.raises(KdartsError, match=said):
        mlp(**choices)


@pytest.mark.parametrize("shape", [5, (), (None, 5), (0,)])
def test_a_shape_of_no_example_is_refused(shape):
    with pytest.raises(KdartsError, match="needs the sizes of an example"):
        HyperCuboid(shape, {"block": (1,)}, build=keras.layers.Dense, head=keras.layers.Dense)


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"filters": 4, "stride": 3}])
def test_an_operation_is_placed_at_sizes_that_it_can_have(wrong):
    with pytest.raises(KdartsError, match="needs 1 or more filters, stride 1 or 2"):
        kdarts.Placed(kdarts.get_operation("sep_conv_3x3"), **wrong)


def test_a_search_trains_weights_and_alpha(tmp_path):
    keras.utils.set_random_seed(0)
    cuboid = mlp()
    search = kdarts.Search(cuboid, order="second", discretization="best_path", arch_learning_rate=0.01)
    search.compile()
    before = cuboid.alphas[0].numpy()
    rows = tf.data.Dataset.from_tensors((batch(0), batch(1))).repeat(4)
    history = search.fit(rows, epochs=2, verbose=0, validation_data=batch(2)).history
    assert np.isfinite(history["val_loss"]).all()
    forbidden = ~cuboid.allowed.reshape(2, 8)
    assert (cuboid.alphas[0].numpy() != before)[~forbidden].all()
    search.genotype().save(tmp_path / "path.json")
    network = cuboid.network(kdarts.HyperPath.load(tmp_path / "path.json"))
    network.save(tmp_path / "found.keras")
    again = keras.saving.load_model(tmp_path / "found.keras")
    np.testing.assert_array_equal(network(batch(3)[0]), again(batch(3)[0]))


def test_the_exact_gradient_is_that_of_the_unrolled_loss(eagerly):
    cuboid, train, valid, rate = mlp(), batch(0), batch(1), 0.5
    cuboid.alphas[0].assign(np.random.default_rng(2).normal(size=(2, 8)))
    choices = {"learning_rate": rate, "momentum": 0.0, "l2": 0.0, "discretization": "best_path"}
    search = kdarts.Search(cuboid, order="exact", **choices)
    gradient = search.architecture_gradients(train, valid)[0].numpy()
    before, step, index = cuboid.alphas[0].numpy(), 1e-2, (1, 3)

    def loss(shift):
        cuboid.alphas[0].assign(before + shift * np.eye(1, 16, 11).reshape(2, 8))
        values = search.objective.values()
        by_weights = search.objective.gradients(*values, *[tuple(map(tf.constant, train))])["by_weights"]
        unrolled = [w - rate * g for w, g in zip(values[0], by_weights, strict=True)]
        return float(search.objective.loss(unrolled, *values[1:], tuple(map(tf.constant, valid)))["loss"])

    assert gradient[index] == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=0.02)


def test_a_search_refuses_what_is_about_cells():
    cuboid = mlp()
    with pytest.raises(KdartsError, match="unknown discretization of a HyperCuboid 'darts'"):
        kdarts.Search(cuboid)
    of_cells = {"ablation_weight": 0.5, "stop": "ranking", "samples": 2, "partial_channels": 2}
    of_cells |= {"perturbation": "random", "alignment_weight": 0.5, "search_drop_path": 0.5}
    for choices in ({name: value} for name, value in of_cells.items()):
        with pytest.raises(KdartsError, match=r"is about cells|of a HyperCuboid"):
            kdarts.Search(cuboid, discretization="best_path", **choices)
    normalised = mlp(build=lambda s: [keras.layers.Dense(s["width"]), keras.layers.BatchNormalization()])
    with pytest.raises(KdartsError, match="second derivative of BatchNormalization is wrong"):
        kdarts.Search(normalised, order="exact", discretization="best_path")
    with pytest.raises(KdartsError, match="unknown discretization 'best_path'"):
        kdarts.Search(kdarts.Supernet("darts", (8, 8, 1), 2, 2, 1, nodes=1), discretization="best_path")


def test_alpha_that_is_not_finite_is_told():
    cuboid = mlp()
    cuboid.alphas[0].assign(np.full((2, 8), np.nan))
    with pytest.raises(KdartsError, match="the search diverged"):
        cuboid.read_out(get_selection("best_path", grid=True))


def test_the_example_of_a_table_runs(capsys):
    pytest.importorskip("sklearn")
    text = (ROOT / "examples" / "tabular.py").read_text("utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) < 40
    short = text
    for long, brief in (("EPOCHS = 15", "EPOCHS = 1"), ("(1, 2, 3)", "(1,)")):
        assert short.count(long) == 1
        short = short.replace(long, brief)
    exec(compile(short, "tabular.py", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert '"format": "kdarts-path-1"' in said
    assert float(said.split("test accuracy ")[1]) > 0.4


def test_sixteen_bits_come_close_and_leave_alpha_alone(eagerly):
    full, half = (
        PublishedHyperCuboid("multichannelnet", (8, 8, 1), 3, 2, 2, 2, dtype=t) for t in (None, "mixed_bfloat16")
    )
    half.set_weights(full.get_weights())
    assert half.alphas[0].dtype == "float32"
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype("float32")
    for training in (True, False):
        one, other = full(x, training=training), half(x, training=training)
        assert other.dtype == tf.float32
        np.testing.assert_allclose(one, other, atol=0.1)
        assert np.abs(one - other).max() > 0
