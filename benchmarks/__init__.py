"""Measure the service against the limits of the machine: `python -m benchmarks`.

Every figure is compared with a limit measured in the same run, in alternating rounds: machines
differ and are shared, but ratios are comparable. docs/benchmarks.md explains each line.
"""
