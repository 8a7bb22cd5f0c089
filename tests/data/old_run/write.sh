#!/usr/bin/env bash
# Writes old_run.tar.xz with the version that is checked out in REPOSITORY: tests/data/old_run/write.sh REPOSITORY
# A teacher, a finished and evaluated run, a stopped run, a teacher cache and an ablation, on fashion scenes of 16 x 16.
# The loss has a weight of 1e-44, so that all weights stay as they were initialised and the archive compresses well;
# the statistics of batch normalisation and the state of the optimiser change with every step.
set -euo pipefail
target=$(cd "$(dirname "$0")" && pwd)/old_run.tar.xz
repository=$(cd "$1" && pwd)
export PYTHONPATH=$repository OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >run.yaml <<'YAML'
data: {name: fashion_scenes, size: 16, count: {train: 64, validation: 32, test: 32}, batch_size: 16, eval_batch_size: 16}
student: {name: wrn_10_1}
optimizer: {lr: 0.01, weight_decay: 0}
trainer: {max_epochs: 3, accelerator: cpu, precision: 32-true, enable_progress_bar: false}
loggers: {tensorboard: false}
YAML
cat >student.yaml <<'YAML'
extends: run.yaml
teacher: {checkpoint: runs/teacher, cache: disk}
objective: {cross_entropy: {weight: 1.0e-44}, soft_targets: {weight: 1.0e-44}, explanation: {weight: 1.0e-44, layer: group2}}
checkpoint: {every_n_steps: 1}
YAML
cat >ablation.yaml <<'YAML'
name: ablation
base: run.yaml
overrides: {teacher: {checkpoint: runs/teacher}, trainer: {max_epochs: 1}}
rows:
  CE: {objective: {cross_entropy: {weight: 1.0e-44}}}
  CE + KD: {objective: {cross_entropy: {weight: 1.0e-44}, soft_targets: {weight: 1.0e-44}}}
seeds: 2
metrics: [unbiased/accuracy, unbiased/agreement, unbiased/map_cosine, validation/accuracy]
baseline: CE
test_sets: {unbiased: {background: unbiased}}
executor: {processes: 1, threads: 1}
output_dir: ablations
YAML
distill() { python -c 'from distill.cli import main; main()' "$@"; }
distill train run.yaml name=teacher 'objective={cross_entropy: {weight: 1.0e-44}}' trainer.max_epochs=1
distill train student.yaml name=finished
distill evaluate runs/finished --reference runs/teacher --perturbed 4 --explained 4 --no-sanity --gallery 2 --device cpu
python - <<'PYTHON'
import os, signal
from distill.training import DistillationModule
from distill.workflows.train import make_config, train_config

step = DistillationModule.training_step

def interrupt_in_the_middle_of_an_epoch(module, *arguments):
    if module.global_step == 5:
        os.kill(os.getpid(), signal.SIGINT)
    return step(module, *arguments)

DistillationModule.training_step = interrupt_in_the_middle_of_an_epoch
try:
    train_config(make_config(["student.yaml"], {"name": "stopped"}, []))
except Exception as error:
    print(error)
PYTHON
distill ablate ablation.yaml
rm -r runs/finished/{report.html,maps.png} ablations/ablation/runs ablations/ablation/*.{html,png,svg} 2>/dev/null || true
rm -rf runs/teacher/checkpoints
rm -rf ablations/results/.locks ablations/ablation/.lock
find . -type f | sort | xargs ls -l
tar --sort=name --owner=0 --group=0 --mtime=2026-01-01 -c . | xz --lzma2=preset=9e,lc=0,lp=2,pb=2 >"$target"
ls -l "$target"
