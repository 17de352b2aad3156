"""Names of files and folders that are made of names of tasks and methods."""

from __future__ import annotations

import re


def as_file_name(text: str) -> str:
    """Return the text with what some file system refuses as hyphens.

    Spaces and dots at its end, which Windows leaves out, are left out.

    >>> as_file_name("folder:moles"), as_file_name("simclr:chest"), as_file_name("vit@x/last4")
    ('folder-moles', 'simclr-chest', 'vit@x-last4')
    """
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "-", text).rstrip(" .")
