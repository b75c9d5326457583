"""A direction of FLORES through lm-eval: its prompt, its answers, and the score and resamples that the stage keeps."""

import datasets
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from nemo_plugins.evaluation import harness
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.long  # imports lm-eval and transformers

SENTENCES = {
    "pol_Latn": ["Ala ma kota i psa.", "Wczoraj padał deszcz.", "Kot śpi na piecu."],
    "ces_Latn": ["Ala má kočku a psa.", "Včera pršelo celý den.", "Kočka spí na peci."],
}
ANSWERS = ["Ala má kočku a kota.", "Včera pršelo celý den.", "Pes nespí."]


def translator():
    """A model that gives the answers in turn."""
    from lm_eval.api.model import LM

    class Model(LM):
        def __init__(self):
            super().__init__()
            self.asked: list[str] = []

        def generate_until(self, requests, disable_tqdm=False):
            self.asked += [request.args[0] for request in requests]
            return [f" {ANSWERS[request.doc_id]}" for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    return Model()


def test_a_direction_is_asked_in_the_prompt_of_lm_evals_own_and_scored_as_sacrebleu_does(monkeypatch):
    def load_dataset(path: str, code: str, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"id": [1, 2, 3], "sentence": SENTENCES[code]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    cfg = compose(["+model=tiny_pl", "eval=paper", "eval.resamples=100", "platform=cpu"])
    task = cfg.eval.tasks["flores_pol_ces"]
    task.num_fewshot = 1
    model = translator()
    said = harness.run(cfg, model, harness.load(cfg, "flores_pol_ces", task))
    assert model.asked[0].endswith("\nCzech sentence:") and model.asked[0].count("Polish sentence: ") == 2
    assert f"Polish sentence: {SENTENCES['pol_Latn'][0]}\n" in model.asked[0]
    assert said.score == pytest.approx(BLEU().corpus_score(ANSWERS, [SENTENCES["ces_Latn"]]).score)
    assert len(said.resampled) == 100 and np.std(said.resampled) > 0 and len(said.samples) == 3
