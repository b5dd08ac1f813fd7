"""Hear, ask, check, write: engines made ready for real recordings."""
