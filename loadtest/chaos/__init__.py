"""Faults at random while people talk, and the proof that nobody lost anything."""
