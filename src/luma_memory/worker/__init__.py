"""The worker process: claims jobs, runs them concurrently and stops without losing any."""
