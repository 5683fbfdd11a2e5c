"""A target for the cost of what is found: counts before the search, the expected cost, and where a search ends."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kdarts.data.pipeline import search_dataset
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import get_genotype
from kdarts.networks.network import build_network
from kdarts.ops.cost import Latencies
from kdarts.search.cost_target import BAND, TargetControl, chosen_target, count
from kdarts.search.gradients import Validation
from kdarts.search.method import get_method
from kdarts.search.optimizers import Adam
from kdarts.search.search import Search
from kdarts.search.selection import TwoStrongest
from kdarts.supernet.cost import network_cost
from kdarts.supernet.cuboids import path_latency
from kdarts.supernet.expected_cost import SURE, expected_cell_cost, expected_path_cost
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

SMALL = SearchSpace("small", ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"), 2, 2)


@pytest.mark.parametrize("name", ["DARTS_V2", "PDARTS", "PC_DARTS_cifar", "AmoebaNet", "FairDARTS_a"])
def test_macs_are_those_of_tensorflows_profiler(name):
    size = (get_genotype(name), (16, 16, 3), 10, 4, 3)
    model = build_network(*size)
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 16, 16, 3)))
    graph = convert_variables_to_constants_v2(call).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    found = tf.compat.v1.profiler.profile(graph, cmd="op", options=options.with_empty_output().build())
    kinds = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}
    # It counts a multiplication and an addition as two.
    operations = {part.name: part.total_float_ops for part in found.children}
    flops, children = 0, list(found.children)
    while children:
        part = children.pop()
        flops += part.float_ops if part.name in kinds else 0
        children += part.children
    assert flops == 2 * network_cost(*size).macs, operations


def _spread(net, seed=0, scale=1.0):
    for index, variable in enumerate(net.architecture):
        variable.assign(scale * np.random.default_rng([seed, index]).normal(size=variable.shape))


def _search(rule="darts", mixing="softmax", sharing="individual", space=SMALL, target=None, **choices) -> Search:
    choices = {"mixing": mixing, "sharing": sharing, **choices}
    net = Supernet(space, (8, 8, 3), 3, channels=4, cells=3, **choices)
    _spread(net)
    if rule in ("sparse", "edge", "complete"):
        choices["threshold"] = 0.6
    return Search(net, discretization=rule, **choices, **(target or {}))


def _counted(search, kind="macs"):
    """Of the edges that a search has found, by what each candidate costs."""
    net, found = search.supernet, search.genotype()
    tables, total = net.candidate_costs(), 0
    for position, index in enumerate(net.sequence):
        for operation, to, source in found.cells[index]:
            row = tables[position][net.edges.index((to, source))]
            total += getattr(row[net.space.operations.index(operation)], kind)
    return total


@pytest.mark.parametrize(
    "rule, mixing, choices",
    [
        ("darts", "softmax", {"sharing": "shared"}),
        ("darts", "max_w", {"partial_channels": 2}),
        ("darts", "softmax", {"topology": "0,1;0,2"}),
        ("sparse", "sigmoid", {}),
        ("edge", "sigmoid", {}),
        ("complete", "sigmoid", {}),
        ("pairs", "softmax", {}),
        ("progressive", "node_softmax", {"sharing": "shared"}),
    ],
)
def test_without_chance_the_expected_cost_is_that_of_what_the_rule_keeps(rule, mixing, choices):
    target = {"target_params": 2500.0, **({"max_skips": None} if rule == "progressive" else {})}
    search = _search(rule, mixing, target=target, **choices)
    target, seen = search.cost_target, set()
    for seed in range(4):
        _spread(search.supernet, seed)
        seen.add(_counted(search, "params"))
        assert float(target.expected(0)) == pytest.approx(_counted(search, "params"), rel=1e-5, abs=1e-3)
    assert len(seen) > 1
    assert target.note(search.genotype())["params"] == search.supernet.cost_of(search.genotype()).params
    exact = search.supernet.cost_of(search.genotype()).params
    assert float(target.gap()) == pytest.approx(np.log(exact / 2500), abs=1e-5)


def test_the_expected_cost_is_the_mean_over_noisy_strengths():
    rng = np.random.default_rng(4)
    names, tau = ("a", "b", "c"), 0.4
    strengths, costs = rng.uniform(0.05, 1, (9, 3)), rng.uniform(0, 10, (9, 3))
    rule = TwoStrongest()
    expected = float(expected_cell_cost(tf.constant(strengths), costs, rule, tf.constant(tau, "float64")))
    drawn = []
    for _ in range(4000):
        noisy = np.log(strengths) + tau * rng.gumbel(size=strengths.shape)
        kept = [(rows, rule.node(noisy[rows], names)) for rows in (slice(0, 2), slice(2, 5), slice(5, 9))]
        drawn.append(sum(costs[rows][source, names.index(o)] for rows, pairs in kept for o, source in pairs))
    assert abs(np.mean(drawn) - expected) < 4 * np.std(drawn) / np.sqrt(len(drawn))


def test_the_expected_cost_of_a_path_is_that_over_all_paths():
    rng = np.random.default_rng(2)
    scores, costs = rng.normal(size=(3, 2, 2, 2)), rng.uniform(1, 9, (3, 2, 2, 2))
    allowed = rng.random((3, 2, 2, 2)) < 0.8
    flat, tau = tf.constant(scores.reshape(3, -1)), tf.constant(0.7, "float64")
    weights, spent = [], []
    for states in itertools.product(range(2), repeat=4):
        for picks in itertools.product(range(2), repeat=3):
            steps = [(t, states[t], states[t + 1], picks[t]) for t in range(3)]
            if all(allowed[step] for step in steps):
                weights.append(np.exp(sum(scores[step] for step in steps) / 0.7))
                spent.append(sum(costs[step] for step in steps))
    found = expected_path_cost(flat, costs, allowed, "best_path", tau)
    assert float(found) == pytest.approx(np.dot(weights, spent) / np.sum(weights))
    best = spent[int(np.argmax(weights))]
    assert float(expected_path_cost(flat, costs, allowed, "best_path", tf.constant(SURE, "float64"))) == (
        pytest.approx(best)
    )


def _grid(**choices) -> Search:
    net = HyperCuboid(
        (6,),
        {"block": (1, 2, 3)},
        {"width": (8, 16, 32)},
        {"activation": ("relu", "tanh")},
        build=lambda step: keras.layers.Dense(step["width"], step["activation"]),
        stem=lambda state: keras.layers.Dense(state["width"]),
        head=lambda state: keras.layers.Dense(2),
    )
    _spread(net, 7)
    return Search(net, **{"discretization": "best_path", **choices})


@pytest.mark.parametrize("rule", ["best_path", "greedy_forward", "greedy_backward"])
def test_a_path_through_a_hypercuboid_has_a_target_too(rule):
    search = _grid(discretization=rule, target_params=1000.0)
    for seed in range(3):
        _spread(search.supernet, seed)
        cost = search.supernet.cost_of(search.genotype()).params
        assert float(search.cost_target.expected(0)) == pytest.approx(cost, rel=1e-5)
    before = float(search.cost_target.gap())
    search.cost_target.settle(search.genotype)
    search.cost_target.note(search.genotype())
    assert abs(float(search.cost_target.gap())) <= abs(before) + 1e-6


def _under_noise(search, rate, steps=60):
    """α under gradients of a direction of its own and noise, which stand in for the validation loss."""
    net, target, rng = search.supernet, search.cost_target, np.random.default_rng(8)
    optimizer = Adam(rate, 0.5, 0.999, 1e-8, l2=1e-3)
    optimizer.build(net.architecture)
    pull = [rng.normal(size=v.shape) for v in net.architecture]

    @tf.function(autograph=False)
    def step(*gradients):
        gradients = list(gradients)
        at = Validation(gradients, None, [], [])
        more = target.gradients(at) if target else [tf.zeros_like(g) for g in gradients]
        optimizer.apply([a + b for a, b in zip(gradients, more, strict=True)], net.architecture)
        if target:
            target.updated(optimizer.iterations)

    for _ in range(steps):
        step(*[tf.constant(0.01 * (0.5 * p + rng.normal(size=p.shape)), "float32") for p in pull])


@pytest.mark.parametrize(
    "kind, rule, mixing, rate, choices",
    [
        ("macs", "darts", "softmax", 0.01, {"sharing": "shared", "space": "darts"}),
        pytest.param("params", "edge", "sigmoid", 0.05, {}, marks=pytest.mark.slow),
    ],
)
def test_alpha_is_led_to_the_target_against_the_loss(kind, rule, mixing, rate, choices):
    def run(target):
        search = _search(rule, mixing, target=target, **choices)
        _spread(search.supernet, scale=1e-2)
        _under_noise(search, rate)
        return search, getattr(search.supernet.cost_of(search.genotype()), kind)

    free, unconstrained = run(None)
    assert free.cost_target is None
    wanted = 0.6 * unconstrained
    search, led = run({f"target_{kind}": wanted})
    unsettled = abs(np.log(led / wanted))
    search.cost_target.settle(search.genotype)
    settled = search.supernet.cost_of(search.genotype())
    assert unsettled < 0.5 * np.log(unconstrained / wanted) + BAND
    assert abs(getattr(settled, kind) / wanted - 1) < 0.1


def test_an_epoch_tells_how_far_it_is_and_the_state_is_a_variable(eagerly):
    space = SearchSpace("two", ("skip_connect", "dil_conv_3x3"), 1, 1)
    net = Supernet(space, (8, 8, 1), 10, channels=2, cells=2, reductions=(1,))
    search = Search(net, target_macs=5000.0, arch_learning_rate=0.1)
    search.compile()
    assert list(search.attached) == ["cost_target"] and type(search.cost_target) is TargetControl
    held = {v.path.split("/")[-1] for v in search.variables}
    assert {"beyond", "integral"} <= held
    data = search_dataset("digits", batch_size=16).take(2)
    history = search.fit(data, epochs=1, verbose=0).history
    cost = net.cost_of(search.genotype()).macs
    assert history["macs"] == [cost] and history["target_gap"] == [pytest.approx(cost / 5000 - 1)]
    assert float(search.cost_target.integral) != 0 and abs(history["target_weight"][0]) <= 2
    assert search.cost_target.summary(search.genotype())["target_macs"] == 5000.0


@pytest.mark.parametrize(
    "choices, said",
    [
        ({"target_macs": -1.0}, "target_macs -1.0: allowed is above 0"),
        ({"target_macs": 1e5, "target_params": 1e3}, "one target at a time"),
        ({"target_macs": 1e5, "update": "frozen"}, "α does not move"),
        ({"target_macs": 1e5, "samples": 10}, "with samples the network is not derived from α"),
        ({"target_latency_ms": 1.0}, "need each other"),
        ({"latency_table": "table.json"}, "is for target_latency_ms"),
        ({"target_macs": float("nan")}, "target_macs nan: allowed is above 0"),
        ({"target_macs": float("inf")}, "target_macs inf: allowed is above 0"),
    ],
)
def test_a_target_without_meaning_is_refused(choices, said):
    with pytest.raises(KdartsError, match=said) as caught:
        chosen_target(get_method("darts").override(**choices))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "choices, said",
    [
        ({"target_macs": 1e12}, "target_macs 1e\\+12: allowed are"),
        ({"target_macs": 10.0}, "target_macs 10: allowed are"),
        ({"target_latency_ms": 1.0, "latency_table": "none.json"}, "none.json: cannot be read"),
    ],
)
def test_a_target_out_of_reach_is_refused(choices, said):
    with pytest.raises(KdartsError, match=said):
        _search(target=choices)


def test_counts_are_read():
    assert [count(text) for text in ("2.5M", "800k", "1G", "1234", "2e6")] == [2.5e6, 8e5, 1e9, 1234, 2e6]
    with pytest.raises(KdartsError, match="5 m: needs a number"):
        count("5 m")


def test_a_measured_table_gives_milliseconds_and_a_target_in_them(tool, tmp_path, monkeypatch):
    program, path = tool("latency_table"), tmp_path / "table.json"
    made = []

    def measure(files, threads, rounds, runs):
        """Times that are known: of a file that does nothing 1, of all others 1 + their number."""
        made.extend(files)
        return [1.0 + number for number in range(len(files))]

    real = program.measure, program.litert_file
    monkeypatch.setattr(program, "measure", measure)
    monkeypatch.setattr(program, "litert_file", lambda network, dtype: network.name.encode())
    flags = ["--operations=none,skip_connect,dil_conv_3x3", "--nodes=1", "--cells=3", "--channels=2"]
    assert program.main([f"--to={path}", "--runs=2", *flags]) == 0
    table = Latencies.load(path)
    assert sorted(table.rows.values()) == list(range(1, len(made)))
    space = SearchSpace("timed", ("none", "skip_connect", "dil_conv_3x3"), 1, 1)
    net = Supernet(space, (8, 8, 1), 10, channels=2, cells=3, nodes=1)
    _spread(net)
    free = Search(net).genotype()
    ms = net.cost_of(free, table).latency_ms
    assert ms > 0 and net.cost_of(free).latency_ms == 0
    search = Search(net, target_latency_ms=ms, latency_table=str(path))
    assert search.cost_target.note(free) | {"target_weight": 0} == {
        "latency_ms": pytest.approx(ms),
        "target_gap": pytest.approx(0),
        "target_weight": 0,
    }
    assert float(search.cost_target.gap()) == pytest.approx(0, abs=1e-5)
    image = keras.Input((8, 8, 1))
    files = [real[1](keras.Model(image, keras.layers.Conv2D(2, 3)(image)), dtype) for dtype in program.DTYPES]
    assert all(ms > 0 for ms in real[0](files, 1, 2, 2))
    wider = Supernet(space, (8, 8, 1), 10, channels=4, cells=3, nodes=1)
    with pytest.raises(KdartsError, match="measures it, with the flags of this search"):
        Search(wider, target_latency_ms=1.0, latency_table=str(path))


@pytest.mark.parametrize(
    "text, said",
    [
        ("{}", '"format" must be'),
        ('{"format": "kdarts-latencies-1", "rows": [{"operation": "a"}]}', "row 0 needs"),
        ('{"format": "kdarts-latencies-1", "rows": [5]}', "row 0 needs"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(KdartsError, match=said):
        Latencies.load(tmp_path / "table.json")


def test_a_table_of_a_chain_is_validated_on_whole_networks(tool, tmp_path, monkeypatch):
    program, path = tool("latency_table"), tmp_path / "table.json"
    monkeypatch.setattr(program, "litert_file", lambda network, dtype: b"")
    monkeypatch.setattr(program, "measure", lambda files, *_: [1.0 + 0.01 * number for number in range(len(files))])
    assert program.main([f"--to={path}", "--space=mobile", "--blocks=mb_k3_e3,skip", "--validate=4"]) == 0
    about = json.loads(path.read_text())
    assert about["dtype"] == "float32" and about["validation"]["networks"] == 4
    about["validation"]["spearman"] = 0.5
    path.write_text(json.dumps(about))
    with pytest.raises(KdartsError, match=r"rank whole networks with a correlation of 0\.5; needs 0\.9"):
        Latencies.load(path)
    about["validation"]["spearman"] = 0.95
    path.write_text(json.dumps(about))
    how = {"space": "mobile", "blocks": "mb_k3_e3,skip", "latency_table": str(path)}
    search = Search("darts", (8, 8, 1), 10, width=1.0, max_latency_ms=0.5, **how)
    ms = search.cost_target.summary(search.genotype())["latency_ms"]
    assert ms <= 0.5 and ms == search.supernet.cost_of(search.genotype(), Latencies.load(path)).latency_ms
    search.genotype().save(tmp_path / "path.json")
    assert path_latency(search.genotype(), (8, 8, 1), Latencies.load(path)) == pytest.approx(ms)
    with pytest.raises(KdartsError, match=r"max_latency_ms 0\.001: the least possible here is 0\."):
        Search("darts", (8, 8, 1), 10, width=1.0, max_latency_ms=0.001, **how)
    found = program.validated([1.0, 2, 3, 1, 2, 3], [3.0, 5, 7, 3, 5, 8])
    assert found["factor"] == 2 and found["offset_ms"] == 1 and found["spearman"] == 1
    assert found["error"] == pytest.approx((7 / 8 - 1) / -3, abs=1e-4)


def test_a_table_survives_its_file(tmp_path):
    table = Latencies({("sep_conv_3x3", 4, 4, 1, 8, 8): 0.25, ("stem", 3, 4, 2, 8, 9): 1.0})
    table.save(tmp_path / "table.json", images=1)
    assert Latencies.load(tmp_path / "table.json").rows == table.rows
    assert json.loads((tmp_path / "table.json").read_text())["images"] == 1
