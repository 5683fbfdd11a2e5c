"""The mobile space: its counts, its blocks against Keras' MobileNetV2, both forms of its networks, and its files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.cuboid import HyperPath, load_architecture, path_of
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Cost, operation_cost
from kdarts.ops.device import FILE, model_flash, model_ram, operation_flash
from kdarts.ops.layers import apply_operation, model_cost
from kdarts.ops.mixed import GroupedOperation
from kdarts.ops.operations import inverted_residual
from kdarts.supernet.cuboids import PublishedHyperCuboid, build_path_network
from kdarts.supernet.mobile import BLOCKS, MACROS, block_costs, count_paths, fitting_macro, mobile_axes, skippable
from kdarts.training.entries import SEARCHED
from kdarts.training.workdir import read_json

SIDES = {"32": (32, 10), "32_large": (32, 10), "48": (48, 2), "96": (96, 2), "224": (224, 1000)}
"""Of each structure the side of its images and a number of classes."""

GOLDEN = {  # parameters, MACs, and KiB of activations
    0: [(2_592, 1_191_936, 64), (5_136, 2_383_872, 120), (3_360, 1_388_544, 64), (6_672, 2_777_088, 120)],
    1: [(4_440, 1_050_624, 42), (8_832, 2_101_248, 78), (5_592, 1_345_536, 42), (11_136, 2_691_072, 78)],
    3: [(5_032, 631_296, 24), (10_000, 1_262_592, 45), (6_184, 705_024, 24), (12_304, 1_410_048, 45)],
    4: [(7_456, 448_512, 14), (14_848, 897_024, 26), (8_992, 546_816, 14), (17_920, 1_093_632, 26)],
    6: [(9_024, 546_816, 12), (17_952, 1_093_632, 24), (10_560, 645_120, 12), (21_024, 1_290_240, 24)],
    7: [(15_792, 967_680, 21), (31_488, 1_935_360, 39), (18_096, 1_115_136, 21), (36_096, 2_230_272, 39)],
}


def axes_of(macro, **sizes):
    """The axes of a structure, and its number of classes."""
    side, classes = SIDES[macro]
    return mobile_axes((side, side, 3), macro, **sizes), classes


def all_of(axes, name):
    """The path of one block; a place that may not be skipped has the smallest."""
    places = skippable(axes).values()
    return path_of(axes, {}, [{"block": name if name != "skip" or may else "mb_k3_e3"} for may in places], "mobile")


def random_path(axes, rng):
    """A path of blocks drawn alike."""
    offered = dict(axes.choices)["block"]
    picks = [
        rng.choice([k for k, name in enumerate(offered) if may or name != "skip"]) for may in skippable(axes).values()
    ]
    return HyperPath(axes, (0,) * (len(picks) + 1), tuple(picks), "mobile")


def counted(path, classes):
    """The cost of a path, from those of its blocks."""
    costs, around = block_costs(path.cuboid, classes)
    return sum((costs[stage, k] for stage, k in enumerate(path.choices)), around)


def test_blocks_and_paths_cost_what_is_known_of_them():
    axes, classes = axes_of("32")
    costs, around = block_costs(axes, classes)
    for stage, row in GOLDEN.items():
        found = [(c.params, c.macs, c.ram / 1024) for c in costs[stage, :4]]
        assert found == row
        assert costs[stage, 4] == (None if stage in (0, 3, 6) else Cost())
    assert (around.params, around.macs) == (464 + 464 + 490, 442_368 + 409_600 + 480)
    paths = {name: counted(all_of(axes, name), classes) for name in ("mb_k3_e3", "mb_k5_e6", "skip")}
    assert [(c.params, c.macs) for c in paths.values()] == [
        (73_442, 8_156_128),
        (171_722, 18_359_776),
        (18_066, 3_222_496),
    ]


@pytest.mark.parametrize(
    ("macro", "width", "paths", "params", "macs", "kib", "ratio"),
    [
        ("32", None, 1e6, (18_066, 171_722), (3.22, 18.36), (64, 120), 2.67),
        ("32", 0.75, 1e6, (11_746, 113_898), (2.58, 12.32), (64, 120), 2.59),
        ("32", 1.5, 1e6, (39_450, 361_450), (7.00, 40.37), (96, 180), 2.76),
        ("32", 2.0, 1e6, (63_898, 585_866), (11.29, 63.20), (128, 240), 2.79),
        ("32_large", None, 1e8, (76_714, 762_314), (11.79, 91.98), (96, 312), 2.77),
        ("48", None, 1e8, (24_218, 263_042), (2.40, 20.65), (36, 117), 2.67),
        ("96", None, 1e8, (24_218, 263_042), (3.94, 22.53), (72, 135), 2.59),
        ("224", None, 5e8, (677_608, 1_160_872), (20.03, 89.95), (343, 367.5), 2.59),
    ],
)
def test_a_structure_has_the_known_sizes(macro, width, paths, params, macs, kib, ratio):
    axes, classes = axes_of(macro, width=width)
    least, most = (counted(all_of(axes, name), classes) for name in ("skip", "mb_k5_e6"))
    assert count_paths(axes) == paths
    assert (least.params, most.params) == params
    assert (least.macs / 1e6, most.macs / 1e6) == pytest.approx(macs, abs=0.006)
    assert (least.ram / 1024, most.ram / 1024) == pytest.approx(kib)
    costs, around = block_costs(axes, classes)
    whole = around.macs + sum(cost.macs for cost in costs.flat if cost is not None)
    assert whole / most.macs == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_the_costs_of_blocks_add_up_to_that_of_the_network(count):
    for number, macro in enumerate(MACROS if count > 1 else ("32", "96", "224")):
        (axes, classes), rng = axes_of(macro), np.random.default_rng([count, number])
        for _ in range(count):
            path = random_path(axes, rng)
            network, cost = build_path_network(path, dict(axes.macro)["input"], classes), counted(path, classes)
            assert (model_cost(network).params, model_cost(network).macs) == (cost.params, cost.macs)
            assert (model_ram(network), model_flash(network)) == (cost.ram, cost.flash)
            assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}


def small(**choices):
    """A supernet of narrow blocks on small images, one of them without an expansion."""
    keras.utils.set_random_seed(0)
    sizes = {"width": 0.5, "blocks": "mb_k3_e3,mb_k5_e1,skip", "mixing": "softmax"}
    net = PublishedHyperCuboid("mobile", (9, 8, 1), 3, **sizes, **choices)
    for variable in net.variables:
        if variable.path.endswith(("mean", "gamma", "bias", "beta")):
            variable.assign(variable + 0.2 * np.random.default_rng(len(variable.path)).normal(size=variable.shape))
    return net


def with_weights_of(network, net, path):
    """Copies the weights along a path from the supernet."""
    chains = net.chains
    names = {"stem.0": "stem.0"} | {f"op_grid.{t}": f"op_grid.{t}.0.0.{k}" for t, k in enumerate(path.choices)}
    for name, where in names.items():
        for number, stack in enumerate(chains[where].layers):
            own = name if len(chains[where].layers) == 1 else f"{name}.{number}"
            copy_edge(stack, 0, network, own)
    network.get_layer("classifier").set_weights(chains["tail"].layers[1].get_weights())


def decided(net, choices):
    """Sets α so that one block of each place has all the weight."""
    alpha = np.full(net.allowed.shape[::3], -90.0)
    alpha[np.arange(len(choices)), choices] = 90
    net.alphas[0].assign(alpha)


def test_a_supernet_that_has_decided_is_the_network_of_its_path(eagerly):
    net = small()
    x = np.random.default_rng(1).normal(size=(4, 9, 8, 1)).astype("float32")
    path = HyperPath(net.cuboid, (0,) * 10, (0, 1, 2, 1, 0, 2, 0, 2, 1), "mobile")
    decided(net, path.choices)
    network = net.network(path)
    with_weights_of(network, net, path)
    for training in (False, True):
        np.testing.assert_allclose(net(x, training=training), network(x, training=training), atol=1e-5)


def test_a_gate_is_keras_own_layers(eagerly):
    operation = inverted_residual("mb", 4, 3, 3, gated=True)
    stack = GroupedOperation(operation, 1, 6, 2)
    stack.build((None, 9, 8, 4))
    for variable in stack.variables:
        variable.assign(variable + 0.2 * np.abs(np.random.default_rng(0).normal(size=variable.shape)))
    inputs = keras.Input((9, 8, 4))
    network = keras.Model(inputs, apply_operation(operation, inputs, 6, 2, "mb"))
    position = [len(weights) for weights in stack.step_weights].index(4)
    squeeze, between, excite, offset = stack.step_weights[position]
    network.get_layer(f"mb-op-{position}-squeeze").set_weights([squeeze, between])
    network.get_layer(f"mb-op-{position}-excite").set_weights([excite, offset])
    x = np.random.default_rng(1).normal(size=(4, 9, 8, 4)).astype("float32")
    found = stack(x)
    stack.step_weights[position] = []
    copy_edge(stack, 0, network, "mb")
    np.testing.assert_allclose(found, network(x), atol=1e-5)
    assert operation_cost(operation, 4, 6, 2, (9, 8))[0] == model_cost(network)
    assert operation_flash(operation, 4, 6, 2) == model_flash(network) - FILE


def test_the_gradient_of_alpha_is_that_of_the_loss(eagerly):
    keras.config.set_dtype_policy("float64")
    net = small()
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 9, 8, 1)), np.array([0, 1, 2, 1])
    alpha, before = net.alphas[0], rng.normal(size=net.alphas[0].shape)

    def loss(value):
        alpha.assign(np.where(net.allowed.reshape(before.shape), value, 0))
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, net(x, training=True)))

    with tf.GradientTape() as tape:
        value = loss(before)
    gradient, allowed = tape.gradient(value, alpha.value).numpy(), net.allowed.reshape(before.shape)
    assert (gradient[allowed] != 0).all() and (gradient[~allowed] == 0).all()
    for place in [(0, 1), (4, 2), (8, 0)]:
        step = 1e-5 * (np.arange(before.size) == np.ravel_multi_index(place, before.shape)).reshape(before.shape)
        assert gradient[place] == pytest.approx(float(loss(before + step) - loss(before - step)) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("side", [32, pytest.param(33, marks=pytest.mark.slow)])
def test_blocks_are_those_of_keras_mobilenet(eagerly, side):
    whole = keras.applications.MobileNetV2(input_shape=(side, side, 3), alpha=0.35, include_top=False, weights=None)
    ends = whole.get_layer("expanded_conv_project_BN").output, whole.get_layer("block_2_add").output
    theirs = keras.Model(*ends)
    shape, (strided, residual) = theirs.input_shape[1:], _placed_blocks(theirs.input_shape[-1])
    inputs = keras.Input(shape)
    ours = keras.Model(inputs, residual.evaluation_form(strided.evaluation_form(inputs, "one"), "two"))
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.normal(size=w.shape)) + 0.1 for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    x = rng.normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-4)
    assert model_cost(ours) == model_cost(theirs)


def _placed_blocks(channels):
    operation = inverted_residual("mb", channels, 3, 6)
    return kdarts.Placed(operation, channels, 2), kdarts.Placed(operation, channels, residual=True)


def test_the_memory_of_a_network_is_that_of_its_largest_moment():
    inputs = keras.Input((32, 32, 16))
    y = keras.layers.ReLU()(keras.layers.Conv2D(16, 3, padding="same")(inputs))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 3, padding="same")(y))
    assert model_ram(keras.Model(inputs, keras.layers.Add()([inputs, y]))) == 48 * 1024  # ResNet-8's first block.
    assert model_ram(keras.Model(inputs, y)) == 32 * 1024


def test_a_memory_limit_forbids_blocks():
    free, tight = (PublishedHyperCuboid("mobile", (32, 32, 3), 10, mixing="softmax", max_ram=m) for m in (None, 70_000))
    costs, _ = block_costs(free.cuboid, 10)
    fits = np.array([[cost is not None and cost.ram <= 70_000 for cost in row] for row in costs])
    assert free.allowed.sum() == 42
    np.testing.assert_array_equal(tight.allowed[:, 0, 0], fits)
    with pytest.raises(KdartsError, match="max_ram 60000: the least that any network here needs is 65,536 bytes"):
        PublishedHyperCuboid("mobile", (32, 32, 3), 10, mixing="softmax", max_ram=60_000)


def test_a_path_rebuilds_from_its_file_alone(tmp_path, capsys):
    axes = mobile_axes((48, 48, 1), width=0.5, blocks="mb_k7_e4,mb_k3_e1,skip")
    path = random_path(axes, np.random.default_rng(0))
    path.save(tmp_path / "path.json")
    again = load_architecture(tmp_path / "path.json")
    assert again == path and hash(again) == hash(path)
    wanted = counted(path, 2)
    network = kdarts.build_network(str(tmp_path / "path.json"), (48, 48, 1), 2)
    assert type(network).__name__ == "Functional" and model_cost(network).macs == wanted.macs
    assert main(["info", str(tmp_path / "path.json"), "--num_classes=2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[name] for name in ("params", "macs", "ram", "flash")] == [
        *(wanted.params, wanted.macs, wanted.ram, wanted.flash)
    ]
    assert main(["draw", str(tmp_path / "path.json"), f"--to={tmp_path / 'path.svg'}"]) == 0
    with pytest.raises(KdartsError, match="channels 8: the sizes of a path are fixed"):
        kdarts.build_network(path, (48, 48, 1), 2, channels=8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"macro": {}}, "macro: needs input, stem"),
        ({"macro": 3}, "macro must be"),
        ({"macro": {"stem": None}}, "one or more texts, numbers or truth values"),
        ({"activation": "swish"}, "macro: activation 'swish' is not known here"),
        ({"stem_stride": 3}, "macro: stem_stride 3 is not known"),
        ({"colour": 1}, "macro: needs input, stem"),
        ({"sequence": {"place": ["1.1 8"]}}, "place '1.1 8': needs stage.block channels/stride"),
        ({"choices": {"block": ["mb_k4_e3"]}}, "block 'mb_k4_e3': allowed are skip and mb_kK_eE"),
        ({"steps": [{"block": "skip"}] * 9}, "op_grid.0 is forbidden"),
    ],
)
def test_a_file_with_a_fault_is_refused(tmp_path, capsys, change, said):
    data = json.loads(all_of(axes_of("32")[0], "mb_k3_e3").to_json())
    for name, value in change.items():
        (data if name in data else data["macro"])[name] = value
    if "sequence" in change or "choices" in change:
        block = change.get("choices", data["choices"])["block"][0]
        data["steps"] = [{"block": block}] * len(data["sequence"]["place"])
    (tmp_path / "path.json").write_text(json.dumps(data))
    assert main(["info", str(tmp_path / "path.json")]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space=mobile", "--macro=64"], "unknown macro '64'"),
        (["--space=mobile", "--blocks=skip"], "--blocks=skip: needs one or more besides skip"),
        (["--space=mobile", "--blocks=mb_k3_e3,conv"], "block 'conv': allowed are skip"),
        (["--space=mobile", "--width=0"], "--width"),
        (["--space=mobile", "--nodes=2"], "--nodes=2: --space=mobile has none; its sizes are macro"),
        (["--space=mobile", "--partial_channels=4"], "is about cells; a HyperCuboid has none"),
        (["--macro=32"], "--macro=32: has no effect in --space=darts; it is for mobile"),
        (["--method=multichannelnet", "--width=2"], "--width=2.0: has no effect in --space=multichannelnet"),
    ],
)
def test_what_the_space_has_not_is_refused(tmp_path, capsys, arguments, said):
    assert main(["search", *arguments, "--dry_run", f"--workdir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_structure_follows_the_images():
    assert [fitting_macro((side, side + 9, 3)) for side in (8, 32, 48, 96, 224)] == ["32", "32", "48", "96", "224"]
    assert dict(mobile_axes((96, 96, 1)).macro)["input"] == (96, 96, 1)
    assert dict(mobile_axes().choices)["block"] == BLOCKS
    with pytest.raises(KdartsError, match="width 1000: a stage may have 4096 channels at most"):
        mobile_axes(width=1000)


def test_a_search_of_it_is_the_plain_softmax_search(tmp_path, capsys):
    assert main(["search", "--space=mobile", "--cells=3", "--dry_run", f"--workdir={tmp_path}"]) == 0
    told = capsys.readouterr()
    assert "9 stages, 42 transitions" in told.out
    assert "--cells=3: has no effect with --space=mobile; its sizes are --macro, --width, --blocks" in told.err
    method = kdarts.get_method("darts").in_space("mobile")
    assert (method.mixing, method.discretization, method.order) == ("softmax", "best_path", "first")


@pytest.mark.slow
def test_from_images_to_a_served_network(tmp_path, capsys):
    run, trained, served = tmp_path / "run", tmp_path / "trained", tmp_path / "served"
    few = ["--epochs=2", "--train_examples=256"]
    search = ["search", "--space=mobile", "--width=0.5", *few, "--valid_examples=128", f"--workdir={run}"]
    assert main(search) == 0
    summary = read_json(run / "summary.json", SEARCHED)
    path = HyperPath.load(run / "genotype.json")
    assert path.space == "mobile" and dict(path.cuboid.macro)["input"] == (8, 8, 1)
    assert summary["params"] == counted(path, 10).params
    assert main(["report", f"--workdir={run}", f"--to={tmp_path / 'report.html'}"]) == 0
    assert "mb_k3_e3" in (tmp_path / "report.html").read_text()
    assert main(["train", f"--genotype={run / 'genotype.json'}", "--epochs=12", f"--workdir={trained}"]) == 0
    formats = "litert,litert_int8"
    export = ["export", f"--model={trained / 'model.keras'}", f"--to={served}", f"--format={formats}", "--input=raw"]
    assert main([*export, "--min_agreement=0.9"]) == 0
    accuracies = {}
    for name, file in {"keras": trained / "model.keras", "float": "model.tflite", "int8": "model_int8.tflite"}.items():
        capsys.readouterr()
        assert main(["evaluate", f"--model={served / file}", "--dataset=digits", f"--to={tmp_path}"]) == 0
        accuracies[name] = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracies["keras"] > 0.9
    assert abs(accuracies["float"] - accuracies["keras"]) < 0.002
    assert abs(accuracies["int8"] - accuracies["keras"]) <= 0.01
    metrics = json.loads((served / "metrics.json").read_text())
    assert metrics["exports"]["litert"]["agreement"] >= 0.99
    assert 0.92 * metrics["cost"]["flash"] < metrics["exports"]["litert_int8"]["flash"] <= metrics["cost"]["flash"]
