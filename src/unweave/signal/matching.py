"""Which estimate answers which reference, when their order means nothing."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from unweave.errors import UsageError

_UNBOUNDED = 1e6  # stands for an infinite score, so that it can be added up


def match(
    estimates: Tensor, references: Tensor, metric: Callable[[Tensor, Tensor], Tensor]
) -> tuple[int, ...]:
    """For every reference, the estimate that answers it, so that the scores sum to the most.

    Args:
        estimates: (Q2, ..., T), Q2 >= Q.
        references: (Q, ..., T).
        metric: estimate, reference -> scores, higher is better; more than one number is averaged.

    Returns:
        Q indices: ``estimates[list(match(...))]`` is in the order of the references.

    Raises:
        UsageError: fewer estimates than references, or a score that is not a number.

    >>> tones = torch.eye(3)
    >>> match(tones[[2, 0, 1]], tones, lambda estimate, reference: (estimate * reference).sum(-1))
    (1, 2, 0)
    """
    scores = torch.stack(
        [
            torch.stack([metric(estimate, reference).mean() for estimate in estimates])
            for reference in references
        ]
    )
    return assign(scores)


def assign(scores: Tensor) -> tuple[int, ...]:
    """Choose one column for each row, no column twice, so that the chosen scores sum to the most.

    Exact, in O(rows^2 * columns): the shortest augmenting paths of the Hungarian method (Munkres 1957;
    Jonker and Volgenant 1987).

    Args:
        scores: (R, K), K >= R; infinite scores are allowed.

    Returns:
        R distinct columns.

    Raises:
        UsageError: fewer columns than rows, or NaN.

    >>> assign(torch.tensor([[9.0, 8.0], [9.0, 1.0]]))
    (1, 0)
    """
    if scores.ndim != 2 or scores.shape[0] > scores.shape[1]:
        raise UsageError(f"scores are (rows, columns) with a column for every row, got {tuple(scores.shape)}")
    if scores.isnan().any():
        raise UsageError(
            "a score is NaN, so no assignment is best; leave silent references out before matching"
        )
    cost = (-scores.double()).clamp(-_UNBOUNDED, _UNBOUNDED).tolist()
    rows, columns = scores.shape
    row_price, column_price = [0.0] * rows, [0.0] * (columns + 1)
    taken_by = [-1] * (columns + 1)  # row of each column; the extra last column holds the row to be placed
    for row in range(rows):
        taken_by[columns] = row
        column, came_from = _shortest_path(cost, taken_by, row_price, column_price)
        while column != columns:  # hand every column on the path to the row before it
            taken_by[column] = taken_by[came_from[column]]
            column = came_from[column]
    chosen = {taken_by[column]: column for column in range(columns)}
    return tuple(chosen[row] for row in range(rows))


@functools.cache
def sharings(estimates: int, references: int) -> Tensor:
    """Every way to give each estimate to one reference: the mixing matrices of mixture invariant training.

    Wisdom et al., "Unsupervised Sound Separation Using Mixture Invariant Training", NeurIPS 2020, equation
    3. A reference may get several estimates, or none.

    Args:
        estimates: M, how many there are.
        references: K, how many there are.

    Returns:
        (K ** M, K, M) of 0 and 1; a column of each matrix has a single 1.

    >>> sharings(2, 2)[:, 0].tolist()
    [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    # A table that was first made under inference mode would break every later backward pass.
    with torch.inference_mode(False):
        owners = torch.cartesian_prod(*[torch.arange(references)] * estimates).view(-1, estimates)
        return (owners[:, None] == torch.arange(references)[:, None]).float()


def _shortest_path(
    cost: list[list[float]], taken_by: list[int], row_price: list[float], column_price: list[float]
) -> tuple[int, list[int]]:
    """Walk from the row in the last column to a free column by the cheapest swaps; prices are updated.

    Returns the free column, and for every column the one before it on the path.
    """
    columns = len(taken_by) - 1
    came_from, distance, seen = [columns] * columns, [float("inf")] * columns, [columns]
    open_columns = set(range(columns))
    column = columns
    while taken_by[column] != -1:
        row = taken_by[column]
        for other in open_columns:
            reduced = cost[row][other] - row_price[row] - column_price[other]
            if reduced < distance[other]:
                distance[other], came_from[other] = reduced, column
        nearest = min(open_columns, key=distance.__getitem__)
        step = distance[nearest]
        for passed in seen:
            row_price[taken_by[passed]] += step
            column_price[passed] -= step
        for other in open_columns:
            distance[other] -= step
        open_columns.discard(nearest)
        seen.append(nearest)
        column = nearest
    return column, came_from
