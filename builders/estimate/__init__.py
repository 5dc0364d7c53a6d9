"""What a build will cost, before it is paid for, from real calls for some of its rows; `dry_run` is the way in."""
