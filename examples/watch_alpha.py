# %% [markdown]
# # A search, step by step
#
# What `kdarts search` does in one command, in small pieces that you can look into. Run it as a program, or cell by
# cell in an editor that knows `# %%`, such as VS Code, Spyder or PyCharm. About a minute on 2 CPU cores.

# %%
import keras
import numpy as np

import kdarts

kdarts.configure_threads()
space = kdarts.SearchSpace("few", ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"), nodes=2, multiplier=2)
kdarts.register_space(space)

# %% [markdown]
# The supernet computes all four operations on every edge of its cells. An edge leads from one node to a later one;
# nodes 0 and 1 are the inputs of the cell. How much an operation counts follows from α: one row an edge, one column
# an operation.

# %%
supernet = kdarts.Supernet(space, input_shape=(8, 8, 1), num_classes=10, channels=8, cells=3)
normal, reduction = supernet.alphas
print("α of the normal cells:", normal.shape)


def show(title):
    """Prints the mixing weights of the normal cells, in percent: the softmax of each row of α."""
    weights = supernet.mixing_weights()[0]
    print(f"{title:8}", *(f"{name:>13}" for name in space.operations))
    for (to, source), row in zip([(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)], np.asarray(weights), strict=True):
        print(f"{source} → {to}   ", *(f"{100 * weight:12.1f}%" for weight in row))


show("start")

# %% [markdown]
# α starts near 0, so that all operations count alike: a quarter each. A step of the search takes two batches, one
# for the weights and one for α. These are the gradients that the step descends. A negative one means that the loss
# on the validation batch falls if the operation counts more.

# %%
search = kdarts.Search(supernet, method="darts", arch_learning_rate=0.01)
search.compile()
data = kdarts.search_dataset("digits", batch_size=64)
train, valid = next(iter(data))
gradients = search.architecture_gradients(train, valid)
print("gradient on the edge 0 → 2:", *(f"{n} {g:+.4f}" for n, g in zip(space.operations, gradients[0][0], strict=True)))

# %% [markdown]
# Now twelve epochs. A callback of Keras looks at α after every fourth. The weights of operations grow apart while the
# supernet learns.


# %%
def look(epoch, logs):
    """Shows α after every fourth epoch."""
    if (epoch + 1) % 4 == 0:
        print(f"\nloss {logs['loss']:.3f}, accuracy {logs['accuracy']:.3f}")
        show(f"epoch {epoch + 1}")


search.fit(data, epochs=12, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)], verbose=0)

# %% [markdown]
# At the end each node keeps the two edges whose best operation counts most, `none` apart, each with that operation.

# %%
genotype = search.genotype()
print(genotype.to_json())
network = kdarts.build_network(genotype, (8, 8, 1), 10, channels=8, cells=3)
print(f"a network of {network.count_params():,} weights; the supernet has {supernet.count_params():,}")
