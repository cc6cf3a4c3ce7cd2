"""Transfer of a pretrained backbone: weights, embeddings, heads; each strategy is one module."""
