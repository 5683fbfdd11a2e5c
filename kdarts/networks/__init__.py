"""Networks: an architecture as a Keras model, for training and serving under any of Keras' backends.

Keras loads a class that a saved network names only if the module of the class was imported. Any import from here
imports all of these modules.
"""

import kdarts

kdarts.register_saved_classes()
