"""How a context is made, as llama.cpp wants to be told."""

from __future__ import annotations

from typing import Any

import llama_cpp

from ..hardware import ContextPlan
from .library import Abort

_KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}  # ggml_type
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type


def parameters(plan: ContextPlan, abort: Abort) -> Any:
    """The plan as llama.cpp's llama_context_params."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = plan.n_cells
    params.n_batch, params.n_ubatch = plan.n_batch, plan.n_ubatch
    params.n_seq_max = plan.n_sequences
    params.n_outputs_max = plan.n_outputs
    params.n_threads = params.n_threads_batch = plan.threads
    params.kv_unified = plan.kv_unified
    params.n_rs_seq = plan.n_rollback
    params.flash_attn_type = _FLASH_ATTENTION[plan.flash_attention]
    params.type_k, params.type_v = _KV_TYPES[plan.type_k], _KV_TYPES[plan.type_v]
    params.abort_callback, params.abort_callback_data = abort.callback, abort.data
    params.no_perf = True
    return params
