"""Embeddings of a new vocabulary from those of the old one: FOCUS (Dobler and de Melo, EMNLP 2023, arXiv 2305.14481).

A token that both vocabularies have keeps its row. Any other becomes a sparse convex combination of rows of shared tokens:
sparsemax (Martins and Astudillo, ICML 2016, arXiv 1602.02068) of its cosine similarities to them in an auxiliary space.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from nemo_plugins.configs.schema import Start

BLOCK = 256  # new tokens whose similarities to all shared ones are in memory at once


def sparsemax(scores: np.ndarray) -> np.ndarray:
    """The point of the probability simplex closest to each row of `scores`, [n, k] (arXiv 1602.02068, algorithm 1)."""
    ranked = -np.sort(-scores, axis=1)
    sums = np.cumsum(ranked, axis=1) - 1
    ranks = np.arange(1, scores.shape[1] + 1)
    support = np.count_nonzero(ranked * ranks > sums, axis=1)
    threshold = sums[np.arange(len(scores)), support - 1] / support
    return np.maximum(scores - threshold[:, None], 0)


def mixtures(space: np.ndarray, shared: dict[int, int], new: list[int], old_size: int) -> sparse.csr_matrix:
    """Weights of old tokens in each of the tokens `new`, [n, v_old]; rows sum to 1, a row of zeros where nothing is known.

    Args:
        space: unit vectors of the new vocabulary, [v_new, d]; zeros where a token has none.
        shared: old ids by new ids of the tokens that both have.
    """
    known = [number for number in sorted(shared) if space[number].any()]
    if not known or not new:
        return sparse.csr_matrix((len(new), old_size), dtype=np.float32)
    anchors, columns = space[known], np.array([shared[number] for number in known])
    blocks = []
    for start in range(0, len(new), BLOCK):
        vectors = space[new[start : start + BLOCK]]
        weights = sparse.coo_matrix(sparsemax(vectors @ anchors.T) * vectors.any(1, keepdims=True))
        blocks.append(sparse.csr_matrix((weights.data, (weights.row, columns[weights.col])), shape=(len(vectors), old_size)))
    return sparse.vstack(blocks, format="csr").astype(np.float32)


def rows(
    old: torch.Tensor,
    old_size: int,
    size: int,
    shared: dict[int, int],
    new: list[int],
    weights: sparse.csr_matrix | None,
    kind: Start,
    padding: int | None,
    seed: int = 0,
) -> torch.Tensor:
    """The matrix of the new vocabulary, [size, h] in the old one's type; input and output matrices alike.

    Args:
        old: [rows, h]; the first `old_size` are of tokens.
        size: rows wanted; those that are neither in `shared` nor in `new` are padding, which no text has.
        weights: of `mixtures`, for `new`; with `focus` only.
        kind: what a token of `new` starts from. `mean` is that of the old rows, `random` a normal distribution with their mean
            and standard deviation in each dimension, and `focus` falls back to `mean` where a token has no weights.
        padding: old id that padding copies; None: the mean.
    """
    table = old.float()
    used = table[:old_size]
    mean = used.mean(0)
    matrix = (mean if padding is None else table[padding]).repeat(size, 1)
    matrix[list(shared)] = table[list(shared.values())]
    if kind is Start.random:
        generator = torch.Generator().manual_seed(seed)
        matrix[new] = mean + used.std(0) * torch.randn(len(new), table.shape[1], generator=generator)
    elif kind is Start.mean or weights is None:
        matrix[new] = mean
    else:
        mixed = torch.from_numpy(np.asarray(weights @ table.numpy()))
        has_any = torch.from_numpy(np.diff(weights.indptr) > 0)
        matrix[new] = torch.where(has_any[:, None], mixed, mean)
    return matrix.to(old.dtype)
