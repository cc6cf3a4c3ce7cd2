"""What the labels of images are, beside one class per image: sets, numbers, boxes and masks."""
