"""Trains small tree models of every kind on scikit-learn's data sets and exports them to ONNX.

    python train.py [--out FOLDER] [--digits FOLDER] [--seed 1]

Every model takes raw features as float32 of shape [batch, features]. For each data set the script
writes held-out rows, their labels or targets, and calibration rows; for each model, the results of
onnxruntime for the held-out rows: a classifier's probabilities, a regressor's prediction. `--digits` is
the folder for xgboost.onnx, which is trained on the split that digits/train.py made there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxmltools
import skl2onnx
from onnxmltools.convert.common.data_types import FloatTensorType as BoostedFloats
from skl2onnx.common.data_types import FloatTensorType
from sklearn import datasets, ensemble, tree
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier, XGBRegressor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import robust  # noqa: E402

CALIBRATION, EXPECTED = 120, 100


def models(seed):
    """The models of each data set; the files are called TABLE-MODEL.onnx."""
    boosted = {"n_estimators": 20, "max_depth": 3, "random_state": seed}
    return {
        "cancer": {
            "tree": tree.DecisionTreeClassifier(max_depth=4, random_state=seed),
            "boost": ensemble.GradientBoostingClassifier(**boosted, learning_rate=0.3),
            "hist": ensemble.HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8, random_state=seed),
            "xgboost": XGBClassifier(**boosted),
        },
        "wine": {
            "forest": ensemble.RandomForestClassifier(n_estimators=10, max_depth=4, random_state=seed),
            "hist": ensemble.HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=6, random_state=seed),
        },
        "diabetes": {
            "tree": tree.DecisionTreeRegressor(max_depth=3, min_samples_leaf=8, random_state=seed),
            "tree6": tree.DecisionTreeRegressor(max_depth=6, min_samples_leaf=4, random_state=seed),
            "forest": ensemble.RandomForestRegressor(n_estimators=10, max_depth=5, random_state=seed),
            "boost": ensemble.GradientBoostingRegressor(**boosted, learning_rate=0.1),
            "xgboost": XGBRegressor(**boosted, learning_rate=0.1),
        },
    }


def tables():
    """Features and labels (or targets) of each data set. The diabetes features are not scaled."""
    return {
        "cancer": datasets.load_breast_cancer(return_X_y=True),
        "wine": datasets.load_wine(return_X_y=True),
        "diabetes": datasets.load_diabetes(return_X_y=True, scaled=False),
    }


def export(model, features, path):
    """Writes `model` to `path`; a classifier's probabilities are one tensor, not a ZipMap."""
    if isinstance(model, (XGBClassifier, XGBRegressor)):
        proto = onnxmltools.convert_xgboost(
            model, path.stem, [("input", BoostedFloats([None, features]))], target_opset=15
        )
    else:
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        inputs = [("input", FloatTensorType([None, features]))]
        proto = skl2onnx.convert_sklearn(model, path.stem, inputs, options=options, target_opset=17)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def describe(model, path, rows, labels):
    """Prints the accuracy of the file in onnxruntime, and its difference from the library's own results."""
    proto, got = onnx.load(path), robust.scores(path, rows)
    trees = sum(
        len(set(a.ints)) for n in proto.graph.node for a in n.attribute if a.name == "nodes_treeids"
    )
    if hasattr(model, "predict_proba"):
        own, quality = model.predict_proba(rows), f"{100 * np.mean(got.argmax(1) == labels):.2f} %"
    else:
        own, quality = model.predict(rows)[:, None], f"R2 {r2_score(labels, got):.3f}"
    away = np.max(np.abs(own - got))
    operators = " ".join(node.op_type for node in proto.graph.node)
    print(f"{path.name}: {path.stat().st_size} bytes, {operators}, {trees} trees; "
          f"onnxruntime {quality}, at most {away:.1e} from the library")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--digits", type=Path, default=HERE.parent / "digits", help="folder for the digits' model")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    kinds = models(args.seed)
    for table, (features, labels) in tables().items():
        classes = table != "diabetes"
        features = features.astype(np.float32)
        labels = labels.astype(np.int64 if classes else np.float32)
        train_rows, test_rows, train_labels, test_labels = train_test_split(
            features, labels, test_size=0.25, stratify=labels if classes else None, random_state=args.seed
        )
        np.save(args.out / f"{table}-rows.npy", test_rows)
        np.save(args.out / f"{table}-labels.npy", test_labels)
        np.save(args.out / f"{table}-calibration.npy", train_rows[:CALIBRATION])
        for name, model in kinds[table].items():
            path = args.out / f"{table}-{name}.onnx"
            export(model.fit(train_rows, train_labels), features.shape[1], path)
            describe(model, path, test_rows, test_labels)
            np.save(args.out / f"expected-{table}-{name}.npy", robust.scores(path, test_rows))

    # The digits, with the split of digits/train.py.
    images, labels = datasets.load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images.astype(np.float32), labels, test_size=360, stratify=labels, random_state=args.seed
    )
    model = XGBClassifier(n_estimators=10, max_depth=3, random_state=args.seed)
    path = args.digits / "xgboost.onnx"
    export(model.fit(train_images, train_labels), 64, path)
    describe(model, path, test_images, test_labels)
    np.save(args.digits / "expected-xgboost.npy", robust.scores(path, test_images[:EXPECTED]))


if __name__ == "__main__":
    main()
