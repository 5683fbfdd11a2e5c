"""Whether a method's choices exist."""

from kdarts.genotypes.errors import choice
from kdarts.search.curvature import watched_every
from kdarts.search.gradients import ORDERS
from kdarts.search.losses import FORMS
from kdarts.search.method import Method
from kdarts.search.schedules import get_schedule
from kdarts.supernet.parameters import MODES
from kdarts.supernet.relaxation import MIXINGS, SAMPLINGS

UPDATES = ("step", "epoch", "frozen")
PATH_CHOICES = ("family", "skips")


def check_choices(method: Method) -> None:
    """Refuses a choice that an axis does not know; raises `KdartsError` with those that it does."""
    choice("order", method.order, ORDERS)
    choice("mixing", method.mixing, MIXINGS)
    choice("sampling", method.sampling, SAMPLINGS)
    choice("zero_one", method.zero_one, FORMS)
    choice("update", method.update, UPDATES)
    choice("attention_mode", method.attention_mode, MODES)
    watched_every(method)
    choice("path_choice", method.path_choice, PATH_CHOICES)
    get_schedule(method.schedule, 1.0, 0.0, 1, power=method.power)
