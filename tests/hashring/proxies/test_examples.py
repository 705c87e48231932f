"""
The examples in the docstrings, which somebody will copy.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from knet.hashring import proxies

MODULES = [module.name for module in pkgutil.iter_modules(proxies.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_is_printed(name: str) -> None:
    """
    Of every module of the proxies.
    """
    module = importlib.import_module(f"{proxies.__name__}.{name}")

    assert doctest.testmod(module).failed == 0
