"""FLORES-200 between two languages: documents, and BLEU from sums over sentences, which a resample adds up in microseconds.

lm-eval has FLORES around Basque, Catalan, Galician, Portuguese, Spanish and African languages; the prompt here is that of its
Spanish tasks. lm-eval loads this file by its path.
"""

import datasets
from sacrebleu.metrics import BLEU

NAMES = {
    "ces_Latn": "Czech", "deu_Latn": "German", "eng_Latn": "English", "fra_Latn": "French", "pol_Latn": "Polish",
    "spa_Latn": "Spanish", "ukr_Cyrl": "Ukrainian",
}  # fmt: skip
SENTENCE = BLEU(effective_order=True)  # its counts alone are used


def documents(source: str, target: str, dataset: str = "facebook/flores", **_) -> dict[str, datasets.Dataset]:
    """Sentences of two languages side by side, in the order of their ids: `dev` to draw examples from, `devtest` to ask.

    Raises:
        ValueError: the two languages do not have the same sentences.
    """
    splits = {}
    for split in ("dev", "devtest"):
        sides = []
        for code in (source, target):
            rows = datasets.load_dataset(dataset, code, split=split)
            sides.append(dict(zip(rows["id"], rows["sentence"], strict=True)))
        texts, translations = sides
        if texts.keys() != translations.keys():
            raise ValueError(f"{dataset}: the {split} sentences of {source} and {target} have different ids")
        names = {"source_language": NAMES[source], "target_language": NAMES[target]}
        pairs = [{"id": key, "source": texts[key], "target": translations[key], **names} for key in sorted(texts)]
        splits[split] = datasets.Dataset.from_list(pairs)
    return splits


def sums(document: dict, results: list[str]) -> dict[str, list[int]]:
    """What a sentence adds to BLEU, `[10]`: n-grams that match and all, n from 1 to 4, lengths of answer and reference."""
    said = SENTENCE.sentence_score(results[0].strip(), [document["target"]])
    return {"bleu": [*said.counts, *said.totals, said.sys_len, said.ref_len]}


def bleu(sentences: list[list[int]]) -> float:
    """BLEU of sentences by their sums, 0 to 100, as `sacrebleu.corpus_bleu` has it of their texts."""
    added = [sum(column) for column in zip(*sentences, strict=True)]
    return BLEU.compute_bleu(added[:4], added[4:8], added[8], added[9], smooth_method="exp").score
