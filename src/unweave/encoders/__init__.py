"""Queries to vectors and tokens: the text side of every engine."""
