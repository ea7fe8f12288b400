"""A workbook on imitation learning for robots: the parts that more than one notebook needs."""

from ilbook.tasks.registration import register_with_gymnasium

__version__ = "0.1.0"

register_with_gymnasium()
