"""How many held-out exercises Hugging Face folders solve, greedily, each with its 95 % interval.

python benchmarks/exercises.py distilled=runs/…/convert-export/hf aligned=runs/…/aligned-export/hf

The exercises are those of assets/chat_samples: sums, number words, agreement, capitals, synonyms. Their facts are not in
the training files but for capitals and synonyms, which are asked for in other words. Right is what equals the answer, white
space and a full stop apart.
"""

import argparse
import gzip
import json
import math
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
HELDOUT = REPOSITORY / "assets" / "chat_samples" / "sft_heldout.jsonl.gz"
NEW_TOKENS = 24
BATCH = 64
Z = 1.959964  # of a 95 % interval


def wilson(right: int, of: int) -> tuple[float, float]:
    """Interval of a share (Wilson 1927)."""
    share, spread = right / of, Z * Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return middle - half, middle + half


def answers(folder: Path, questions: list[list[dict]]) -> list[str]:
    """Greedy answers to dialogues that end with a question."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    end, found = tokenizer.convert_tokens_to_ids("<|im_end|>"), []
    for at in range(0, len(questions), BATCH):
        texts = [
            tokenizer.apply_chat_template(q, add_generation_prompt=True, tokenize=False) for q in questions[at : at + BATCH]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            ids = model.generate(
                **batch, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=[end, tokenizer.eos_token_id],
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        found += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    models = dict(word.split("=", 1) for word in parser.parse_args().models)
    rows = [json.loads(line)["messages"] for line in gzip.decompress(HELDOUT.read_bytes()).decode().splitlines()]
    for name, folder in models.items():
        if not (Path(folder) / "config.json").is_file():
            sys.exit(f"{name}: {folder} is no Hugging Face folder")
        said = answers(Path(folder), [row[:-1] for row in rows])
        right = sum(one.strip().rstrip(".") == row[-1]["content"] for one, row in zip(said, rows, strict=True))
        low, high = wilson(right, len(rows))
        print(f"{name:<12} {right:>4}/{len(rows)}  {right / len(rows):6.1%}  ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
