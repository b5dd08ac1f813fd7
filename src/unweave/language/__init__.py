"""From words to queries: what is known of how things sound."""
