"""Rehearse a publication: `python -m tests.hub` serves an empty Hub until Ctrl-C."""

import argparse
import signal
import threading

from tests.hub import Hub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A Hugging Face Hub on loopback.")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--user", default="alice", help="whose token is printed")
    parser.add_argument("--storage", help="folder for the bytes while it runs; default: the system's temporary one")
    parser.add_argument("--no-xet", action="store_true", help="offer the LFS lane only")
    args = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    token = f"hf_loopback_token_of_{args.user}"
    with Hub(args.port, xet=not args.no_xet, storage=args.storage, token=token, user=args.user) as hub:
        print("# Paste this where you publish from; what is published is gone when this process ends.")
        print(f"export HF_ENDPOINT={hub.url}")
        print(f"export HF_TOKEN={token}")
        print("export HF_HOME=$(mktemp -d)  # else files cached from the real Hub would be taken for this one's")
        if args.no_xet:
            print("export HF_HUB_DISABLE_XET=1")
        print("unset HF_HUB_OFFLINE", flush=True)
        ended.wait()
    for kind, repo_id in hub.repos():
        print(f"# {kind} {repo_id}: {', '.join(hub.repo(kind, repo_id).tags) or 'no tag'}")


if __name__ == "__main__":
    main()
