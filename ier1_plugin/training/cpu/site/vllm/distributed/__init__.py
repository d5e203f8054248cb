"""Stand-in: only `parallel_state`."""
