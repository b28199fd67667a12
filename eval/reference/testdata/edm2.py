"""Writes edm2.pkl: statistics as the metrics of EDM2 keep them, of three features of four pictures."""

import pickle
from pathlib import Path

import numpy as np

x = np.array([[1, 2, 3], [2, 2, 5], [4, 0, 1], [1, 1, 1]], np.float64)
stats = {"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)}
other = {"mu": np.zeros(2), "sigma": np.eye(2)}
Path(__file__).with_suffix(".pkl").write_bytes(pickle.dumps({"num_images": len(x), "fd_dinov2": other, "fid": stats}, protocol=4))
