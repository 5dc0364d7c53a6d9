"""How stages are spread over processes or machines: `[engine]` of a recipe."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Kind = Literal["local", "ray", "slurm", "hf-jobs"]


class EngineConfig(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who computes shards. On equal hardware, with as many threads, it changes no byte of what comes out.

    Attributes:
        kind: `local` processes; `ray`; `slurm` or `hf-jobs`, for which the commands are printed.
        workers: processes, actors or jobs at a time.
        gpus_per_worker: 0 leaves workers on the CPU; a single local one is the command itself and takes what is there.
        cpus_per_worker: their threads, too.
        address: of a Ray cluster (`auto` or HOST:PORT; without it, Ray starts on this machine); of `hf-jobs`, the
            bucket `OWNER/NAME` that holds the plan.
    """

    kind: Kind = "local"
    workers: Annotated[int, Meta(ge=1)] = 1
    gpus_per_worker: Annotated[int, Meta(ge=0)] = 0
    cpus_per_worker: Annotated[int, Meta(ge=1)] = 1
    address: str | None = None

    @property
    def runs_here(self) -> bool:
        """Whether a stage runs while the command waits for it, so that its parts need not outlive the command."""
        return self.kind in {"local", "ray"}

    def __post_init__(self) -> None:
        """Refuses an address that has no effect, and jobs without their bucket."""
        if self.address is not None and self.kind not in {"ray", "hf-jobs"}:
            raise ValueError(f'address {self.address!r} is for kind "ray" or "hf-jobs"; leave it out for {self.kind}')
        if self.kind == "hf-jobs" and self.address is None:
            raise ValueError('kind "hf-jobs" without address; name the bucket (OWNER/NAME) that holds the plan')
