"""The sizes of a decoder-only transformer, and what follows from them: parameters, FLOPs, key-value cache.

Hugging Face's Mistral / Llama meanings under Megatron's names. RMSNorm, rotary positions; what a family has besides says
`families`.
Imports neither torch nor NeMo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from nemo_plugins.models import families, hf_config
from nemo_plugins.models.families import FAMILIES, LayerVector

if TYPE_CHECKING:
    from nemo_plugins.configs.schema import ModelConfig, SizesConfig


@dataclass(frozen=True)
class Architecture:
    """A model of one of the families.

    Sizes are counts of elements; `ffn_hidden_size` is the width between the two linear layers, `num_query_groups` the number of
    key-value heads, `vocab_size` the rows of the embedding as they are stored, `gated` whether the FFN has a gate (SwiGLU).
    """

    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_query_groups: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool = False
    gated: bool = True
    context_length: int = 32768
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    family: str = "mistral"  # of `FAMILIES`

    @property
    def query_size(self) -> int:
        """Channels of all queries of a token."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_size(self) -> int:
        """Channels of all keys of a token, and of all values."""
        return self.num_query_groups * self.head_dim

    @property
    def layer_vectors(self) -> list[tuple[LayerVector, int]]:
        """What the family's layers hold besides matrices and two norms, with their sizes."""
        return [(vector, getattr(self, vector.size)) for vector in FAMILIES[self.family].vectors]

    @property
    def layer_matrices(self) -> int:
        """Parameters of one layer that multiply: attention and FFN."""
        heads = 2 * self.query_size + 2 * self.key_size  # q and o, k and v
        ffn = (3 if self.gated else 2) * self.ffn_hidden_size
        return self.hidden_size * (heads + ffn)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: its matrices, its two norms, and the biases and further norms that its family has."""
        return self.layer_matrices + 2 * self.hidden_size + sum(size for _, size in self.layer_vectors)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of one embedding matrix, [vocab_size, hidden_size]."""
        return self.vocab_size * self.hidden_size

    def parameters(self, count: Literal["all", "paper"] = "all") -> int:
        """Number of parameters.

        Args:
            count: `all` counts what is stored (input embedding and output projection, once where they are tied); `paper`
                counts one embedding matrix, as the Bielik-Minitron paper does (arXiv 2603.11881, table of candidates).
        Raises:
            ValueError: another `count`.
        """
        if count not in ("all", "paper"):
            raise ValueError(f"count is 'all' or 'paper', got {count!r}")
        matrices = 1 if count == "paper" or self.tied_embeddings else 2
        return self.num_layers * self.layer_parameters + self.hidden_size + matrices * self.embedding_parameters

    def flops_per_token(self, seq_length: int) -> int:
        """FLOPs of one forward pass per token, on average over a causal sequence of `seq_length` tokens.

        A multiplication and an addition for every weight that multiplies the token (the input embedding is a look-up), and
        scores and weighted sum over the (seq_length + 1) / 2 positions that a token sees
        on average. Training takes three times that.
        """
        weights = self.num_layers * self.layer_matrices + self.embedding_parameters
        attention = self.num_layers * self.query_size * (seq_length + 1)
        return 2 * weights + 2 * attention

    def kv_cache_bytes(self, tokens: int, bytes_per_value: float = 2) -> int:
        """Bytes of the keys and values of `tokens` tokens in every layer."""
        return int(2 * self.num_layers * self.key_size * tokens * bytes_per_value)

    def with_sizes(self, sizes: SizesConfig | Mapping[str, Any] | None = None, **named: int | None) -> Architecture:
        """The same model with other sizes; what is None or not named stays. `head_dim` never changes."""
        given = sizes if isinstance(sizes, Mapping) else {} if sizes is None else vars(sizes)
        known = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups")
        changes = {key: given.get(key) for key in known} | named
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a summary or a table; the family is none."""
        return {key: value for key, value in asdict(self).items() if key != "family"}

    @classmethod
    def from_config(cls, model: ModelConfig) -> Architecture:
        """The architecture of a `model` group of the configuration."""
        values = {field.name: getattr(model, field.name) for field in fields(cls) if hasattr(model, field.name)}
        return cls(**values | {"family": str(model.family)})

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture that a Hugging Face `config.json` describes.

        Raises:
            ValueError: a size is missing, or a field says what is not computed here (`hf_config`).
        """
        hf_config.check(config)
        sizes = {ours: config[theirs] for ours, theirs in hf_config.SIZES.items()}
        return cls(
            **sizes,
            num_query_groups=hf_config.query_groups(config),
            head_dim=hf_config.head_dim(config),
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
            context_length=hf_config.context_length(config),
            rope_base=hf_config.rope_base(config),
            norm_eps=hf_config.norm_eps(config),
            family=families.of(config),
        )


SIZES = tuple(field.name for field in fields(Architecture) if field.default is MISSING)
