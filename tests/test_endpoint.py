"""
`Endpoint`: one pod as a value.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest

from knet import ConfigError, Endpoint

A = Endpoint("10.0.0.1", "10.0.0.1", 8080)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("web-0", "10.0.0.1", 8080), "10.0.0.1:8080"),
        (Endpoint("web-0", "fd00::1", 8080), "[fd00::1]:8080"),
        (Endpoint("web-0", "10.0.0.1"), "10.0.0.1"),
        (Endpoint("web-0", "fd00::1"), "fd00::1"),
    ],
)
def test_its_text_is_where_to_connect(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


def test_its_repr_shows_its_values_and_a_zone_that_is_known() -> None:
    shown = "Endpoint(name='web-0', address='10.0.0.1', port=80, weight=2"

    assert repr(Endpoint("web-0", "10.0.0.1", 80, 2)) == f"{shown})"
    assert repr(Endpoint("web-0", "10.0.0.1", 80, 2, "a")) == f"{shown}, zone='a')"


def test_a_zone_is_kept_and_not_compared() -> None:
    here, there = Endpoint("a", "10.0.0.1", zone="a"), Endpoint("a", "10.0.0.1", zone="b")

    assert here == there == Endpoint("a", "10.0.0.1")
    assert len({here, there}) == 1
    assert not here < there
    assert pickle.loads(pickle.dumps(here)).zone == dataclasses.replace(here, port=1).zone == "a"


def test_endpoints_with_the_same_values_are_the_same() -> None:
    other = Endpoint("10.0.0.1", "10.0.0.1", 8080)

    assert other == A
    assert len({A, other}) == 1
    assert Endpoint("10.0.0.1", "10.0.0.1", 8081) != A
    assert Endpoint("10.0.0.1", "10.0.0.1", 8080, 2) != A


def test_endpoints_sort_by_name_then_address_then_port() -> None:
    ordered = [
        Endpoint("a", "10.0.0.2", 1),
        Endpoint("b", "10.0.0.1", 2),
        Endpoint("b", "10.0.0.2", None),
        Endpoint("b", "10.0.0.2", 1),
        Endpoint("b", "10.0.0.2", 3),
    ]

    assert sorted([ordered[2], ordered[0], ordered[4], ordered[1], ordered[3]]) == ordered
    assert ordered[0] <= ordered[0] < ordered[1]
    with pytest.raises(TypeError):
        _ = ordered[0] < "a"


def test_an_endpoint_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        A.port = 1  # type: ignore[misc]  # which is the point
    with pytest.raises((AttributeError, TypeError)):
        A.rack = "a"  # type: ignore[attr-defined]  # it has no such slot


def test_an_endpoint_pickles_and_copies() -> None:
    for other in (pickle.loads(pickle.dumps(A)), copy.copy(A), copy.deepcopy(A)):
        assert other == A
        assert hash(other) == hash(A)


@pytest.mark.parametrize("port", [1, 65535, None])
def test_a_port_is_1_to_65535_or_none(port: int | None) -> None:
    assert Endpoint("a", "10.0.0.1", port).port == port


@pytest.mark.parametrize("weight", [0, 1, 0.5, 1000])
def test_a_weight_is_any_finite_number_from_0_up(weight: float) -> None:
    assert Endpoint("a", "10.0.0.1", weight=weight).weight == weight


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"address": ""}, "address must not be empty"),
        ({"port": 0}, "port must be 1 to 65535, got 0"),
        ({"port": -1}, "got -1"),
        ({"port": 65536}, "got 65536"),
        ({"weight": -1}, "weight must be finite and >= 0, got -1"),
        ({"zone": ""}, "zone must not be empty"),
        ({"weight": math.nan}, "got nan"),
        ({"weight": math.inf}, "got inf"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Endpoint(**{"name": "a", "address": "10.0.0.1", **values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": b"web-0"}, "name must be a str, not bytes"),
        ({"address": 1}, "address must be a str, not int"),
        ({"zone": 1}, "zone must be a str, not int"),
        ({"address": None}, "address must be a str, not NoneType"),
        ({"port": "80"}, "port must be an int, not str"),
        ({"port": 80.0}, "port must be an int, not float"),
        ({"port": True}, "port must be an int, not bool"),
        ({"weight": "1"}, "weight must be a number, not str"),
        ({"weight": None}, "weight must be a number, not NoneType"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        Endpoint(**{"name": "a", "address": "10.0.0.1", **values})


@pytest.mark.parametrize("address", ["10.0.0.1:80", "[fd00::1]", "[fd00::1]:80", "web-0:80"])
def test_an_address_has_no_port_and_no_brackets(address: str) -> None:
    """
    It would be written with two ports, and connected to never.
    """
    with pytest.raises(ConfigError, match=r"no port and no brackets.*write Endpoint\(name"):
        Endpoint("a", address)
