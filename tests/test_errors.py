"""
The errors: what they are, what they carry, and that they survive a trip to another process.
"""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import knet
from knet import errors
from knet.errors import KnetError, ResolveError

LEAVES = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, KnetError)
]
RESOLVE_ERRORS = [error for error in LEAVES if issubclass(error, ResolveError)]

SERVERS = ("10.96.0.10", "[fd00::10]:5353")


@pytest.mark.parametrize(
    ("leaf", "parents"),
    [
        (errors.ConfigError, (ValueError,)),
        (errors.NoEndpoints, (LookupError,)),
        (errors.RingNotReady, (RuntimeError,)),
        (errors.RingClosed, (RuntimeError,)),
        (errors.RingMisused, (RuntimeError,)),
        (errors.ResolveError, ()),
        (errors.NameNotFound, (ResolveError, LookupError)),
        (errors.NoData, (ResolveError, LookupError)),
        (errors.ServerFailure, (ResolveError,)),
        (errors.QueryRefused, (ResolveError,)),
        (errors.ResolveTimeout, (ResolveError, TimeoutError)),
        (errors.ServerUnreachable, (ResolveError, ConnectionError)),
        (errors.MalformedAnswer, (ResolveError,)),
        (errors.AnswerTooLarge, (ResolveError,)),
        (errors.ResolverClosed, (ResolveError, RuntimeError)),
    ],
)
def test_a_leaf_is_a_knet_error_and_the_built_in_that_it_resembles(
    leaf: type[KnetError], parents: tuple[type[Exception], ...]
) -> None:
    assert issubclass(leaf, (KnetError,))
    for parent in parents:
        assert issubclass(leaf, parent)


def test_every_error_is_public() -> None:
    """
    All of them are in `knet.errors.__all__`, and at the front door.
    """
    assert sorted(error.__name__ for error in LEAVES) == sorted(errors.__all__)
    for name in errors.__all__:
        assert getattr(knet, name) is getattr(errors, name)


@pytest.mark.parametrize("error", [e for e in LEAVES if e is not KnetError])
def test_a_docstring_says_when_it_is_raised(error: type[KnetError]) -> None:
    assert (error.__doc__ or "").strip().startswith("Raised when")


def test_each_way_to_fail_has_a_kind_of_its_own_for_counters_and_logs() -> None:
    kinds = {error.__name__: error.kind for error in RESOLVE_ERRORS}

    assert kinds == {
        "ResolveError": "error",
        "NameNotFound": "nxdomain",
        "NoData": "nodata",
        "ServerFailure": "servfail",
        "QueryRefused": "refused",
        "Forbidden": "forbidden",
        "ResolveTimeout": "timeout",
        "ServerUnreachable": "unreachable",
        "MalformedAnswer": "malformed",
        "AnswerTooLarge": "toolarge",
        "ResolverClosed": "closed",
    }


@pytest.mark.parametrize("error", RESOLVE_ERRORS)
def test_a_resolve_error_knows_the_name_and_the_servers(error: type[ResolveError]) -> None:
    raised = error("cannot resolve web", name="web.", servers=SERVERS)

    assert str(raised) == "cannot resolve web"
    assert raised.name == "web."
    assert raised.servers == SERVERS


@pytest.mark.parametrize("error", RESOLVE_ERRORS)
def test_a_resolve_error_without_a_query_has_neither(error: type[ResolveError]) -> None:
    assert error("cannot start").name == ""
    assert error("cannot start").servers == ()


@pytest.mark.parametrize("error", LEAVES)
def test_an_error_pickles_and_copies_with_all_it_knows(error: type[KnetError]) -> None:
    """
    An error crosses to another process as it is: a worker's failure can be shown by its parent.
    """
    raised = error("what happened")
    if isinstance(raised, ResolveError):
        raised = type(raised)("what happened", name="web.prod.", servers=SERVERS)

    for other in (pickle.loads(pickle.dumps(raised)), copy.copy(raised), copy.deepcopy(raised)):
        assert type(other) is error
        assert str(other) == "what happened"
        assert other.args == raised.args
        assert vars(other) == vars(raised)
