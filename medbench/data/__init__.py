"""A task's data.

Opened and checked for a run, downloaded and verified, and the sets that a model is scored on.
"""

from medbench.data.task_data import TaskData, locate, open_task

__all__ = ["TaskData", "locate", "open_task"]
