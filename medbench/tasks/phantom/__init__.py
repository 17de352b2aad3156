"""Procedural stand-ins for the tasks' images: a task without its data runs on them, and every table says so. So far one: dermoscopy."""

from medbench.tasks.phantom.dermoscopy import derm

__all__ = ["derm"]
