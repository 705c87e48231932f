"""
The EndpointSlices of Kubernetes as a source.
"""
