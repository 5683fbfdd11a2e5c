"""Search among operations of one's own, in a space of one's own, and train the result."""

import keras

import kdarts
from kdarts.ops.operations import Conv, Norm, Operation, Relu

keras.utils.set_random_seed(0)
steps = (Relu(), Conv((3, 3), strided=(True, True)), Norm())
kdarts.register_operation(Operation("conv_3x3", steps))
kdarts.register_space(kdarts.SearchSpace("mine", ("none", "skip_connect", "max_pool_3x3", "conv_3x3"), nodes=3))

supernet = kdarts.Supernet("mine", input_shape=(8, 8, 1), num_classes=10, channels=8, cells=3)
search = kdarts.Search(supernet, method="darts", arch_learning_rate=3e-3)
search.compile()
search.fit(kdarts.search_dataset("digits", batch_size=64), epochs=8, verbose=2)
print(search.genotype().to_json())

network = kdarts.build_network(search.genotype(), (8, 8, 1), 10, channels=8, cells=3)  # plain Keras from here on
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
network.compile("adam", loss, metrics=["accuracy"])
batches = kdarts.search_dataset("digits", batch_size=64).map(lambda train, valid: train)
network.fit(batches, epochs=12, verbose=2)
