"""Networks: tensors to tensors. Each file is one architecture, its config and its own blocks."""
