"""Numbers for estimates. Every one says what it means where it means nothing."""
