"""Converts a TreeEnsembleClassifier of ONNX to an XGBoost model, in XGBoost's documented JSON."""

import json
from collections import defaultdict


def text(mode):
    return mode.decode() if isinstance(mode, bytes) else mode


def booster(ensemble, features):
    """The JSON document. As in XGBoost, each tree adds to one class, and x < threshold goes left."""
    trees = defaultdict(dict)
    fields = ("nodeids", "featureids", "values", "truenodeids", "falsenodeids", "modes")
    columns = [ensemble[f"nodes_{field}"] for field in fields]
    for tree, node, *rest in zip(ensemble["nodes_treeids"], *columns, strict=True):
        trees[tree][node] = rest
    leaves, classes = {}, {}
    names = ("treeids", "nodeids", "ids", "weights")
    for tree, node, label, weight in zip(*(ensemble[f"class_{name}"] for name in names), strict=True):
        leaves[tree, node], classes[tree] = weight, label
    count = len(ensemble["classlabels_int64s"])
    # Trees are ordered in rounds: the n-th tree of every class together.
    turn, seen = {}, defaultdict(int)
    for tree in sorted(trees):
        turn[tree] = (seen[classes[tree]], classes[tree])
        seen[classes[tree]] += 1
    order = sorted(trees, key=turn.get)
    # The base score of a class is added to the leaves of its first tree. Newer versions of XGBoost have one
        # base score per class, but the version that Concrete ML needs has one for all.
    for label, base in enumerate(ensemble.get("base_values", [])):
        first = next(tree for tree in order if classes[tree] == label)
        for node, (*_, mode) in trees[first].items():
            if text(mode) == "LEAF":
                leaves[first, node] = leaves.get((first, node), 0.0) + base
    documents = [document(index, trees[tree], leaves, tree, features) for index, tree in enumerate(order)]
    return json.dumps({
        "version": [1, 6, 2],
        "learner": {
            "attributes": {"scikit_learn": json.dumps({
                "n_classes_": count, "classes_": list(range(count)), "_estimator_type": "classifier",
            })},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "name": "gbtree",
                "model": {
                    "gbtree_model_param": {
                        "num_trees": str(len(order)), "num_parallel_tree": "1", "size_leaf_vector": "0",
                    },
                    "tree_info": [classes[tree] for tree in order],
                    "trees": documents,
                },
            },
            "learner_model_param": {
                "base_score": "0.5", "num_class": str(count), "num_feature": str(features), "num_target": "1",
            },
            "objective": {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(count)}},
        },
    })  # fmt: skip


def document(index, nodes, leaves, tree, features):
    """One tree. Children are renumbered level by level."""
    order, parents = [min(nodes)], [2147483647]
    left, right = [], []
    for position, node in enumerate(order):
        _, _, yes, no, mode = nodes[node]
        if text(mode) == "LEAF":
            left.append(-1), right.append(-1)
            continue
        if text(mode) != "BRANCH_LT":
            raise ValueError(f"expected BRANCH_LT as in XGBoost's trees, found {text(mode)}")
        left.append(len(order)), right.append(len(order) + 1)
        order += [yes, no]
        parents += [position, position]
    inner = [child >= 0 for child in left]
    splits = [
        float(nodes[node][1]) if branch else float(leaves.get((tree, node), 0.0))
        for node, branch in zip(order, inner)
    ]
    size = len(order)
    return {
        "id": index,
        "tree_param": {
            "num_nodes": str(size), "num_deleted": "0", "num_feature": str(features), "size_leaf_vector": "0",
        },
        "left_children": left,
        "right_children": right,
        "parents": parents,
        "split_indices": [nodes[node][0] if branch else 0 for node, branch in zip(order, inner)],
        "split_conditions": splits,
        "split_type": [0] * size,
        "default_left": [False] * size,
        "base_weights": [0.0] * size,
        "loss_changes": [0.0] * size,
        "sum_hessian": [1.0] * size,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
    }  # fmt: skip
