"""
knet inside of clients and servers: extras, each in a module of its own name, by knet's public names only.
"""
