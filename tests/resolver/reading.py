"""
Reading records in one go, for tests.
"""

from __future__ import annotations

from typing import Any

from knet.hashring.steps import exhaust
from knet.resolver.records import Found, finding_addresses, finding_services

__all__ = ["find_addresses", "find_services", "targets_without_address"]


def find_addresses(*arguments: Any, **options: Any) -> Found:
    """
    Do as `finding_addresses` does.
    """
    return exhaust(finding_addresses(*arguments, **options))


def find_services(*arguments: Any, **options: Any) -> Found:
    """
    Do as `finding_services` does.
    """
    return exhaust(finding_services(*arguments, **options))


def targets_without_address(*arguments: Any, **options: Any) -> tuple[str, ...]:
    """
    Return the SRV targets whose addresses have to be asked for.
    """
    return find_services(*arguments, **options).unresolved
