"""The worker process: claims jobs, runs them side by side, stops without losing any."""
