"""Compute embeddings of images: weights, backbone, device, precision, and the forward pass."""
