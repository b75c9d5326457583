"""A space in which tokens that are used and written alike lie close: from a text, without training, the same every time.

FOCUS (arXiv 2305.14481) finds the old tokens that a new one resembles in fastText embeddings of the target language. Those want
a package that is no longer maintained and threads whose races change the result. What fastText's skip-gram with character
n-grams approximates can be had in closed form: positive pointwise mutual information with the neighbours (Levy and Goldberg,
NeurIPS 2014; smoothing 0.75 of the contexts, TACL 2015) beside the token's character n-grams, and the largest singular vectors
of both. A token that the text does not have still has its characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy import sparse

DIMENSIONS = 128  # own choice: 300, as FOCUS has, cost more than twice the time and the model started no better
WINDOW = 5  # neighbours on each side, as fastText's; the weight of one falls with its distance
SMOOTHING = 0.75
NGRAMS = range(2, 6)  # lengths; fastText has 3 to 6 of whole words, tokens are shorter
SPELLING = 0.5  # weight of how a token is written beside how it is used; own choice, docs/tokenizers.md
CHUNK = 1 << 20  # tokens of text counted at once


def build(texts: list[str | None], ids: Iterable[list[int]], seed: int = 0) -> np.ndarray:
    """Unit vectors of the tokens, [v, d]; zeros for one that has neither neighbours nor characters.

    Args:
        texts: what each token stands for, by id; None for one that takes no part.
        ids: of the documents of a text, without special tokens.
    """
    features = sparse.hstack([_unit(_neighbours(len(texts), ids)), SPELLING * _unit(_spelling(texts))], format="csr")
    return _reduced(features, min(DIMENSIONS, min(features.shape) - 1), seed)


def _neighbours(size: int, ids: Iterable[list[int]]) -> sparse.csr_matrix:
    """Positive pointwise mutual information of each token with those before and after it, [v, 2 v]."""
    counts = sparse.csr_matrix((size, size), dtype=np.float32)
    for run in _runs(ids):
        for distance in range(1, WINDOW + 1):
            first, second = run[:-distance], run[distance:]
            inside = (first >= 0) & (second >= 0)
            weight = np.full(int(inside.sum()), 1 / distance, dtype=np.float32)
            counts = counts + sparse.coo_matrix((weight, (first[inside], second[inside])), shape=(size, size)).tocsr()
    both = sparse.hstack([counts, counts.T], format="coo")  # after it, before it
    if not both.nnz:
        return both.tocsr()
    of_token = np.asarray(both.sum(1)).ravel()
    of_context = np.asarray(both.sum(0)).ravel() ** SMOOTHING
    information = np.log(both.data) - np.log(of_token[both.row]) - np.log(of_context[both.col] / of_context.sum())
    kept = information > 0
    return sparse.csr_matrix((information[kept], (both.row[kept], both.col[kept])), shape=both.shape)


def _runs(ids: Iterable[list[int]]) -> Iterable[np.ndarray]:
    """Documents one after the other in arrays of about `CHUNK`, with gaps of -1 that no window spans."""
    gap, held, length = [-1] * WINDOW, [], 0
    for document in ids:
        held += [np.array(document, dtype=np.int64), np.array(gap, dtype=np.int64)]
        length += len(document)
        if length >= CHUNK:
            yield np.concatenate(held)
            held, length = [], 0
    if held:
        yield np.concatenate(held)


def _spelling(texts: list[str | None]) -> sparse.csr_matrix:
    """Character n-grams of each token, its ends marked, by how rare they are; those of one token only left out, [v, n]."""
    of_token = [set() if text is None else _ngrams(text) for text in texts]
    counts = Counter(ngram for ngrams in of_token for ngram in ngrams)
    column = {ngram: number for number, ngram in enumerate(sorted(ngram for ngram, times in counts.items() if times > 1))}
    rows = [(row, ngram) for row, ngrams in enumerate(of_token) for ngram in sorted(ngrams) if ngram in column]
    weights = [np.log(len(texts) / counts[ngram]) for _, ngram in rows]
    places = ([row for row, _ in rows], [column[ngram] for _, ngram in rows])
    return sparse.csr_matrix((weights, places), shape=(len(texts), max(1, len(column))))


def _ngrams(text: str) -> set[str]:
    marked = f"\x02{text}\x03"
    return {marked[start : start + length] for length in NGRAMS for start in range(len(marked) - length + 1)}


def _unit(matrix):
    """Rows at length 1; a row of zeros stays."""
    if sparse.issparse(matrix):
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
        return sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ matrix
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(lengths > 1e-6, lengths, np.inf)


def _reduced(features: sparse.csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.utils.extmath import randomized_svd

    left, values, _ = randomized_svd(features, dimensions, n_iter=2, random_state=seed)
    return _unit(left * np.sqrt(values)).astype(np.float32)
