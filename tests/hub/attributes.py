"""Which files are large ones: by the rules in `.gitattributes`, by size, or because they are not text."""

from fnmatch import fnmatchcase

LARGE = 10_000_000  # bytes
SUFFIXES = (
    "7z arrow avro bin bz2 ckpt ftz gguf gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb pickle "
    "pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst flac mp3 ogg wav gif png tiff jpg jpeg webp mp4 webm"
)
RULE = "{} filter=lfs diff=lfs merge=lfs -text"
DEFAULT = "".join(RULE.format(f"*.{suffix}") + "\n" for suffix in SUFFIXES.split()).encode()


def lfs_patterns(gitattributes: bytes) -> list[str]:
    lines = (line.split() for line in gitattributes.decode(errors="replace").splitlines())
    return [words[0].replace("[[:space:]]", " ") for words in lines if "filter=lfs" in words]


def name(path: str) -> str:
    return path.rpartition("/")[2]


def matches(path: str, pattern: str) -> bool:
    """Whether a git pattern covers a path; one without a slash looks at the file's name alone."""
    if "/" not in pattern.strip("/"):
        return fnmatchcase(name(path), pattern.strip("/"))
    return fnmatchcase(path, pattern.lstrip("/").replace("**/", "*"))


def is_large(path: str, size: int, sample: bytes, patterns: list[str]) -> bool:
    """Whether a file is stored apart from git. Empty ones never are."""
    if size == 0 or name(path) in (".gitattributes", ".gitignore"):
        return False
    return size > LARGE or b"\0" in sample or any(matches(path, pattern) for pattern in patterns)


def with_rules(gitattributes: bytes, paths: list[str]) -> bytes:
    """`.gitattributes` with a rule for each large file that no rule covers yet, as the Hub adds them."""
    patterns = lfs_patterns(gitattributes)
    have = set(gitattributes.decode(errors="replace").splitlines())
    missing = [path for path in paths if not any(matches(path, pattern) for pattern in patterns)]
    rules = [RULE.format(path.replace(" ", "[[:space:]]")) for path in sorted(missing)]
    rules = [rule for rule in rules if rule not in have]
    if not rules:
        return gitattributes
    if gitattributes and not gitattributes.endswith(b"\n"):
        gitattributes += b"\n"
    return gitattributes + "".join(rule + "\n" for rule in rules).encode()
