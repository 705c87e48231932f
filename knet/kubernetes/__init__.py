"""
The EndpointSlices of Kubernetes as a source that tells. The extra `kubernetes`.
"""

from __future__ import annotations

from knet.kubernetes.source import EndpointSlices

__all__ = ["EndpointSlices"]
