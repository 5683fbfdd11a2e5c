"""Find shapes with a published cell: train a classifier, make it a backbone, and tune KerasHub's RetinaNet on it.

Needs `pip install 'kdarts[detection]'`; about 2 minutes on 2 CPU cores.
"""

import keras
import keras_hub
import tensorflow as tf
from shapes import CLASSES, draw, mean_average_precision

import kdarts

EPOCHS, IMAGES = 6, 1500
keras.utils.set_random_seed(0)
kdarts.configure_threads()
genotype = kdarts.Genotype.load("DARTS_V2")

# A classifier of single shapes, with the stem for large images: strides 4 and 8 before the cells.
images, _, labels, _ = draw(IMAGES, most=1, seed=1)
network = kdarts.build_network(genotype, images.shape[1:], len(CLASSES), channels=8, cells=3, stem="imagenet")
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
network.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
network.fit(images, labels[:, 0], batch_size=32, epochs=EPOCHS, verbose=2)

# The same cells and weights as levels P2 to P5, of which the detector takes P3 and on.
encoder = kdarts.build_backbone(genotype, images.shape[1:], channels=8, cells=3, weights=network)
backbone = keras_hub.models.RetinaNetBackbone(encoder, 3, 5, use_p5=False, image_shape=images.shape[1:])
anchors = keras_hub.layers.AnchorGenerator("xyxy", 3, 5, num_scales=3, aspect_ratios=[1.0], anchor_size=2.0)
options = {"anchor_generator": anchors, "pre_logits_num_conv_layers": 1, "use_prediction_head_norm": True}
detector = keras_hub.models.RetinaNetObjectDetector(backbone, len(CLASSES), "xyxy", **options)
detector.prediction_decoder = keras_hub.layers.NonMaxSuppression("xyxy", from_logits=True, confidence_threshold=0.05)

tests, test_boxes, test_labels, _ = draw(100, seed=2)
images, boxes, labels, _ = draw(IMAGES, seed=3)
# KerasHub makes a data set of arrays and leaves it in its order.
data = tf.data.Dataset.from_tensor_slices((images, {"boxes": boxes, "labels": labels}))
data = data.shuffle(IMAGES, seed=0).batch(16)


def score() -> float:
    """mAP at an overlap of a half, on pictures that were not trained on."""
    found = detector.predict(tests, batch_size=50, verbose=0)
    return mean_average_precision(found, test_boxes, test_labels)


detector.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0))
print(f"mAP before {score():.3f}")
for part in range(3):
    detector.optimizer.learning_rate = 2e-3 * 0.4**part
    detector.fit(data, epochs=EPOCHS // 3, shuffle=False, verbose=2)
    print(f"mAP after {(part + 1) * (EPOCHS // 3)} epochs {score():.3f}")
