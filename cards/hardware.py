"""What the machine is good at."""

import torch


def has_native_bf16() -> bool:
    """Whether bf16 is faster than fp32 here: on a GPU, or on a CPU with instructions for it; else it is emulated."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
