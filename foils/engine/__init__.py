"""Stages over shards: a plan as data, workers that make its parts, and the engines that start the workers.

config.py     what a recipe says of it
plan.py       which rows, by which stage, with which settings: `plan.json`
parts.py      a shard's part and its marker; what is done, failed and left
worker.py     makes one shard's part
folder.py     a plan that is made, finished and removed by one command
run.py        runs what is left of a plan by an engine: `local` (local.py), `ray` (cluster.py), others (commands.py)
__main__.py   `foils shard PLAN`, `foils status PLAN`
"""
