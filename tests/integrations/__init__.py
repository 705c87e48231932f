"""
knet inside of real clients and servers, with pods that misbehave.
"""
