"""
Consistent hashing, usable with no Kubernetes in sight.
"""

from knet.hashring.hashing import hash_key
from knet.hashring.placement import Member, Placement, Sliced
from knet.hashring.ring import HashRing
from knet.hashring.tree import BintreesTree, NodeTree, Tree, TreeRing

__all__ = [
    "BintreesTree",
    "HashRing",
    "Member",
    "NodeTree",
    "Placement",
    "Sliced",
    "Tree",
    "TreeRing",
    "hash_key",
]
