"""What the service costs beside what this machine could do at best: `python -m benchmarks`.

Every figure is held against a limit measured in the same run, turn by turn with it: machines differ
and are shared, ratios travel. docs/benchmarks.md says what each line means.
"""
