"""Makes resample.json: what scikit-image and SciPy give for the resampling that nnU-Net does.

Run: python resample.py > resample.json   (scikit-image 0.26.0, scipy 1.17.1)
"""

import json

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.transform import resize

SHAPE = (4, 5, 6)


def cubic(data, shape):
    return resize(data, shape, 3, mode="edge", anti_aliasing=False)


def linear(data, shape):
    return resize(data, shape, 1, mode="edge", anti_aliasing=False)


def separate(data, axis, shape):
    """Cubic in the plane, nearest across it."""
    slices = np.moveaxis(data, axis, 0)
    plane = [n for i, n in enumerate(shape) if i != axis]
    resized = np.stack([cubic(s, plane) for s in slices])
    coordinates = np.array(np.mgrid[: shape[axis], : plane[0], : plane[1]], dtype=float)
    coordinates[0] = len(slices) / shape[axis] * (coordinates[0] + 0.5) - 0.5
    return np.moveaxis(map_coordinates(resized, coordinates, order=0, mode="nearest"), 0, axis)


def labels(data, shape):
    out = np.zeros(shape, int)
    for label in np.unique(data):
        out[linear((data == label).astype(float), shape) >= 0.5] = label
    return out


def main():
    image = np.array([(i * 7919 % 101) / 10 - 5 for i in range(np.prod(SHAPE))]).reshape(SHAPE)
    blocks = np.zeros(SHAPE, int)
    blocks[1:3, 1:4, 1:4] = 1
    blocks[2:4, 2:5, 3:6] = 2
    results = {
        "image": image,
        "labels": blocks,
        "cubic_6_4_9": cubic(image, (6, 4, 9)),
        "cubic_2_5_13": cubic(image, (2, 5, 13)),
        "linear_7_4_9": linear(image, (7, 4, 9)),
        "separate_1_to_6_9_4": separate(image, 1, (6, 9, 4)),
        "separate_0_to_3_7_6": separate(image, 0, (3, 7, 6)),
        "labels_7_4_9": labels(blocks, (7, 4, 9)),
        "labels_3_8_5": labels(blocks, (3, 8, 5)),
    }
    numbers = {name: np.round(value, 7).ravel().tolist() for name, value in results.items()}
    print("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in numbers.items()) + "\n}")


main()
