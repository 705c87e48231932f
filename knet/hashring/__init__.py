"""
Consistent hashing, usable with no Kubernetes in sight.
"""

from knet.hashring.hash_ring import HashRing
from knet.hashring.hashing import hash_key
from knet.hashring.maglev import Maglev
from knet.hashring.placement import Member, Placement, Sliced
from knet.hashring.rendezvous import Rendezvous
from knet.hashring.tree import BintreesTree, NodeTree, Tree, TreePlacement, TreeRing

__all__ = [
    "BintreesTree",
    "HashRing",
    "Maglev",
    "Member",
    "NodeTree",
    "Placement",
    "Rendezvous",
    "Sliced",
    "Tree",
    "TreePlacement",
    "TreeRing",
    "hash_key",
]
