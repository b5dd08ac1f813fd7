"""One file per trained model: what it learns from a batch, and how it is put together."""
