"""What the test of the commands knows: names that docs use and what stands for them, commands that are only parsed, and why."""

from __future__ import annotations

# A word of a command in the docs, and what it is in the test's folder.
WORDS = {
    "/data/store": "store",
    "runs/demo/ntf-1a2b": "runs/ntf",
    "new.pkl": "weights/mine.safetensors",
    "300": "20",  # steps of training
    "600": "30",
}

# What is changed in a file that a page writes: fewer images, and swaps onto what a generator of so few steps makes are not judged.
LINES = {
    "count: 96": "count: 24",
    "min_similarity: 0.2": "min_similarity: -1",
}

# What is added to a command, so that it ends in seconds: a later option stands before an earlier one of the same name.
ONE_EPOCH = ["--preset", "demo", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1"]
CHEAPER = {
    "ntf train": ONE_EPOCH,
    "ntf build": ["--device", "cpu"],
}

# Commands whose exit code is not 0, because that is what the page shows.
EXIT_CODES: dict[str, int] = {
    "ntf plan paper": 1,  # its files are not here
    "ntf plan today": 1,
    "ntf audit faces --store /data/store": 2,  # the test's dataset is too small for a verdict, which is no pass
}

# Commands (or their beginnings) that are held against the real command line and not run, each with the reason.
PARSED = {
    "make": "makes an environment, or takes minutes: .ci/run makes these targets",
    "ntf serve": "runs until it is stopped and needs a server: tests/flows/test_server.py starts both",
    "prefect": "needs a server: tests/flows/test_server.py and tests/flows/test_refresh.py run these flows with one",
    "ntf fetch": "needs the network: tests/flows/commands/test_fetch.py runs it with a server on this machine",
    "ntf publish": "needs the Hub: tests/pipelines/export/test_publish.py runs it with a stand-in on this machine",
    "ntf leaderboard runs": "reads what `ntf evaluate` leaves: tests/flows/commands/test_detect.py runs it",
    "ntf app": "serves until it is stopped, and needs an extra: tests/flows/test_app.py opens it in a browser",
    "ntf compare": "trains nine detectors: tests/ntf_model/comparing/test_compare.py runs it on small ones",
    "ntf evaluate demo --detectors ntf,sbi --runs runs/compare": "reads what `ntf compare` leaves: tests/flows/commands/test_detect.py",
    "ntf evaluate demo --run runs/wang2020-released": "needs the authors' file: tests/ntf_model/baselines/test_detectors.py",
    "ntf train demo --detector ensemble": "reads trained detectors: tests/ntf_model/test_ensemble.py makes one of two probes",
    "ntf detect photo.png --model runs/ntf --fpr 0.05": "needs 50 validation reals: tests/flows/commands/test_detect.py has enough",
    "ntf ablate": "trains eight detectors: tests/ntf_model/ntf/test_ablation.py runs it on small ones",
    "python benchmarks/": "measures for minutes",
    "python -m pytest": "is what runs this",
    "ntf build mine.yaml --devices 0,1,2,3": "needs four GPUs: tests/pipelines/build/test_devices.py builds with two workers on the CPU",
}

# First words of lines that run nothing of this project.
NOT_OURS = {
    "git": "needs the repository's address",
    "cd": "the test has its own folder",
    "export": "sets the environment",
    "source": "the test runs in the environment already",
    "cp": "changes the checkout",
    "rm": "changes the checkout",
    "pip": "needs a package registry",
    "hf": "needs the network",
    "docker": "needs Docker",
    "accelerate": "needs several GPUs",
}
