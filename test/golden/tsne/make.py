"""Golden vectors of t-SNE from scikit-learn's exact functions: python make.py > vectors.json

60 points in 5 dimensions, three of them equal: their joint affinities at perplexity 10 (scikit-learn's bisection ends where the
entropy is within 1e-5), then, with these rounded to 32 bits, KL divergence and gradient at two random embeddings.
"""
import json
import sys

import numpy as np
import sklearn
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold._t_sne import _joint_probabilities, _kl_divergence

random = np.random.default_rng(4)
points = random.normal(size=(60, 5)).astype(np.float32)
points[7] = points[3]
points[8] = points[3]
distances = squareform(pdist(points.astype(np.float64), "sqeuclidean")).astype(np.float32)
joint = _joint_probabilities(distances, 10.0, 0)
rounded = joint.astype(np.float32).astype(np.float64)
embeddings = []
for dimensions in (2, 3):
    y = random.normal(scale=2, size=(60, dimensions)).astype(np.float32)
    divergence, gradient = _kl_divergence(y.astype(np.float64).ravel(), rounded, 1, 60, dimensions)
    embeddings.append(
        {"dimensions": dimensions, "y": y.ravel().tolist(), "divergence": divergence, "gradient": gradient.tolist()}
    )
json.dump(
    {
        "sklearn": sklearn.__version__,
        "perplexity": 10,
        "dims": 5,
        "points": points.ravel().tolist(),
        "joint": squareform(joint).ravel().tolist(),
        "embeddings": embeddings,
    },
    sys.stdout,
)
