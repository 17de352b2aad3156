#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests/test_slurm.py: slurm_node.sh start DIR, slurm_node.sh stop DIR. Needs root and Debian's packages
# slurm-wlm and munge. `start` prints the place of its slurm.conf. It has no accounting.
set -eu
dir=$2
case $1 in
start)
  host=$(hostname)
  mkdir -p "$dir"/{spool,state,log} /run/munge /var/log/munge /var/lib/munge
  chown munge /run/munge /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
  cat >"$dir/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
NodeName=$host CPUs=$(nproc) RealMemory=$(( $(awk '/MemTotal/{print $2}' /proc/meminfo) / 1100 )) State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    runuser -u munge -- /usr/sbin/munged --force >/dev/null 2>&1
    pgrep -n munged >"$dir/munged.pid"
  fi
  export SLURM_CONF=$dir/slurm.conf
  slurmctld -f "$SLURM_CONF" >/dev/null 2>&1; sleep 2; slurmd -f "$SLURM_CONF" >/dev/null 2>&1
  for _ in $(seq 20); do sinfo -h -o %t 2>/dev/null | grep -q idle && break; sleep 1; done
  sinfo -h -o %t | grep -q idle || { tail "$dir"/log/*.log >&2; exit 1; }
  echo "$SLURM_CONF" ;;
stop) for name in slurmd slurmctld munged; do [ ! -s "$dir/$name.pid" ] || kill "$(cat "$dir/$name.pid")" 2>/dev/null || true; done ;;
esac
