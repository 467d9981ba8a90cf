"""Run claimed jobs, and control the queue."""
