"""Imported by EasyR1 for adapters from files, which its trainer never loads."""


def get_adapter_absolute_path(lora_path: str) -> str:
    return lora_path
