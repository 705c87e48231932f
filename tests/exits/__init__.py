"""
Programs that end carelessly, and processes that fork, with a ring that is open.
"""
