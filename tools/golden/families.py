"""The golden models: for each a config.json as published checkpoints of the family write it, and the number of tokens.
Sizes are odd on purpose."""


def model(dtype, tokens, architecture, model_type, sizes, theta, eps, **more):
    """`sizes`: vocab, hidden, intermediate, layers, heads, key-value heads."""
    vocab, hidden, intermediate, layers, heads, kv_heads = sizes
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 256,
        "rms_norm_eps": eps,
        "rope_theta": theta,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": dtype,
    }
    return config | more, tokens


PLAIN = dict(hidden_act="silu", rope_scaling=None, attention_bias=False, tie_word_embeddings=False)


def llama():
    sizes = (151, 56, 88, 2, 4, 2)
    return model("float32", 48, "LlamaForCausalLM", "llama", sizes, 10000.0, 1e-5, head_dim=20, mlp_bias=False, **PLAIN)


def llama_tied():
    # Some wavelengths are kept, some blended and some stretched.
    scaling = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    scaling["original_max_position_embeddings"] = 64
    more = PLAIN | dict(head_dim=16, mlp_bias=False, rope_scaling=scaling, tie_word_embeddings=True)
    return model("bfloat16", 80, "LlamaForCausalLM", "llama", (163, 64, 112, 2, 4, 1), 500000.0, 1e-5, **more)


def qwen2():
    # The family writes a sliding window and switches it off.
    more = dict(max_window_layers=3, sliding_window=32, use_sliding_window=False)
    more |= dict(hidden_act="silu", tie_word_embeddings=True)
    return model("bfloat16", 48, "Qwen2ForCausalLM", "qwen2", (157, 48, 104, 3, 6, 2), 1000000.0, 1e-6, **more)


QWEN3 = PLAIN | dict(sliding_window=None, use_sliding_window=False)


def qwen3():
    sizes = (167, 56, 96, 2, 4, 2)
    more = QWEN3 | dict(head_dim=24, max_window_layers=2)
    return model("bfloat16", 56, "Qwen3ForCausalLM", "qwen3", sizes, 1000000.0, 1e-6, **more)


def qwen3_moe():
    # Layer 0 is dense, layers 1 and 2 have experts.
    more = QWEN3 | dict(head_dim=16, max_window_layers=3, decoder_sparse_step=1, mlp_only_layers=[0])
    more |= dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)
    return model("bfloat16", 40, "Qwen3MoeForCausalLM", "qwen3_moe", (145, 40, 72, 3, 4, 2), 1000000.0, 1e-6, **more)


def gemma3(layers=4, pattern=3, attention_cap=None, final_cap=None):
    # With 4 layers: 0, 1 and 3 see 16 tokens and use the local theta, layer 2 sees all.
    more = dict(head_dim=16, query_pre_attn_scalar=24, hidden_activation="gelu_pytorch_tanh", attention_bias=False)
    more |= dict(rope_scaling=None, rope_local_base_freq=10000.0, sliding_window=16, sliding_window_pattern=pattern)
    more |= dict(attn_logit_softcapping=attention_cap, final_logit_softcapping=final_cap)
    more |= dict(bos_token_id=2, eos_token_id=1)
    sizes = (149, 48, 80, layers, 4, 2)
    return model("bfloat16", 72, "Gemma3ForCausalLM", "gemma3_text", sizes, 1000000.0, 1e-6, **more)


def gemma3_softcap():
    return gemma3(layers=2, pattern=2, attention_cap=2.0, final_cap=5.0)


def olmoe():
    more = PLAIN | dict(num_experts=8, num_experts_per_tok=3, norm_topk_prob=False, clip_qkv=None)
    return model("bfloat16", 40, "OlmoeForCausalLM", "olmoe", (139, 48, 40, 2, 4, 4), 10000.0, 1e-5, **more)


def bitnet():
    quantization = dict(quant_method="bitnet", linear_class="autobitlinear", quantization_mode="offline")
    more = dict(hidden_act="relu2", tie_word_embeddings=True, quantization_config=quantization)
    return model("bfloat16", 48, "BitNetForCausalLM", "bitnet", (149, 64, 108, 3, 4, 2), 500000.0, 1e-5, **more)


def bitnet_online():
    quantization = dict(quant_method="bitnet", linear_class="autobitlinear", quantization_mode="online")
    more = dict(hidden_act="silu", tie_word_embeddings=True, quantization_config=quantization)
    return model("bfloat16", 40, "BitNetForCausalLM", "bitnet", (149, 60, 100, 2, 6, 3), 500000.0, 1e-5, **more)


def llama_bitlinear():
    # No linear_class: bitlinear is the default, whose weight_scale divides.
    quantization = dict(quant_method="bitnet", modules_to_not_convert=None)
    more = PLAIN | dict(head_dim=24, mlp_bias=False, quantization_config=quantization)
    return model("bfloat16", 48, "LlamaForCausalLM", "llama", (155, 64, 92, 2, 4, 2), 1000042.0, 1e-6, **more)


FLOAT = {
    "llama": llama,
    "llama-tied": llama_tied,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma3": gemma3,
    "gemma3-softcap": gemma3_softcap,
    "olmoe": olmoe,
    "qwen3-moe": qwen3_moe,
}
BITNET = {"bitnet": bitnet, "bitnet-online": bitnet_online, "llama-bitlinear": llama_bitlinear}
