"""Where examples come from: manifests of labelled clips, shards of them, and mixtures drawn from either."""
