"""
The soak: rings in bad weather for hours, and what they hold of their host all the while.

    python -m tests.soak [--brief] [--seed 7] [--loop trio] [--part real]

`virtual` has rings of several placements on scripted servers for days of virtual time; `real` has
dozens of rings on the c-ares engine against `HeadlessService`s whose faults go on and off at random.
"""
