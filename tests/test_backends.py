"""A trained network under Keras' other backends, in a process that cannot import TensorFlow."""

import ast
import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, state_dict  # noqa: F401  (starts TensorFlow quietly, first)

import kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import SmoothedCrossentropy

ELSEWHERE = """
import sys

sys.modules["tensorflow"] = None  # from here on, importing it fails
import kdarts
import numpy as np

folder = sys.argv[1]
data = dict(np.load(f"{folder}/data.npz"))
network = kdarts.load_model(f"{folder}/model.keras")
import keras
before = network.predict(data["x"], verbose=0)
losses = network.fit(data["x"], data["y"], batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
after = network.predict(data["x"], verbose=0)
network.save(f"{folder}/on.keras")
schedule = kdarts.DropPathSchedule(10)
schedule.set_model(keras.Sequential([network]))
schedule.on_epoch_begin(9)
first, second = (keras.ops.convert_to_numpy(network(data["x"], training=True)[0]) for _ in range(2))
np.savez(f"{folder}/{keras.backend.backend()}.npz", before=before, losses=losses, after=after, moved=first - second)
built = kdarts.build_network(kdarts.Genotype.load("DARTS_V1"), (8, 8, 3), 3, channels=2, cells=1)
assert built(data["x"]).shape == (16, 3)
assert sys.modules["tensorflow"] is None
"""
"""What a user runs: `kdarts.load_model` needs neither TensorFlow nor another import."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with all that kdarts registers, trained for a step, and how it goes on under TensorFlow."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(16, 8, 8, 3)).astype("float32"), "y": np.arange(16) % 3}
    np.savez(folder / "data.npz", **data)
    keras.utils.set_random_seed(0)
    genotype = kdarts.Genotype.load("DARTS_V1")
    network = kdarts.build_network(genotype, (8, 8, 3), 3, channels=4, cells=2, auxiliary=True, drop_path=0.3)
    for layer in network.layers:
        if isinstance(layer, kdarts.networks.trunk.DropPath):
            layer.rate.assign(0.0)  # as in a schedule's first epoch: what follows is then the same everywhere
    optimizer = kdarts.SGD(0.05, 0.9, 3e-4, nesterov=True, global_clipnorm=5.0)
    network.compile(optimizer, SmoothedCrossentropy(0.1), metrics=["accuracy"], run_eagerly=True)
    network.train_on_batch(data["x"], data["y"])
    network.save(folder / "model.keras")
    before = network.predict(data["x"], verbose=0)
    losses = network.fit(data["x"], data["y"], batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
    return folder, {"before": before, "losses": losses, "after": network.predict(data["x"], verbose=0)}


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])  # JAX compiles for long
def test_a_trained_network_goes_on_elsewhere_without_tensorflow(trained, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder, here = trained
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    command = [sys.executable, "-c", ELSEWHERE, str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    with np.load(folder / f"{backend}.npz") as there:
        np.testing.assert_allclose(there["before"], here["before"], atol=1e-5)
        np.testing.assert_allclose(there["losses"], here["losses"], rtol=1e-4)
        np.testing.assert_allclose(there["after"], here["after"], atol=1e-3)
        assert np.abs(there["moved"]).max() > 0.01  # drop-path draws
    assert np.abs(here["after"] - here["before"]).max() > 0.1
    # And back again.
    back = keras.saving.load_model(folder / "on.keras").predict(np.load(folder / "data.npz")["x"], verbose=0)
    np.testing.assert_allclose(back, here["after"], atol=1e-3)


REGISTER = [
    "import keras, kdarts",
    "import kdarts.networks.network, keras",
    "import kdarts, keras; kdarts.build_network",
]


@pytest.mark.parametrize("imports", [REGISTER[0], *(pytest.param(i, marks=pytest.mark.slow) for i in REGISTER[1:])])
def test_keras_loads_a_trained_network_once_its_classes_are_registered(trained, imports):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = f"{imports}; net = keras.saving.load_model('model.keras'); import numpy as np"
    program += "; np.save('again.npy', net.predict(np.load('data.npz')['x'], verbose=0))"
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=trained[0], check=True)
    np.testing.assert_allclose(np.load(trained[0] / "again.npy"), trained[1]["before"], atol=1e-6)


def test_no_module_that_a_saved_network_needs_imports_tensorflow():
    """Holds also where no other backend is installed."""
    waiting, seen = [ROOT / "kdarts" / "networks" / f"{name}.py" for name in ("models", "backbone", "network")], set()
    waiting += [ROOT / f"{name.replace('.', '/')}.py" for name in kdarts._SAVED]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else names
            assert not {name.split(".")[0] for name in names} & {"tensorflow", "keras_tuner"}, path
            waiting += [ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("kdarts.")]
    assert len(seen) > 15


def test_importing_kdarts_alone_imports_no_keras_and_installs_no_hook():
    program = "import sys; finders = list(sys.meta_path); import kdarts; assert sys.meta_path == finders"
    program += "; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def test_a_missing_or_damaged_network_is_reported(trained, tmp_path):
    with pytest.raises(KdartsError, match=r"no model file '.*none\.keras'"):
        kdarts.load_model(tmp_path / "none.keras")
    (tmp_path / "net.h5").touch()
    with pytest.raises(KdartsError, match=r"net\.h5': needs a file that ends in \.keras"):
        kdarts.load_model(tmp_path / "net.h5")
    whole = (trained[0] / "model.keras").read_bytes()
    changed = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    for content in (b"", b"no archive", whole[: len(whole) // 2], changed):
        (tmp_path / "net.keras").write_bytes(content)
        with pytest.raises(KdartsError, match=r"net\.keras.* damaged"):
            kdarts.load_model(tmp_path / "net.keras")
