"""The request that EasyR1 extends with the adapter's tensors (verl/utils/vllm_utils.py)."""

import msgspec


class LoRARequest(msgspec.Struct):
    lora_name: str
    lora_int_id: int
    lora_path: str = ""
