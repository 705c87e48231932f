"""
Docstrings that a class takes over from another one by `__doc__ = Base.__doc__`, for pages that are made without imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[2]


class TakenOver(griffe.Extension):
    """
    Gives such a class the docstring that it has when it runs.
    """

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """
        Look for the assignment in the body of *cls*, and read what it names.
        """
        taken = cls.members.get("__doc__")
        if cls.docstring is not None or not isinstance(taken, griffe.Attribute):
            return
        name = str(taken.value).removesuffix(".__doc__")
        for base in cls.bases:
            if str(base).partition("[")[0] == name:
                path = cls.module.resolve(name)
                home = griffe.load(path.rpartition(".")[0], search_paths=[ROOT])
                cls.docstring = home[name].docstring
