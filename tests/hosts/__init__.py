"""
knet where its users are: the examples of `docs/hosting.md`, each with the framework it is for.
"""
