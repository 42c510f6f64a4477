"""The servers on other I/O layers, as bench/baselines/roster.json lists them. runtimes.py and results.py import this.

Usage: roster.py FOLDER    prints the command of each server in each of its tiers, one per line; FOLDER has the programs
"""

import json
import os
import sys

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/baselines/roster.json")) as file:
    ROSTER = json.load(file)
# Names in the order of reports, and those of the servers that have tiers.
BASELINES = [one["name"] for one in ROSTER]
RUNTIMES = [one["name"] for one in ROSTER if one["tiers"]]

if __name__ == "__main__":
    for one in ROSTER:
        for flags in [f" --tier {tier}" for tier in one["tiers"]] or [""]:
            print(f"{sys.argv[1]}/baseline-{one['name']}{flags}")
