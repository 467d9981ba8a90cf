"""Programs that run others' stores beside this service, for `benchmarks.dropin`.

They run in the environment of requirements/comparison.txt and print one JSON object.
"""
