"""Recordings heard: what is in them, when, and how sure."""
