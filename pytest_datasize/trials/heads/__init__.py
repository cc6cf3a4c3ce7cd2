"""Softmax heads on embeddings, all heads of all trials trained as one batch."""
