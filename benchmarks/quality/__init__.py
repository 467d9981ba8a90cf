"""The ranking of recall over conversations in memory, with any part of it taken away."""
