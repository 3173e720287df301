-- From which offset on commands need a gateway's MAC; null until the first ledger that checks MACs reads the partition.
alter table ledger.partitions add column macs_from bigint check (macs_from >= 0);
