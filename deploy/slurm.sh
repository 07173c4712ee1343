#!/usr/bin/env bash
#SBATCH --job-name=ness-bench
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --output=ness-bench-%j.log

# A grid on the nodes of a SLURM job: starts a Ray cluster on them, runs the suite there, and stops the cluster.
#
#   sbatch --nodes 2 deploy/slurm.sh --methods ness,gpm --bench split_cifar100 --seeds 1,2,3,4,37
#   sbatch --nodes 1 --gpus-per-node 1 deploy/slurm.sh --bench split_cifar100 --gpus-per-cell 0.25
#
# Submit it from the checkout, with the environment active in which the suite is installed.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}"
export OMP_NUM_THREADS=1
# A token of the job's own: nobody else on these nodes gets in, and a token in the home folder, which `ray start` would
# take up and a driver would not, changes nothing.
token=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}" RAY_AUTH_TOKEN="${RAY_AUTH_TOKEN:-$token}"

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
address="$first:$port"
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

srun --nodes 1 --ntasks 1 --nodelist "$first" \
    ray start --head --block --node-ip-address "$first" --port "$port" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --include-dashboard false &
python deploy/wait_for_ray.py "$address" 1 &
wait -n # for the first to end: where Ray cannot start, so does the job
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes "$others" --ntasks "$others" --exclude "$first" \
        ray start --block --address "$address" --num-cpus "$SLURM_CPUS_PER_TASK" &
    python deploy/wait_for_ray.py "$address" "$SLURM_JOB_NUM_NODES" &
    wait -n
fi

python run_bench.py "$@" --executor ray --ray-address "$address"
