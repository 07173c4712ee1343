"""Split digits: five tasks of two classes from scikit-learn's 1,797 handwritten digits of 8 x 8 (UCI; no download).

The embedded default: small enough to try everything in a minute. Per class and seed, a random 60 % of the images are
for training, 10 % for validation and 30 % for the test; pixels are divided by 16.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class Digits(Benchmark):
    by_default = True
    scenarios = ("task-il", "class-il")
    num_tasks = 5
    num_classes = 2
    input_shape = (1, 8, 8)
    backbone = "convnet"

    def stream(self, seed: int, data: Path) -> list[Task]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        learn, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=seed)
        train, validation = train_test_split(learn, test_size=1 / 7, stratify=labels[learn], random_state=seed)

        def split(chosen: np.ndarray, t: int) -> Split:
            own = chosen[labels[chosen] // 2 == t]
            return Split(x[own], labels[own].astype(np.int64) % 2)

        return [
            Task(t, (str(2 * t), str(2 * t + 1)), split(train, t), split(validation, t), split(test, t))
            for t in range(self.num_tasks)
        ]
