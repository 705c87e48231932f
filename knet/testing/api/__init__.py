"""
The other voice of the headless Service in a box: the API of Kubernetes, as far as EndpointSlices go.
"""
