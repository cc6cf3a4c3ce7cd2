"""From images to embeddings: weights, backbone, device, precision, and one pass over the images."""
