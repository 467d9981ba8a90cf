"""What the service does, as pure steps and a short orchestrator each; leans on ports alone."""
