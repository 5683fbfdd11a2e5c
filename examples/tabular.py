"""Search depth, widths and activations of a small network for a table of numbers, and train the result."""

import keras
import tensorflow as tf
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import kdarts

EPOCHS = 15
keras.utils.set_random_seed(0)
x, y = load_breast_cancer(return_X_y=True)
x = StandardScaler().fit_transform(x).astype("float32")
x, x_test, y, y_test = train_test_split(x, y, random_state=0)


def block(step):
    """The layers of a block of so many, or nothing at all where the width stays."""
    if step["layers"] == 0:
        return keras.layers.Identity() if step.source == step.target and step["activation"] == "relu" else None
    return [keras.layers.Dense(step["width"], step["activation"]) for _ in range(step["layers"])]


cuboid = kdarts.HyperCuboid(
    input_shape=(30,),
    sequence={"block": (1, 2, 3)},
    states={"width": (8, 32)},
    choices={"activation": ("relu", "tanh"), "layers": (0, 1, 2)},
    stem=lambda state: keras.layers.Dense(state["width"]),
    build=block,
    head=lambda state: keras.layers.Dense(2),
)
halves = [tf.data.Dataset.from_tensor_slices((x[k::2], y[k::2])).shuffle(213, seed=k).batch(32) for k in (0, 1)]
search = kdarts.Search(cuboid, order="second", discretization="best_path", arch_learning_rate=0.03)
search.compile()
search.fit(tf.data.Dataset.zip(*halves), epochs=EPOCHS)
print(search.genotype().to_json())

network = cuboid.network(search.genotype())  # plain Keras from here on
network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
network.fit(x, y, epochs=EPOCHS, verbose=0)
print(f"test accuracy {network.evaluate(x_test, y_test, verbose=0)[1]:.3f}")
