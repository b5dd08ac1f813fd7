"""Where examples come from: manifests of labelled clips, and mixtures drawn from them."""
