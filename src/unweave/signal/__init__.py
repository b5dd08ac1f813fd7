"""Tensors to tensors: everything about sound that needs neither a file nor a network."""
