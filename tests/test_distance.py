"""Metric M: against the authors' values, by hand, and what makes a metric."""

import json

import numpy as np
import pytest

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.distance import OPERATIONS, SCORES, directed, distance, edge_vectors, hausdorff, read_weights
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.supernet.spaces import get_space

CONV, SKIP, POOL = "simple_conv_3x3", "skip_connect", "max_pool_3x3"


def _of(*cells, nodes=2) -> Genotype:
    concat = tuple(range(2, nodes + 2))
    return Genotype(cells, (concat,) * len(cells), (), tuple(range(len(cells))))


def _random(rng, cells=2) -> Genotype:
    """Few operations on few edges, so that near genotypes and equal ones come up."""
    found = []
    for _ in range(cells):
        edges = [(to, source) for to in (2, 3, 4)[: rng.integers(1, 4)] for source in range(to)]
        found.append([(o, *edge) for edge in edges for o in rng.choice(OPERATIONS, rng.integers(0, 3), replace=False)])
    return _of(*found, nodes=int(rng.integers(1, 4)))


def test_the_operations_are_those_of_the_space():
    assert OPERATIONS == get_space("dartopti").operations == tuple(SCORES["mean"])
    assert kdarts.distance is distance


def test_every_pair_is_as_far_apart_as_the_authors_program_says(golden):
    table = golden("ddarts_distance.json")
    assert table["op_order"] == list(OPERATIONS) and len(table["pairs"]) == 80
    assert all(table["weights"][name] == SCORES[name] for name in SCORES)
    printed = table["weights"]["table1"]
    assert all(abs(printed[name] - score) < 0.01 for name, score in SCORES["median"].items())
    median, mean = (np.array(list(read_weights(name).values())) for name in ("median", "mean"))
    for pair in table["pairs"]:
        a, b = get_genotype(pair["a"]), get_genotype(pair["b"])
        found = distance(a, b, "mean"), distance(a, b)
        assert found == pytest.approx([pair["M_code_mean_weights"], pair["M_code_median_weights"]], abs=1e-9)
        literal = distance(a, b, printed, normalize=False)  # the file has nine digits
        assert literal == pytest.approx(pair["M_paper_literal_percent"], rel=1e-8, abs=1e-9)
        assert literal == pytest.approx(distance(a, b, printed) * sum(printed.values()) / 12, rel=1e-12)
        of_a, of_b = edge_vectors(a), edge_vectors(b)
        cells = [(of_a[i], of_b[k]) for i, k in zip(a.sequence, b.sequence, strict=True)]
        assert len(cells) == pair["n_cells"]
        by_cell = [hausdorff(x, y, mean) / mean.sum() for x, y in cells]
        assert by_cell == pytest.approx(pair["cells_mean"], abs=1e-9)
        both = [[directed(x, y, median) / median.sum(), directed(y, x, median) / median.sum()] for x, y in cells]
        np.testing.assert_allclose(both, pair["directed_median"], rtol=0, atol=1e-9)


def test_by_hand():
    a, b = _of([(CONV, 2, 0)]), _of([(CONV, 2, 0), (SKIP, 2, 0)])
    w, total = SCORES["median"], sum(SCORES["median"].values())
    # The nearest to {conv, skip} is {conv}; the nearest to {conv} is nothing, or it and the skip.
    assert distance(a, b) == pytest.approx(w[SKIP] / total)
    assert distance(a, b, normalize=False) == pytest.approx(w[SKIP] / 12)
    assert distance(a, _of([(CONV, 3, 1)])) == 0 and distance(a, _of([])) == pytest.approx(w[CONV] / total)
    moved = distance(a, _of([(CONV, 3, 1)]), aligned=True)
    assert moved == pytest.approx(2 * w[CONV] / total)
    assert distance(_of([(CONV, 2, 0)], []), _of([], []), aligned=True) == pytest.approx(w[CONV] / total / 2)
    assert distance(_of([(CONV, 2, 0)] * 2), a, aligned=True) == 0


def test_empty_edges_count_as_far_as_a_genotypes_own_nodes_go():
    """Each cell's set is of its own edges, as in the authors' program, whose cells may have 4 nodes or 6."""
    dense = [(CONV, to, source) for to in (2, 3) for source in range(to)]
    full, open_ended = _of(dense, nodes=2), _of(dense, nodes=3)
    assert [len(rows) for g in (full, open_ended) for rows in edge_vectors(g)] == [5, 9]
    assert distance(full, open_ended) == pytest.approx(SCORES["median"][CONV] / sum(SCORES["median"].values()))
    assert distance(full, open_ended, aligned=True) == 0


def test_what_a_metric_needs():
    rng = np.random.default_rng(0)
    equal = 0
    for number in range(1000):
        a, b, c = (_random(rng) for _ in range(3))
        if number % 10 == 0:
            b = Genotype(tuple(cell[::-1] for cell in a.cells), b.concats, (), a.sequence)
        for how in ({"aligned": True}, {}):
            ab, bc, ac = distance(a, b, **how), distance(b, c, **how), distance(a, c, **how)
            assert ab == distance(b, a, **how) and distance(a, a, **how) == 0 and ab >= 0
            if how:
                assert ac <= ab + bc + 1e-12
                same = [{*x} == {*y} for x, y in zip(a.cells, b.cells, strict=True)]
                assert (ab == 0) == all(same)
                equal += all(same)
    assert equal >= 100


def test_the_published_one_is_no_metric():
    """It cannot tell cells that have the same operations on other edges, or on more of them."""
    chain, beside = [(CONV, 2, 0), (CONV, 3, 2)], [(CONV, 2, 0), (CONV, 2, 1), (CONV, 3, 0)]
    assert distance(_of(chain), _of(beside)) == 0 < distance(_of(chain), _of(beside), aligned=True)


def test_genotypes_of_two_cells_are_paired_by_kind_or_at_the_others_depth():
    cells, concats = ([(CONV, 2, 0)], [(POOL, 2, 0)]), ((2, 3),) * 2
    two, other = Genotype(cells, concats), Genotype(cells[::-1], concats)
    deep = Genotype((cells[0],), concats[:1], (1, 2), (0, 0, 0))
    change = distance(_of(cells[0]), _of(cells[1]))
    assert distance(two, other) == pytest.approx(change) and distance(two, two) == 0
    # Three cells of `two`: a normal one, and reductions at a third and two thirds.
    assert distance(two, deep) == distance(deep, two) == pytest.approx(change * 2 / 3)


def test_weights_may_be_given(tmp_path):
    a, b = _of([(CONV, 2, 0)]), _of([(CONV, 2, 0), (SKIP, 2, 0)])
    scores = dict(zip(reversed(OPERATIONS), np.arange(1.0, 13.0, dtype="float32"), strict=True))
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({name: float(score) for name, score in scores.items()}))
    for weights in (scores, path, str(path)):
        assert distance(a, b, weights) == pytest.approx(scores[SKIP] / 78)
    assert distance(a, b, dict.fromkeys(OPERATIONS, 1), normalize=False) == 1 / 12


@pytest.mark.parametrize(
    "weights, said",
    [
        ("medium", "unknown weights 'medium' (did you mean 'median'?)"),
        ("nowhere.json", "nowhere.json: cannot be read"),
        ({}, "weights: needs the score of at least one operation"),
        ({"none": 1.0}, "weights: needs the score of at least one operation"),
        ({POOL: 1.0}, "weights: no score of simple_conv_3x3 in a genotype; has max_pool_3x3"),
        ({**SCORES["mean"], SKIP: 0}, "skip_connect has 0; needs a finite number above 0"),
        ({**SCORES["mean"], SKIP: float("nan")}, "skip_connect has nan"),
        ({**SCORES["mean"], SKIP: "1"}, "skip_connect has '1'"),
        ({**SCORES["mean"], SKIP: True}, "skip_connect has True"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, said):
    with pytest.raises(KdartsError) as caught:
        distance(_of([(CONV, 2, 0)]), _of([]), weights)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "odd.json"
    for text in ("[1, 2]", "{", "{}", '{"skip_connect": 1}', '{"simple_conv_3x3": NaN}'):
        path.write_text(text)
        with pytest.raises(KdartsError, match=r"odd\.json"):
            distance(_of([(CONV, 2, 0)]), _of([]), path)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(KdartsError, match="sep_conv_7x7 in NASNet; allowed: conv_3x1_1x3"):
        distance(get_genotype("NASNet"), get_genotype("DARTS_V2"))
    with pytest.raises(KdartsError, match="ResNet18 has 4 cells and Xception has 13 cells"):
        distance(get_genotype("ResNet18"), get_genotype("Xception"))
    with pytest.raises(KdartsError, match="cells of a genotype have one input and those of DARTS_V2 two"):
        distance(get_genotype("DARTS_V2"), _string("skip_connect"))


# Cells of one input, and operations without published scores


def _string(*operations) -> Genotype:
    """A cell of NAS-Bench-201's kind: operations node by node, sources ascending."""
    left, groups = iter(operations), []
    while len(groups) * (len(groups) + 1) // 2 < len(operations):
        groups.append("|" + "|".join(f"{next(left)}~{source}" for source in range(len(groups) + 1)) + "|")
    return Genotype.from_text("+".join(groups))


SMALL, LARGE = "nor_conv_1x1", "nor_conv_3x3"
OWN = {SMALL: 1.0, LARGE: 3.0, SKIP: 0.5, "avg_pool_3x3": 0.5}
OF_THE_BENCHMARK = ("none", SKIP, SMALL, LARGE, "avg_pool_3x3")


def test_cells_of_one_input_by_hand():
    a, b = _string(LARGE, "none", SKIP), _string(LARGE, SMALL, "none")
    assert [rows.shape for rows in edge_vectors(a, operations=tuple(OWN))] == [(3, 4)]
    assert distance(a, b, OWN, aligned=True) == pytest.approx((1.0 + 0.5) / 5)
    assert distance(a, b, OWN, aligned=True, normalize=False) == pytest.approx((1.0 + 0.5) / 4)
    # As sets: {large, nothing, skip} and {large, small, nothing}; the small one's nearest is nothing, or the skip's.
    assert distance(a, b, OWN) == pytest.approx(1.0 / 5)
    assert distance(a, a, OWN) == distance(b, b, OWN, aligned=True) == 0
    # `none` is no operation: whether an edge has it or is left out, and whether it has a score, is the same.
    bare = Genotype(((a.cells[0][0], a.cells[0][2]),), ((3,),), stages=3)
    for weights in (OWN, {**OWN, "none": 7.0}, {"none": "nothing", **OWN}):
        for how in ({}, {"aligned": True}):
            assert distance(a, bare, weights, **how) == 0
            assert distance(a, b, weights, **how) == distance(a, b, OWN, **how)


def test_none_is_no_operation_in_cells_of_two_inputs():
    assert distance(_of([("none", 2, 0), (CONV, 2, 1)]), _of([(CONV, 2, 1)]), aligned=True) == 0
    assert distance(_of([("none", 2, 0)]), _of([])) == 0


def test_published_scores_serve_cells_of_one_input_with_those_operations():
    w, total = SCORES["median"], sum(SCORES["median"].values())
    a, b = _string(SKIP, "avg_pool_3x3", "none"), _string(SKIP, "none", SKIP)
    assert distance(a, b, aligned=True) == pytest.approx((w["avg_pool_3x3"] + w[SKIP]) / total)
    assert distance(a, b) == pytest.approx(min(w["avg_pool_3x3"], w["avg_pool_3x3"] + w[SKIP]) / total)
    with pytest.raises(KdartsError) as caught:
        distance(a, _string(LARGE), "mean")
    message = str(caught.value)
    assert message.startswith("distance: nor_conv_3x3 in a genotype; allowed: conv_3x1_1x3") and "\n" not in message
    assert ".json file {operation: score}" in message


def test_what_a_metric_needs_in_cells_of_one_input():
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = rng.choice([1, 3, 6], 3)  # cells of 1, 2 or 3 nodes
        drawn = [_string(*rng.choice(OF_THE_BENCHMARK, count)) for count in counts]
        a, b, c = drawn
        ab, bc, ac = (distance(x, y, OWN, aligned=True) for x, y in ((a, b), (b, c), (a, c)))
        assert ab == distance(b, a, OWN, aligned=True) and ac <= ab + bc + 1e-12
        real = [{edge for edge in genotype.cells[0] if edge[0] != "none"} for genotype in (a, b)]
        assert (ab == 0) == (real[0] == real[1])
        assert 0 <= distance(a, b, OWN) == distance(b, a, OWN) <= 1


def test_genotypes_with_stages_are_paired_at_any_depth():
    one, other = (SKIP, LARGE, SMALL), (SKIP, SMALL, SMALL)
    cells = [_string(*names).cells[0] for names in (one, other)]
    change = distance(_string(*one), _string(*other), OWN, aligned=True)
    assert change == pytest.approx((3.0 + 1.0) / 5)
    deep = Genotype(cells, ((3,),) * 2, None, (0, 1, 0, 0, 0, 0), stages=3)
    assert distance(_string(*one), deep, OWN, aligned=True) == pytest.approx(change / 6)
    assert distance(deep, _string(*one), OWN, aligned=True) == pytest.approx(change / 6)
    longer = Genotype(cells, ((3,),) * 2, None, (0, 1, 0) * 3, stages=3)
    with pytest.raises(KdartsError, match="has 6 cells and a genotype has 9 cells"):
        distance(deep, longer, OWN)


def test_own_weights_name_the_operations_of_any_space():
    a, b = get_genotype("NASNet"), get_genotype("AmoebaNet")
    scores = dict.fromkeys((*a.operations, *b.operations), 2.0)
    found = distance(a, b, scores, normalize=False, aligned=True)
    differ = [len({*x} ^ {*y}) for x, y in zip(a.cells, b.cells, strict=True)]
    assert found == pytest.approx(2.0 * np.mean(differ) / len(scores)) and found > 0
    with pytest.raises(KdartsError, match=r"weights: no score of .*sep_conv_7x7.* in NASNet; has skip_connect"):
        distance(a, b, {SKIP: 1.0})


def test_the_command_compares_architecture_strings(tmp_path, capsys):
    strings = [_string(SKIP, LARGE, SMALL).to_text(), _string(SKIP, SMALL, "none").to_text()]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(OWN))
    assert main(["distance", *strings, f"--weights={path}", "--aligned"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"]) == tuple(strings)
    assert found["distance"] == pytest.approx((3.0 + 1.0 + 1.0) / 5)
    assert main(["distance", *strings]) == 2
    said = capsys.readouterr().err
    assert f"{LARGE}, {SMALL} in {strings[0]}; allowed: conv_3x1_1x3" in said and said.count("\n") == 1
    assert main(["distance", strings[0], "DARTS_V2", f"--weights={path}"]) == 2
    assert "scores.json: no score of" in capsys.readouterr().err
