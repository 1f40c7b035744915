"""Hooks of an application: asked at every door, in time, in order, and whatever they do."""
