"""Metrics against answers worked out by hand, and the identities that hold for every matrix."""

import numpy as np
import pytest

from bench import metrics

R = np.array([[90, 20, 10], [80, 85, 30], [70, 88, 95]]) / 100


@pytest.mark.parametrize(
    ("value", "percent"),
    [
        (metrics.acc(R), 84.333333),
        (metrics.bwt(R), -8.5),
        (metrics.learning_accuracy(R), 90),
        (metrics.forward_transfer(R, np.full(3, 0.10)), 15),
        (metrics.forgetting(R), 8.5),
        (metrics.forgetting(R, include_last=True), 10),
        (metrics.intransigence(R, np.array([0.92, 0.90, 0.96])), 2.666667),
        (metrics.average_incremental_accuracy(R), 85.611111),
    ],
)
def test_a_matrix_of_three_tasks_worked_out_by_hand(value: float, percent: float) -> None:
    assert 100 * value == pytest.approx(percent, abs=1e-6)


@pytest.mark.parametrize("T", [2, 3, 10])
def test_identities_on_random_matrices(T: int) -> None:
    R = np.random.default_rng(T).random((T, T))
    assert metrics.acc(R) == pytest.approx(metrics.learning_accuracy(R) + metrics.bwt(R) * (T - 1) / T)
    assert metrics.forgetting(R) >= -metrics.bwt(R)  # the best past accuracy is at least the one when just learnt
    assert metrics.forgetting(R, include_last=True) >= max(0, metrics.forgetting(R))


def test_future_tasks_do_not_count() -> None:
    masked = np.where(np.tri(3, dtype=bool), R, np.nan)
    for metric in (metrics.acc, metrics.bwt, metrics.learning_accuracy, metrics.forgetting):
        assert metric(masked) == metric(R)
    assert metrics.average_incremental_accuracy(masked) == metrics.average_incremental_accuracy(R)


def test_what_cannot_be_computed_is_nan() -> None:
    single = np.array([[0.9]])
    undefined = (metrics.bwt(single), metrics.forgetting(single), metrics.forward_transfer(single, np.zeros(1)))
    assert np.isnan(undefined).all()
    assert metrics.acc(single) == metrics.learning_accuracy(single) == 0.9
    only_last = np.array([[np.nan, np.nan], [0.8, 0.9]])  # joint training measures once
    assert metrics.acc(only_last) == pytest.approx(0.85)
    assert np.isnan([metrics.bwt(only_last), metrics.forgetting(only_last)]).all()


def test_average_incremental_accuracy_counts_images_where_it_is_over_all_classes():
    """By hand: after the first task 8 of 10 images are right, after the second 8 of these and 18 of 30 others."""
    assert metrics.mean_seen_accuracy([0.8, 26 / 40]) == pytest.approx(0.725)
    assert np.isnan(metrics.mean_seen_accuracy([]))


def test_confusion_of_tasks_in_numbers():
    tasks, guesses = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 2, 1, 0, 0])
    assert metrics.confusion_of_tasks(tasks, guesses, 3) == [[0.75, 0, 0.25], [0.5, 0.5, 0], [1, 0, 0]]
