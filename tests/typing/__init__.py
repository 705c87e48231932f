"""
What type checkers make of the public names: mypy and pyright read these files, and nothing runs them.
"""
