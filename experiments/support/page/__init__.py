"""The report as one page: claims beside the paper's, figures, interactive frontiers, episodes, manifests."""
