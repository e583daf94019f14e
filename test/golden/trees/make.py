"""Predictions of scikit-learn and LightGBM where the best tree is the only one: test/golden/trees/vectors.json.

    pip install numpy scikit-learn lightgbm && python test/golden/trees/make.py
"""
import json
import os

import lightgbm
import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor

random = np.random.default_rng(3)
ROWS, COLUMNS = 150, 3
# Whole numbers: thresholds halfway between them are the same everywhere.
x = random.permuted(np.tile(np.arange(ROWS), (COLUMNS, 1)), axis=1).T.astype(np.float32)
y = np.round(np.sin(x[:, 0] / 20) + (x[:, 1] > 60) * x[:, 2] / 90 + 0.2 * random.normal(size=ROWS), 6)
holes = x.copy()
holes[random.random(x.shape) < 0.2] = np.nan

LIGHT = dict(verbose=-1, max_bin=255, min_data_in_bin=1, min_child_weight=0, num_threads=1, deterministic=True,
             force_col_wise=True, enable_bundle=False, boost_from_average=True)
depth = lambda n: {"kind": "depth", "depth": n}
leaves = lambda n: {"kind": "leaf", "leaves": n}
cases = []


def case(name, model, features, settings, predict=lambda model, features: model.predict(features)):
    predicted = predict(model.fit(features, y), features)
    cases.append(dict(name=name, rows=ROWS, columns=COLUMNS, x=[None if np.isnan(v) else float(v) for v in features.ravel()],
                      y=y.tolist(), settings=settings, predicted=[round(float(v), 9) for v in predicted]))


def medians(model, features):
    """scikit-learn's own leaves take the lower of two middle residuals, ours and numpy their mean: its tree, numpy's medians."""
    start = np.median(y)
    leaf = model.estimators_[0, 0].apply(features)
    return np.array([start + 0.5 * np.median(y[leaf == at] - start) for at in leaf])


case("scikit-learn, exact", GradientBoostingRegressor(n_estimators=5, learning_rate=0.5, max_depth=3, min_samples_leaf=3),
     x, dict(trees=5, learningRate=0.5, growth=depth(3), leafRows=3))
case("scikit-learn, absolute", GradientBoostingRegressor(loss="absolute_error", n_estimators=1, learning_rate=0.5, max_depth=2,
                                                         min_samples_leaf=3),
     x, dict(trees=1, learningRate=0.5, growth=depth(2), leafRows=3, loss="absolute"),
     medians)
case("scikit-learn, histograms with missing values",
     HistGradientBoostingRegressor(max_iter=4, learning_rate=0.4, max_leaf_nodes=7, min_samples_leaf=5, l2_regularization=1.5,
                                   early_stopping=False),
     holes, dict(trees=4, learningRate=0.4, growth=leaves(7), leafRows=5, l2=1.5))
case("LightGBM", lightgbm.LGBMRegressor(n_estimators=4, learning_rate=0.4, num_leaves=7, min_child_samples=5, reg_lambda=1.5,
                                        **LIGHT),
     x, dict(trees=4, learningRate=0.4, growth=leaves(7), leafRows=5, l2=1.5))
case("LightGBM with missing values", lightgbm.LGBMRegressor(n_estimators=1, learning_rate=0.4, num_leaves=5, min_child_samples=5,
                                                            **LIGHT),
     holes, dict(trees=1, learningRate=0.4, growth=leaves(5), leafRows=5))
with open(os.path.join(os.path.dirname(__file__), "vectors.json"), "w") as file:
    json.dump(cases, file)
