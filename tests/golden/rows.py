"""The tiny models: one row a model, with the options that set it apart from its neighbours."""

from bases import GPT2, LLAMA, LLAMA3_ROPE, Tiny
from rows_dense import DENSE
from rows_earlier import EARLIER
from rows_experts import EXPERTS

TINY = [
    Tiny("gpt2", "gpt2", GPT2 | {"n_inner": 40}, thorough=True, as_on_hub=True),
    Tiny(
        "gpt2-untied",
        "gpt2",
        GPT2 | {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
    ),
    Tiny("llama-mha-untied", "llama", LLAMA | {"tie_word_embeddings": False}, shard="40KB"),
    Tiny(
        "llama-gqa-tied",
        "llama",
        LLAMA | {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
        thorough=True,
    ),
    Tiny(
        "llama-bias",
        "llama",
        LLAMA
        | {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "attention_bias": True, "mlp_bias": True}
        | {"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        config_edit={"rope_theta": 500.0, "rope_scaling": None, "torch_dtype": "float32"},
        config_drop=("rope_parameters", "dtype"),
    ),
    Tiny(
        "llama-rope3",
        "llama",
        LLAMA
        | {"vocab_size": 320, "num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
        tokenizer=True,
    ),
    *DENSE,
    *EXPERTS,
    *EARLIER,
]
