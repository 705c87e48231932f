"""
A real control plane of Kubernetes on loopback, built from Go modules.
"""
