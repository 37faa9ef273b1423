"""Handwritten digits: real data, several kinds of models, the best of them trained and judged.

The data comes with scikit-learn: 1,797 pictures of 8 by 8 pixels. Compile with

    kfp dsl compile --py pipeline.py --output pipeline.yaml

or let `kubeflow pipeline run pipeline.py --wait` do it.
"""

from typing import Dict, List

from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

PACKAGES = ["scikit-learn==1.7.2"]
IMAGE = "python:3.11"


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def load_digits(digits: Output[Dataset]) -> int:
    """Writes the pictures and what they show as a CSV file; returns how many there are."""
    from sklearn.datasets import load_digits as load

    data = load(as_frame=False)
    with open(digits.path, "w") as file:
        file.write(",".join([f"p{i}" for i in range(64)] + ["digit"]) + "\n")
        for pixels, digit in zip(data.data, data.target):
            file.write(",".join(f"{value:g}" for value in pixels) + f",{digit}\n")
    digits.metadata["rows"] = len(data.target)
    digits.metadata["source"] = "sklearn.datasets.load_digits"
    print(f"{len(data.target)} pictures of {len(set(data.target))} digits")
    return len(data.target)


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def split(digits: Input[Dataset], train: Output[Dataset], test: Output[Dataset], test_share: float = 0.25, seed: int = 7):
    """Splits the data so that each digit keeps its share on both sides."""
    from sklearn.model_selection import train_test_split

    with open(digits.path) as file:
        header, *rows = file.read().splitlines()
    left, right = train_test_split(
        rows, test_size=test_share, random_state=seed, stratify=[row.rsplit(",", 1)[1] for row in rows]
    )
    for output, part in ((train, left), (test, right)):
        with open(output.path, "w") as file:
            file.write("\n".join([header, *part]) + "\n")
        output.metadata["rows"] = len(part)
    print(f"{len(left)} pictures to train on, {len(right)} to test on")


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def train_candidate(train: Input[Dataset], candidate: Dict[str, str], folds: int = 3, seed: int = 7) -> Dict[str, str]:
    """Scores one kind of model by cross-validation on the training data."""
    import time

    import numpy
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    kinds = {
        "logistic": lambda c: make_pipeline(StandardScaler(), LogisticRegression(C=float(c), max_iter=500)),
        "neighbours": lambda k: KNeighborsClassifier(n_neighbors=int(k)),
        "forest": lambda trees: RandomForestClassifier(n_estimators=int(trees), random_state=seed),
        "svc": lambda c: SVC(C=float(c), gamma="scale"),
    }
    data = numpy.loadtxt(train.path, delimiter=",", skiprows=1)
    model = kinds[candidate["kind"]](candidate["setting"])
    started = time.time()
    scores = cross_val_score(model, data[:, :-1], data[:, -1].astype(int), cv=folds)
    print(f"{candidate['kind']}({candidate['setting']}): {scores.mean():.4f} ± {scores.std():.4f}")
    return {**candidate, "score": f"{scores.mean():.6f}", "seconds": f"{time.time() - started:.2f}"}


@dsl.component(base_image=IMAGE)
def choose(scores: List[Dict[str, str]], report: Output[Markdown]) -> Dict[str, str]:
    """Picks the candidate with the best score and writes down how all of them did."""
    ranked = sorted(scores, key=lambda one: -float(one["score"]))
    lines = ["# Candidates", "", "| kind | setting | score | seconds |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {one['kind']} | {one['setting']} | {float(one['score']):.4f} | {one['seconds']} |" for one in ranked]
    lines += ["", f"**{ranked[0]['kind']}** with setting {ranked[0]['setting']} is trained on all of the training data.", ""]
    with open(report.path, "w") as file:
        file.write("\n".join(lines))
    print(f"best: {ranked[0]}")
    return ranked[0]


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def train_best(train: Input[Dataset], best: Dict[str, str], model: Output[Model], seed: int = 7):
    """Trains the chosen kind of model on all of the training data."""
    import pickle

    import numpy
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    setting = best["setting"]
    trained = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=float(setting), max_iter=500)),
        "neighbours": lambda: KNeighborsClassifier(n_neighbors=int(setting)),
        "forest": lambda: RandomForestClassifier(n_estimators=int(setting), random_state=seed),
        "svc": lambda: SVC(C=float(setting), gamma="scale"),
    }[best["kind"]]()
    data = numpy.loadtxt(train.path, delimiter=",", skiprows=1)
    trained.fit(data[:, :-1], data[:, -1].astype(int))
    with open(model.path, "wb") as file:
        pickle.dump(trained, file)
    model.metadata.update({"framework": "scikit-learn", "kind": best["kind"], "setting": setting})


@dsl.component(base_image=IMAGE, packages_to_install=PACKAGES)
def evaluate(
    model: Input[Model],
    test: Input[Dataset],
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    roc: Output[ClassificationMetrics],
    report: Output[Markdown],
) -> float:
    """Judges the model on pictures that it has never seen."""
    import pickle

    import numpy
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_curve

    data = numpy.loadtxt(test.path, delimiter=",", skiprows=1)
    pixels, digits = data[:, :-1], data[:, -1].astype(int)
    with open(model.path, "rb") as file:
        trained = pickle.load(file)
    guessed = trained.predict(pixels)
    accuracy = float(accuracy_score(digits, guessed))
    metrics.log_metric("accuracy", round(accuracy, 6))
    metrics.log_metric("f1_macro", round(float(f1_score(digits, guessed, average="macro")), 6))
    metrics.log_metric("test_rows", len(digits))
    names = [str(digit) for digit in range(10)]
    confusion.log_confusion_matrix(names, confusion_matrix(digits, guessed, labels=range(10)).tolist())
    # One curve for all: how sure the model is of each guess, against whether the guess is right.
    scores = trained.decision_function(pixels) if hasattr(trained, "decision_function") else trained.predict_proba(pixels)
    right = numpy.eye(10)[digits].ravel()
    false_positive, true_positive, threshold = roc_curve(right, scores.ravel())
    keep = numpy.unique(numpy.linspace(0, len(threshold) - 1, 60).astype(int))
    finite = numpy.nan_to_num(threshold, posinf=float(scores.max()) + 1)
    roc.log_roc_curve(false_positive[keep].tolist(), true_positive[keep].tolist(), finite[keep].tolist())
    wrong = [(int(a), int(b)) for a, b in zip(digits, guessed) if a != b]
    lines = [
        "# Digits",
        "",
        f"The model reads **{accuracy:.1%}** of {len(digits)} pictures right that it has never seen.",
        "",
        f"It is wrong about {len(wrong)} of them:" if wrong else "It is wrong about none of them.",
        "",
        *[f"- a {a} taken for a {b}" for a, b in sorted(wrong)],
        "",
    ]
    with open(report.path, "w") as file:
        file.write("\n".join(lines))
    print(f"accuracy {accuracy:.4f}")
    return accuracy


@dsl.pipeline(name="digits", description="Reads handwritten digits: four kinds of models compared, the best one trained and judged")
def digits_pipeline(
    test_share: float = 0.25,
    folds: int = 3,
    seed: int = 7,
    candidates: List[Dict[str, str]] = [
        {"kind": "logistic", "setting": "0.1"},
        {"kind": "neighbours", "setting": "3"},
        {"kind": "forest", "setting": "120"},
        {"kind": "svc", "setting": "1"},
        {"kind": "svc", "setting": "10"},
    ],
) -> float:
    data = load_digits()
    parts = split(digits=data.outputs["digits"], test_share=test_share, seed=seed)
    with dsl.ParallelFor(candidates, parallelism=2) as candidate:
        scored = train_candidate(train=parts.outputs["train"], candidate=candidate, folds=folds, seed=seed)
    chosen = choose(scores=dsl.Collected(scored.output))
    best = train_best(train=parts.outputs["train"], best=chosen.outputs["Output"], seed=seed)
    judged = evaluate(model=best.outputs["model"], test=parts.outputs["test"])
    return judged.outputs["Output"]
